"""At the door: a job that the operator's policy refused is not written."""

from dataclasses import asdict

from orchestrator.errors import PolicyRefused, PolicyUnavailable
from orchestrator.farm import Farm
from orchestrator.model import Json, Ruling


def admitted(farm: Farm, ruling: Ruling | None) -> Json:
    """Return what a new job keeps of the ruling on its prompt.

    Raises:
        PolicyRefused: the policy said no.
        PolicyUnavailable: it said nothing, and the operator wants no job without it.
    """
    assert ruling or not farm.terms.judges_prompts, "web judges before it submits"
    if ruling is None:
        return {}
    if not ruling.allowed:
        if ruling.error:
            raise PolicyUnavailable
        raise PolicyRefused(f"The operator's policy refused this: {ruling.reason}")
    return {"prompt": asdict(ruling)}
