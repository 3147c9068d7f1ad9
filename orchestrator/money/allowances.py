"""The allowance of a key: what its jobs hold and were charged counts here, too."""

from dataclasses import replace

from orchestrator.errors import BudgetExceeded
from orchestrator.model import Allowance, Job


def follow(allowance: Allowance, was: Job, now: Job) -> Allowance:
    """Move a key's allowance as a movement moved one of its jobs.

    Raises:
        BudgetExceeded: the allowance has less left than a hold would take.
    """
    more = now.held_gpu_ms - was.held_gpu_ms
    charged = now.spent_gpu_ms - was.spent_gpu_ms
    check(allowance, more + charged)
    return replace(
        allowance,
        held_gpu_ms=allowance.held_gpu_ms + more,
        spent_gpu_ms=allowance.spent_gpu_ms + charged,
    )


def check(allowance: Allowance | None, gpu_ms: int) -> None:
    """Refuse a hold that would pass a key's allowance.

    Raises:
        BudgetExceeded: it would.
    """
    if allowance is not None and gpu_ms > max(0, allowance.available_gpu_ms):
        raise BudgetExceeded(
            f"The job needs {gpu_ms / 1000:.3f} GPU-seconds held; the key that submitted it has "
            f"{allowance.available_gpu_ms / 1000:.3f} of its {allowance.limit_gpu_ms / 1000:.3f} "
            f"left ({allowance.held_gpu_ms / 1000:.3f} held, "
            f"{allowance.spent_gpu_ms / 1000:.3f} spent).",
            limit="key",
            needed_gpu_ms=gpu_ms,
            available_gpu_ms=allowance.available_gpu_ms,
        )
