"""I1, I2, I3, I7, I11, I12, I14: balances of sessions, jobs, months and keys are their entries'."""

from collections import Counter
from collections.abc import Iterator

from orchestrator.farm.check.snapshot import Snapshot
from orchestrator.model import Job
from orchestrator.states import FARMS_FAULT, JobState


def faults(snapshot: Snapshot) -> Iterator[str]:
    """Add up what was given, held, spent, lost and refunded."""
    if snapshot.sums["issued"] != -sum(session.limit_gpu_ms for session in snapshot.sessions):
        yield "I2: the sessions' limits are not what their entries say that they were given"
    if snapshot.sums["farm_loss"] != sum(lease.lost_gpu_ms for lease in snapshot.leases.values()):
        yield "I2: the farm lost something else than its leases say"
    for session in snapshot.sessions:
        if session.held_gpu_ms + session.spent_gpu_ms > session.limit_gpu_ms:
            yield f"I1: session {session.id} holds and spent more than its limit"
        if snapshot.sums[f"available:{session.id}"] != session.available_gpu_ms:
            yield f"I2: what session {session.id} has available is not what its entries say"
        if snapshot.sums[f"spent:{session.id}"] != session.spent_gpu_ms:
            yield f"I2: what session {session.id} spent is not what its entries say"
    held: Counter[str] = Counter()
    for job in snapshot.jobs.values():
        held[job.session_id] += job.held_gpu_ms
        yield from _job(snapshot, job)
    for session in snapshot.sessions:
        if held[session.id] != session.held_gpu_ms:
            yield f"I2: session {session.id} holds something else than its jobs together"


def _job(snapshot: Snapshot, job: Job) -> Iterator[str]:
    if snapshot.of_job[job.id] != job.spent_gpu_ms:
        yield f"I2: job {job.id} was charged something else than its entries say"
    if snapshot.sums[f"held:{job.id}"] != job.held_gpu_ms:
        yield f"I2: what job {job.id} holds is not what its entries say"
    if job.state.is_terminal and job.held_gpu_ms:
        yield f"I7: job {job.id} is {job.state} and still holds budget"
    yield from _ceiling(job)
    error: object = job.error  # as it is stored
    code = error.get("code") if isinstance(error, dict) else None
    farms = job.ran_away and job.state.is_terminal
    if farms or (job.state is JobState.FAILED and code in FARMS_FAULT):
        if job.spent_gpu_ms:
            yield f"I11: job {job.id} failed by the farm's fault and is still charged"
    elif job.refunded_gpu_ms and not job.ran_away:
        yield f"I2: job {job.id} was refunded, although the farm did not fail it"


def _ceiling(job: Job) -> Iterator[str]:
    """I16: a job is charged and holds its ceiling at most; what it ran beyond that is bounded."""
    if job.ceiling_gpu_ms is None or job.runaway_gpu_ms is None:
        if job.over_quote_gpu_ms:
            yield f"I16: job {job.id} is metered and has time over its quote"
        return
    if job.spent_gpu_ms + job.held_gpu_ms > job.ceiling_gpu_ms:
        yield f"I16: job {job.id} was charged and holds more than its ceiling"
    if job.spent_gpu_ms + job.refunded_gpu_ms + job.over_quote_gpu_ms > job.runaway_gpu_ms:
        yield f"I16: job {job.id} ran on beyond where the farm ends it"


def allowances(snapshot: Snapshot) -> Iterator[str]:
    """I14: a key's jobs hold and were charged what its allowance says, within its limit."""
    held: Counter[str | None] = Counter()
    spent: Counter[str | None] = Counter()
    for job in snapshot.jobs.values():
        held[job.allowance_id] += job.held_gpu_ms
        spent[job.allowance_id] += snapshot.of_job[job.id]
    for allowance in snapshot.allowances:
        if held[allowance.id] + spent[allowance.id] > allowance.limit_gpu_ms:
            yield f"I14: key {allowance.id} holds and spent more than its allowance"
        if held[allowance.id] != allowance.held_gpu_ms:
            yield f"I14: key {allowance.id} holds something else than its jobs together"
        if spent[allowance.id] != allowance.spent_gpu_ms:
            yield f"I14: key {allowance.id} spent something else than its jobs' entries say"
    yield from _whose(snapshot)


def _whose(snapshot: Snapshot) -> Iterator[str]:
    """A job of a key counts against that key's allowance, and none against another's."""
    bound = {allowance.id for allowance in snapshot.allowances}
    for job in snapshot.jobs.values():
        if job.allowance_id != (job.key_id if job.key_id in bound else None):
            yield f"I14: job {job.id} does not count against the allowance of its key"


def months(snapshot: Snapshot) -> Iterator[str]:
    """I12: an account's month holds and spent what its jobs' entries say, within its limit."""
    held: Counter[str] = Counter()
    for job in snapshot.jobs.values():
        held[job.month_id] += job.held_gpu_ms
    for month in snapshot.months:
        used = month.held_gpu_ms + month.spent_gpu_ms
        if month.limit_gpu_ms is not None and used > month.limit_gpu_ms:
            yield f"I12: month {month.id} holds and spent more than its limit"
        if month.limit_gpu_ms not in (month.cap_gpu_ms, used):
            yield f"I12: month {month.id} has a limit that is neither its cap nor what it used"
        if month.held_gpu_ms != held[month.id]:
            yield f"I12: month {month.id} holds something else than its jobs together"
        if month.spent_gpu_ms != snapshot.of_month[month.id]:
            yield f"I12: month {month.id} spent something else than its entries say"
