"""Reasons why a job that could go on does not: the first thing in its way, and what moves it."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.errors import BudgetExceeded
from orchestrator.farm.books import alerts, months, pacing
from orchestrator.farm.jobs import shortage
from orchestrator.farm.kernel import Farm, facts
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Account, Allowance, Job, Json, Lease, Session, Unit, Worker
from orchestrator.money import ledger
from orchestrator.remedies import (
    ChangePlan,
    LiftFreeze,
    Listing,
    LookAt,
    Remedy,
    Resume,
    StartWorker,
    Watch,
)
from orchestrator.scheduling import positions, scheduler
from orchestrator.scheduling.positions import JobInLine, Line, SessionInLine
from orchestrator.states import JobState, LeaseState, PauseReason, UnitState, WorkerState
from orchestrator.wire import render_queue


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """The reason of a wait, in a word and in a sentence, and what to do about it."""

    code: str
    what: str
    remedies: tuple[Remedy, ...]
    jobs_ahead: int | None = None
    """In line for a device; None where it does not stand in line."""
    eta_ms: int | None = None
    """Until it is likely to go on; None where nobody can know: `what` says why."""


LOOKS_AGAIN: Final = 4
"""Looks before their time that newcomers are worth, until the next one is due."""
_AT_ONCE_MS: Final = 1_000
"""A job that came so shortly before a look may have come too late for it."""

_FROZEN: Final = Waiting(
    code="frozen",
    what="The operator has stopped all spending on this farm.",
    remedies=(LiftFreeze(),),
)


def reason(farm: Farm, job: Job) -> Waiting | None:
    """Return why a job waits; None while it runs, is about to stop, or has ended."""
    if job.state.is_terminal or job.intent is not None:
        return None
    with farm.store.read() as tx:
        session = tx.get(Session, job.session_id)
        assert session, "rows are never deleted"
        if job.state is JobState.PAUSED:
            return _paused(farm, tx, job, session)
        if tx.find(Lease, job_id=job.id, state=LeaseState.OPEN, limit=1):
            return None
        return _queued(farm, tx, job)


def reasons(farm: Farm, job_ids: Collection[str]) -> dict[str, Waiting | None]:
    """Return what `reason` would for each of these jobs, from one look for all of them.

    Those that have ended, or were deleted, are not in it.
    """
    with farm.store.read() as tx:
        there = tx.turns.open_among(job_ids)
        found: dict[str, Waiting | None] = dict.fromkeys(there)
        at_rest = there - tx.turns.leased_among(there)
        still = [job for job in tx.find(Job, id=tuple(at_rest)) if job.intent is None]
        paused = [job for job in still if job.state is JobState.PAUSED]
        for job in paused:
            session = tx.get(Session, job.session_id)
            assert session, "rows are never deleted"
            found[job.id] = _paused(farm, tx, job, session)
        if in_line := [job for job in still if job.state is not JobState.PAUSED]:
            found |= _all_in_line(farm, tx, in_line)
    return found


def _all_in_line(farm: Farm, tx: Transaction, jobs: Sequence[Job]) -> dict[str, Waiting]:
    """Return what jobs wait for that no worker has a unit of; nothing where none is ready."""
    if facts.is_frozen(tx):
        return {job.id: _FROZEN for job in jobs}
    stopped = _without_plan(farm, tx, jobs)
    queues = tx.turns.ready_queues([job.id for job in jobs])
    able = [job for job in jobs if job.account_id not in stopped and job.id in queues]
    found = {job.id: stopped[job.account_id] for job in jobs if job.account_id in stopped}
    if able:
        line = _look(farm, tx, able)
        found |= {job.id: _in_line(line, job, queues[job.id]) for job in able}
    return found


def _paused(farm: Farm, tx: Transaction, job: Job, session: Session) -> Waiting:
    again = (Resume(job.id), *shortage.early_finish(job))
    if job.pause_reason is not PauseReason.BUDGET:
        return Waiting(code="user", what="It was paused.", remedies=again)
    if stopped := _without_plan(farm, tx, [job]).get(job.account_id):
        return stopped
    month = months.seen(farm, tx, job.account_id, farm.clock())
    units = tx.find(Unit, job_id=job.id, state=(UnitState.READY, UnitState.LEASED))
    try:
        alerts.check_rest(farm, tx, session, month, job, units)
    except BudgetExceeded as stop:
        braked = shortage.explained(farm, tx, stop, job, session, month)
        return Waiting(code="budget", what=braked.message, remedies=braked.remedies)
    allowance = tx.get(Allowance, job.allowance_id)
    room = ledger.extendable_gpu_ms(session, job, month, allowance)
    if ledger.least_gpu_ms(job, units) - job.held_gpu_ms <= room:
        return Waiting(
            code="budget",
            what="It was paused for want of budget, and there is enough again.",
            remedies=again,
        )
    rest = pacing.rest_gpu_ms(farm, tx, job, units)
    lacking = shortage.for_rest(session, job, month, allowance, units, rest_gpu_ms=rest)
    refused = shortage.explained(farm, tx, lacking, job, session, month)
    return Waiting(code="budget", what=refused.message, remedies=refused.remedies)


def _queued(farm: Farm, tx: Transaction, job: Job) -> Waiting | None:
    if facts.is_frozen(tx):
        return _FROZEN
    if stopped := _without_plan(farm, tx, [job]).get(job.account_id):
        return stopped
    ready = tx.find(Unit, job_id=job.id, state=UnitState.READY, limit=1)
    if not ready:
        return None
    return _in_line(_look(farm, tx, [job]), job, ready[0].queue)


def queued(farm: Farm, jobs: Sequence[Job]) -> dict[str, Waiting]:
    """Return what the queued ones of a list wait for in line, by job, from one look at it."""
    waiting = [job for job in jobs if job.state is JobState.QUEUED and job.intent is None]
    if not waiting:
        return {}
    with farm.store.read() as tx:
        if facts.is_frozen(tx):
            return {job.id: _FROZEN for job in waiting}
        stopped = _without_plan(farm, tx, waiting)
        line = _look(farm, tx, [job for job in waiting if job.account_id not in stopped])
    return {
        job.id: stopped.get(job.account_id) or _in_line(line, job, render_queue(job.model))
        for job in waiting
    }


def _without_plan(farm: Farm, tx: Transaction, jobs: Sequence[Job]) -> dict[str, Waiting]:
    """Return what jobs of accounts wait for that have no plan, by account, from one look."""
    mine = tuple({job.account_id for job in jobs})
    return {
        account.id: Waiting(
            code="plan",
            what=months.no_plan(account),
            remedies=(ChangePlan(account.id),),
        )
        for account in tx.find(Account, id=mine)
        if farm.plans.get(account.plan) is None
    }


def _in_line(line: Line, job: Job, queue: str) -> Waiting:
    if not line.serving.get(queue):
        return Waiting(
            code="worker",
            what=f"No worker that is there serves {queue}.",
            remedies=(StartWorker(), LookAt(Listing.WORKERS, "See the workers there are.")),
        )
    follow = (Watch(job.id),)
    place = line.place(job.id, queue)
    if place is None:  # it has come since, with many others
        return Waiting(code="device", what="It waits for a device.", remedies=follow)
    ahead = f"{place.jobs_ahead} job{'s' if place.jobs_ahead != 1 else ''} ahead"
    return Waiting(
        code="device",
        what=f"It waits for a device: {ahead if place.jobs_ahead else 'it is next'}, "
        f"about {positions.about(place.wait_ms)}.",
        remedies=follow,
        jobs_ahead=place.jobs_ahead,
        eta_ms=place.wait_ms,
    )


def _look(farm: Farm, tx: Transaction, jobs: Sequence[Job]) -> Line:
    """Return the line as it is, or was a moment ago: every look serves all who ask meanwhile.

    Who has come since that moment is looked for anew, a few times.
    """
    now, board = farm.clock(), farm.board
    line = board.line
    if line is None or not 0 <= now - line.at_ms < farm.terms.look_ms:
        board.again = 0
    elif board.again < LOOKS_AGAIN and any(_has_come_since(line, job) for job in jobs):
        board.again += 1
    else:
        return line
    board.line = line = _line(farm, tx, now)
    return line


def _has_come_since(line: Line, job: Job) -> bool:
    return job.created_at_ms > line.at_ms - _AT_ONCE_MS and not line.has(job.id)


def _line(farm: Farm, tx: Transaction, now_ms: int) -> Line:
    serving: defaultdict[str, set[str]] = defaultdict(set)
    for worker in tx.find(Worker, state=WorkerState.ACTIVE):
        for queue in scheduler.queues_of(worker.kinds, worker.models):
            serving[queue].add(worker.id)
    jobs: defaultdict[str, list[JobInLine]] = defaultdict(list)
    sessions: dict[str, tuple[int, str]] = {}
    ready_ms = tx.turns.ready_work()
    for row in tx.turns.jobs_in_line():
        work_ms = _work_ms(row, ready_ms.get(row["job_id"], 0))
        jobs[row["session_id"]].append(JobInLine(row["job_id"], row["model"], work_ms))
        sessions[row["session_id"]] = (row["virtual_us"], row["plan"])
    parties: list[SessionInLine] = []
    for session_id, (virtual_us, name) in sessions.items():
        plan = farm.plans.get(name)
        parties.append(
            SessionInLine(
                session_id=session_id,
                virtual_us=virtual_us,
                weight=plan.weight if plan else 1,
                plan=name,
                floor=plan.floor if plan else 0.0,
                jobs=tuple(jobs[session_id]),
            )
        )
    return Line(
        at_ms=now_ms,
        parties=tuple(parties),
        serving={queue: frozenset(workers) for queue, workers in serving.items()},
        free_in_ms={row["worker_id"]: _in_hand_ms(row, now_ms) for row in tx.turns.work_in_hand()},
    )


def _work_ms(row: Json, ready_gpu_ms: int) -> int:
    """Return what a job in line has left that nobody has begun: its units as they are expected.

    Before it has any, what its hold says.
    """
    if not row["parsed"]:
        return int(row["held_gpu_ms"] * row["p50_gpu_ms"] // max(1, row["most_gpu_ms"]))
    encodes = bool(ready_gpu_ms) and not row["truncated"]
    return ready_gpu_ms + (int(row["encode_reserve_gpu_ms"]) if encodes else 0)


def _in_hand_ms(row: Json, now_ms: int) -> int:
    """Return the time until a worker is likely done with its unit: by its steps, or its p50.

    One that takes longer than expected and tells of no step has half of that to go.
    """
    gone_ms = max(0, now_ms - row["granted_at_ms"])
    steps = -(-row["frames"] // row["micro_batch"]) * row["steps"]
    if made := min(row["steps_done"], steps):
        return int(gone_ms * (steps - made) // made)
    early_ms = int(row["p50_gpu_ms"]) - gone_ms
    return early_ms if early_ms >= 0 else int(gone_ms // 2)
