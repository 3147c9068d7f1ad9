"""Obeying the policy's rulings: no job of a refused prompt, no refused frame."""

from typing import Final

from orchestrator.errors import PolicyRefused, PolicyUnavailable
from orchestrator.farm.kernel import Farm
from orchestrator.model import Job, Ruling
from orchestrator.states import JobState

FRAMES: Final = "frames"


def admitted(farm: Farm, ruling: Ruling | None) -> dict[str, Ruling]:
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
    return {"prompt": ruling}


def shows_frames(farm: Farm, job: Job) -> bool:
    """Tell whether anybody may see a job's frames: not before they were judged.

    A video that was published before there was a judge stays public.
    """
    if ruling := job.rulings.get(FRAMES):
        return ruling.allowed
    return job.state is JobState.SUCCEEDED or not farm.terms.judges_frames
