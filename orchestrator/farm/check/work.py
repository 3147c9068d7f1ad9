"""I5, I10: each unit's accepted lease, and that each frame is there exactly once."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence

from orchestrator.farm.check.snapshot import Snapshot
from orchestrator.model import Job, Json, Lease, Unit, indices
from orchestrator.states import RUNNABLE, JobState, LeaseState, Outcome, UnitKind, UnitState


def faults(snapshot: Snapshot) -> Iterator[str]:
    """Hold units against their leases, and jobs against their units."""
    newest: Counter[str] = Counter()
    open_per_unit: Counter[str] = Counter()
    for lease in snapshot.leases.values():
        newest[lease.unit_id] = max(newest[lease.unit_id], lease.fence)
        open_per_unit[lease.unit_id] += lease.state is LeaseState.OPEN
    by_job: defaultdict[str, list[Unit]] = defaultdict(list)
    for unit in snapshot.units:
        by_job[unit.job_id].append(unit)
        if open_per_unit[unit.id] > 1:
            yield f"I5: unit {unit.id} is leased {open_per_unit[unit.id]} times at once"
        if (unit.state is UnitState.LEASED) != bool(open_per_unit[unit.id]):
            yield f"I5: unit {unit.id} is {unit.state} and has {open_per_unit[unit.id]} open leases"
        if unit.fence != newest[unit.id]:
            yield f"I5: the fence of unit {unit.id} is not that of its newest lease"
        if unit.state is UnitState.DONE:
            accepted = snapshot.leases.get(unit.accepted_lease_id or "")
            if accepted and accepted.fence != newest[unit.id]:
                yield f"I5: unit {unit.id} was granted again after its result was accepted"
            if why := _unfit(unit, accepted):
                yield f"I5: unit {unit.id} accepted a lease that {why}"
            elif unit.kind is UnitKind.RENDER and accepted and accepted.frames_done != unit.frames:
                yield f"I10: unit {unit.id} has other frames than the lease that it accepted"
    for job in snapshot.jobs.values():
        yield from _life(job, by_job[job.id])
        yield from _frames(job, by_job[job.id])
        kept = job.deleted_at_ms is None and job.expired_at_ms is None
        if job.state is JobState.SUCCEEDED and kept:
            yield from _film(snapshot, job, by_job[job.id])


def _unfit(unit: Unit, lease: Lease | None) -> str:
    if lease is None:
        return "there is not"
    if (lease.unit_id, lease.job_id) != (unit.id, unit.job_id):
        return "is another unit's"
    if lease.state is not LeaseState.COMPLETED:
        return f"is {lease.state}"
    return f"is {lease.outcome}" if lease.outcome not in (Outcome.DONE, Outcome.STOPPED) else ""


def _life(job: Job, units: Sequence[Unit]) -> Iterator[str]:
    alive = any(unit.state in (UnitState.READY, UnitState.LEASED) for unit in units)
    if job.state in RUNNABLE and not alive:
        yield f"job {job.id} is {job.state} and has no unit that could bring it on"
    if job.state.is_terminal and any(unit.state is UnitState.READY for unit in units):
        yield f"job {job.id} is {job.state} and has a unit that may be granted"


def _frames(job: Job, units: Sequence[Unit]) -> Iterator[str]:
    frames: list[int] = []
    for unit in units:
        if unit.state is UnitState.DONE and unit.kind is UnitKind.RENDER:
            frames += indices(unit.first_frame, unit.frames, unit.stride)
    if len(frames) != len(set(frames)) or len(frames) != job.frames_done:
        yield f"I10: job {job.id} has a frame twice, or counts others than it has"
    whole = sorted(frames) == list(range(job.frames_total))
    if job.state is JobState.SUCCEEDED and not (whole or (job.truncated and frames)):
        yield f"I10: job {job.id} succeeded without some frame"
    if job.truncated and whole:
        yield f"I10: job {job.id} has all its frames and says that it was cut off"


def _film(snapshot: Snapshot, job: Job, units: Sequence[Unit]) -> Iterator[str]:
    """A video's files are those that its encode unit's accepted lease reported."""
    accepted = [
        snapshot.films.get(unit.accepted_lease_id or "", {})
        for unit in units
        if unit.kind is UnitKind.ENCODE and unit.state is UnitState.DONE
    ]
    reported = sorted(accepted[-1].values()) if accepted else []
    try:
        files: Json = dict(job.artifacts)
        shown = sorted((file["sha256"], file["bytes"]) for file in files.values())
    except (KeyError, TypeError, ValueError):  # somebody else wrote it
        shown = []
    if not shown or shown != reported:
        yield f"I10: the files of job {job.id} are not those that its encode unit brought"
