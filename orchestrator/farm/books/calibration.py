"""Accuracy of the quotes: of the last jobs that ended, how many came in under their p90."""

from collections import defaultdict
from typing import Final

from orchestrator.farm.kernel import Farm
from orchestrator.model import JobSample, Json
from orchestrator.money import pricing

GOAL_PERCENT: Final = (88, 92)
"""Fewer under p90 and quotes promise too much; more and they hold budget for nothing."""


def calibration(farm: Farm, newest: int = 200) -> Json:
    """Return how the newest jobs of all accounts compare with their quotes.

    Jobs that were cancelled or failed count where they had cost more than their p90 by then.
    """
    with farm.store.read() as tx:
        samples = tx.find(JobSample, order="-id", limit=newest)
    groups: defaultdict[tuple[str, str, str], list[JobSample]] = defaultdict(list)
    for one in samples:
        basis = "receipts" if one.measured else "prior"
        groups[one.model, one.device_class, basis].append(one)
    return {
        **_counted(samples),
        "goal_percent": list(GOAL_PERCENT),
        "rows": [
            {"model": model, "device_class": device, "basis": basis, **_counted(groups[key])}
            for key in sorted(groups)
            for model, device, basis in (key,)
        ],
        "note": _note(len(samples)),
    }


def _counted(samples: list[JobSample]) -> Json:
    under = sum(one.spent_gpu_ms <= one.p90_gpu_ms for one in samples)
    return {
        "jobs": len(samples),
        "under_p50": sum(one.spent_gpu_ms <= one.p50_gpu_ms for one in samples),
        "under_p90": under,
        "under_p90_percent": round(100 * under / len(samples), 1) if samples else None,
    }


def _note(jobs: int) -> str | None:
    if not jobs:
        return "No job has ended yet: the first one begins to show how good the quotes are."
    if jobs < pricing.ENOUGH_JOBS:
        return (
            f"Quotes are still learning: until {pricing.ENOUGH_JOBS} jobs of a model have ended, "
            "how far jobs lie apart is guessed in part; the first quotes rest on the pace that a "
            "worker measured, or on the model's card."
        )
    return None
