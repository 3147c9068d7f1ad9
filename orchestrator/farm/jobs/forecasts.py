"""Progress of jobs, and the time until they are likely to have ended, for all who ask."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.farm.books import pacing
from orchestrator.farm.jobs.waiting import Waiting
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Job, Lease, Unit
from orchestrator.money import pace
from orchestrator.money.pricing import PRIOR_SPREAD
from orchestrator.scheduling import forecast
from orchestrator.scheduling.forecast import Ended, Left, Rest, Running
from orchestrator.states import JobState, LeaseState, UnitKind, UnitState

FRAMES_PERCENT: Final = 95
"""The frames' part of a job's way; the rest is making the video of them."""
KEPT: Final = 10_000
"""Jobs of which a process remembers what it told last."""
_OPEN_UNITS: Final = (UnitState.READY, UnitState.LEASED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast:
    """Progress of a job, and the time it has left."""

    percent: float
    """Of its way, to a tenth."""
    left_ms: int | None = None
    """None where nobody can know: it is paused, has ended, or no worker serves it."""
    left_p90_ms: int | None = None
    """In nine of ten cases it has ended by then."""


def still(job: Job) -> Forecast:
    """Return how far a job is by its frames, where nothing else of it is looked at."""
    return Forecast(percent=_percent(job, 0.0))


def of_one(farm: Farm, job: Job, waits: Waiting | None) -> Forecast:
    """Return how far a job is and when it is likely to have ended."""
    return of_all(farm, [job], {job.id: waits})[job.id]


def of_all(
    farm: Farm, jobs: Sequence[Job], waits: Mapping[str, Waiting | None]
) -> dict[str, Forecast]:
    """Return it of each of these jobs, by id. `waits`: why those that wait do."""
    found = {job.id: still(job) for job in jobs}
    running = [job for job in jobs if not job.state.is_terminal]
    if not running:
        return found
    with farm.store.read() as tx:
        for job in running:
            found[job.id] = _forecast(farm, tx, job, waits.get(job.id))
    return found


def _forecast(farm: Farm, tx: Transaction, job: Job, waits: Waiting | None) -> Forecast:
    units = {unit.id: unit for unit in tx.find(Unit, job_id=job.id, state=_OPEN_UNITS)}
    leases = tx.find(Lease, job_id=job.id, order="-id", limit=pacing.LOOKED_AT)
    at_work = [lease for lease in leases if lease.state is LeaseState.OPEN]
    percent = _percent(job, _begun_frames(job, units, at_work))
    stands = waits is not None and (waits.code != "device" or waits.eta_ms is None)
    if stands or job.state is JobState.PAUSED or job.intent is not None:
        farm.told.pop(job.id, None)
        return Forecast(percent=percent)
    wait_ms = waits.eta_ms or 0 if waits and not job.started_at_ms else 0
    rest = _rest(farm, tx, job, units, leases, wait_ms)
    now = forecast.steadied(farm.told.get(job.id), forecast.left(rest))
    _remember(farm, job, now)
    return Forecast(percent=percent, left_ms=now.p50_ms, left_p90_ms=now.p90_ms)


def _remember(farm: Farm, job: Job, now: Left) -> None:
    farm.told.pop(job.id, None)
    farm.told[job.id] = now
    while len(farm.told) > KEPT:
        farm.told.pop(next(iter(farm.told)))


def _percent(job: Job, begun_frames: float) -> float:
    """Return how far a job is: its frames, those that are begun by their steps, are 95 %."""
    if job.state is JobState.SUCCEEDED:
        return 100.0
    done = min(float(job.frames_total), job.frames_done + begun_frames)
    return round(FRAMES_PERCENT * done / max(1, job.frames_total), 1)


def _begun_frames(job: Job, units: Mapping[str, Unit], at_work: Sequence[Lease]) -> float:
    """Return what the steps that were made of unfinished units are worth, in frames."""
    plan = job.render_plan
    made = {lease.unit_id: _made(lease, job)[0] for lease in at_work}
    worth = 0.0
    for unit in units.values():
        if unit.kind is UnitKind.RENDER:
            begun = unit.checkpoint.step if unit.checkpoint else 0
            steps = begun + made.get(unit.id, 0)
            worth += min(float(unit.frames), steps * plan.micro_batch / plan.steps)
    return worth


def _made(lease: Lease, job: Job) -> tuple[int, int]:
    return pace.made(lease, job.render_plan)


def _rest(
    farm: Farm,
    tx: Transaction,
    job: Job,
    units: Mapping[str, Unit],
    leases: Sequence[Lease],
    wait_ms: int,
) -> Rest:
    plan, quote = job.render_plan, job.quote
    seen = pace.seen(quote, plan, leases)
    encode, is_known = pacing.encoding(farm, tx, job, seen)
    renders = [lease for lease in leases if lease.kind is UnitKind.RENDER]
    running = tuple(
        _running(farm, lease, units[lease.unit_id], job)
        for lease in renders
        if lease.state is LeaseState.OPEN and lease.unit_id in units
    )
    ended = tuple(_ended(lease, job) for lease in renders if lease.state is LeaseState.COMPLETED)
    ended = tuple(each for each in ended if each.steps)
    begun = bool(ended) or any(each.steps for each in running)
    return Rest(
        now_ms=farm.clock(),
        pace=seen or pace.quoted(quote),
        quoted_spread=max(PRIOR_SPREAD, quote.p90_gpu_ms / quote.p50_gpu_ms),
        ended=ended,
        running=running,
        ready=_ready(job, units.values()),
        since_ms=job.resumed_at_ms or 0,
        wait_ms=wait_ms,
        startup_ms=0 if begun else quote.startup_gpu_ms,
        plan_ms=0 if job.parsed else quote.stages[0].p50_gpu_ms,
        encode_ms=encode.p50_gpu_ms,
        encode_from_ms=_encoding_from(leases),
        encode_is_known=is_known,
    )


def _encoding_from(leases: Sequence[Lease]) -> int | None:
    """Return since when a worker makes the job's video."""
    for lease in leases:
        if lease.kind is UnitKind.ENCODE and lease.state is LeaseState.OPEN:
            return lease.granted_at_ms
    return None


