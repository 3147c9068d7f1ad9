"""Usage added up by hour and by day while leases end, so that no report reads all that ever did.

A sum is of one account, session, model, worker and kind of unit in one hour or day (UTC). It moves
in the transaction that settles, loses or refunds, under the lock of its session's row.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Final

from orchestrator.model import Job, Lease, UsageSum

HOUR_MS: Final = 3_600_000
DAY_MS: Final = 86_400_000
SPANS: Final = (HOUR_MS, DAY_MS)


def of(
    lease: Lease, job: Job, *, units: int = 0, gpu_ms: int = 0, lost_gpu_ms: int = 0
) -> Iterator[UsageSum]:
    """Yield what an ended lease adds to the sums of its hour and its day."""
    assert lease.resolved_at_ms is not None, "only an ended lease counts"
    for span_ms in SPANS:
        yield UsageSum(
            span_ms=span_ms,
            from_ms=lease.resolved_at_ms // span_ms * span_ms,
            account_id=job.account_id,
            session_id=lease.session_id,
            model=job.model,
            worker_id=lease.worker_id,
            kind=lease.kind,
            units=units,
            gpu_ms=gpu_ms,
            lost_gpu_ms=lost_gpu_ms,
        )


def added_up(parts: Iterable[UsageSum]) -> list[UsageSum]:
    """Return one sum for each hour or day of each account, session, model, worker and kind."""
    found: dict[UsageSum, UsageSum] = {}
    for part in parts:
        key = replace(part, units=0, gpu_ms=0, lost_gpu_ms=0)
        so_far = found.get(key, key)
        found[key] = replace(
            key,
            units=so_far.units + part.units,
            gpu_ms=so_far.gpu_ms + part.gpu_ms,
            lost_gpu_ms=so_far.lost_gpu_ms + part.lost_gpu_ms,
        )
    return [each for key, each in found.items() if each != key]
