"""I15: the sums of usage are what the leases of their hour and day were charged and lost."""

from collections.abc import Iterable, Iterator

from orchestrator.farm.books import usage
from orchestrator.farm.check.snapshot import Snapshot
from orchestrator.model import UsageSum


def faults(snapshot: Snapshot, kept: Iterable[UsageSum]) -> Iterator[str]:
    """Add up the ended leases, and hold each sum that is kept against it."""
    due = set(usage.added_up(_of_leases(snapshot)))
    there = {each for each in kept if each.units or each.gpu_ms or each.lost_gpu_ms}
    wrong = {(each.span_ms, each.from_ms, each.session_id) for each in due ^ there}
    for span_ms, from_ms, session_id in sorted(wrong):
        name = "hour" if span_ms == usage.HOUR_MS else "day"
        yield (
            f"I15: the usage of session {session_id} in the {name} from {from_ms} is kept as "
            "something else than its leases add up to"
        )


def _of_leases(snapshot: Snapshot) -> Iterator[UsageSum]:
    for lease in snapshot.leases.values():
        if lease.resolved_at_ms is None:
            continue
        job = snapshot.jobs[lease.job_id]
        charged = 0 if job.refunded_gpu_ms else lease.settled_gpu_ms
        yield from usage.of(
            lease,
            job,
            units=int(lease.settled_gpu_ms > 0),
            gpu_ms=charged,
            lost_gpu_ms=lease.lost_gpu_ms + lease.settled_gpu_ms - charged,
        )