def _ready(job: Job, units: Iterable[Unit]) -> tuple[tuple[int, int], ...]:
    """Return the steps and micro-batches of each render unit that nobody has, planned or quoted."""
    plan = job.render_plan
    if not job.parsed:
        counts = [-(-batch.frames // plan.micro_batch) for batch in plan.batches]
        return tuple((count * plan.steps, count) for count in counts)
    renders = [unit for unit in units if unit.kind is UnitKind.RENDER]
    return tuple(pace.left_of(unit, plan) for unit in renders if unit.state is UnitState.READY)


def _ended(lease: Lease, job: Job) -> Ended:
    steps, finishes = _made(lease, job)
    return Ended(
        from_ms=lease.granted_at_ms,
        to_ms=lease.resolved_at_ms or lease.granted_at_ms,
        steps=steps,
        finishes=finishes,
        load_ms=lease.receipt.load_gpu_ms if lease.receipt else 0,
    )


def _running(farm: Farm, lease: Lease, unit: Unit, job: Job) -> Running:
    steps, finishes = _made(lease, job)
    todo, micro_batches = pace.left_of(unit, job.render_plan)
    return Running(
        from_ms=lease.granted_at_ms,
        heard_at_ms=max(lease.granted_at_ms, lease.expires_at_ms - farm.terms.lease_ms),
        steps=steps,
        finishes=finishes,
        steps_left=max(0, todo - steps),
        finishes_left=max(0, micro_batches - finishes),
        worked_ms=lease.worked_ms,
    )
