"""The order of service, as SQL answers it: every question is one look into an index, made once."""

from collections import defaultdict
from collections.abc import Collection, Sequence
from typing import Final

from sqlalchemy import (
    BindParameter,
    ColumnElement,
    Connection,
    bindparam,
    func,
    literal_column,
    select,
    update,
)

from orchestrator.model import Json, Lease, Session, Unit
from orchestrator.states import RUNNABLE, Lane, LeaseState, UnitState, WorkerState
from orchestrator.store import tables
from orchestrator.store.statements import (
    LAPSED_LEASES,
    READY,
    READY_UNITS,
    UNRUNG_UNITS,
    Query,
    literal,
)
from orchestrator.store.tables import jobs, leases, months, sessions, units

_NEWEST: Final = 64
"""Leases looked at for the virtual time of one model."""

HOLDS: Final = sessions.c.held_gpu_ms > literal_column("0")
"""As the indexes of those who hold something say it."""
_WITH_WORK: Final = (
    select(sessions)
    .where(HOLDS, READY.where(units.c.session_id == sessions.c.id).exists())
    .limit(bindparam("limit"))
)
_BY_VIRTUAL_TIME: Final = _WITH_WORK.order_by(sessions.c.virtual_us, sessions.c.id)
_OF_PLAN: Final = _BY_VIRTUAL_TIME.where(sessions.c.plan == bindparam("plan"))
_BY_WAIT: Final = _WITH_WORK.where(sessions.c.waits_from_ms < bindparam("before_ms")).order_by(
    sessions.c.waits_from_ms, sessions.c.id
)

_AT_WORK: Final = select(jobs.c.id).where(jobs.c.state.in_(RUNNABLE), jobs.c.id != bindparam("but"))
_IS_AT_WORK: Final = select(_AT_WORK.where(jobs.c.session_id == bindparam("session_id")).exists())
_LOWEST: Final = select(func.min(sessions.c.virtual_us)).where(
    HOLDS, _AT_WORK.where(jobs.c.session_id == sessions.c.id).exists()
)
_HIGHEST: Final = select(func.max(sessions.c.virtual_us))
_NEWEST_LEASES: Final = select(leases.c.id).order_by(leases.c.id.desc()).limit(_NEWEST)
_NEWEST_GRANTED: Final = (
    select(leases.c.virtual_us)
    .join(jobs, jobs.c.id == leases.c.job_id)
    .where(
        leases.c.id.in_(_NEWEST_LEASES.scalar_subquery()),
        leases.c.lane == Lane.WEIGHT,
        jobs.c.model == bindparam("model"),
    )
    .order_by(leases.c.id.desc())
    .limit(1)
)
_IN_LINE: Final = (
    select(
        sessions.c.id.label("session_id"),
        sessions.c.virtual_us,
        sessions.c.plan,
        jobs.c.id.label("job_id"),
        jobs.c.model,
        jobs.c.held_gpu_ms,
        jobs.c.parsed,
        jobs.c.truncated,
        jobs.c.encode_reserve_gpu_ms,
        jobs.c.quote["p50_gpu_ms"].as_integer().label("p50_gpu_ms"),
        func.coalesce(jobs.c.ceiling_gpu_ms, jobs.c.quote["p90_gpu_ms"].as_integer()).label(
            "most_gpu_ms"
        ),
    )
    .join(jobs, jobs.c.session_id == sessions.c.id)
    .join(months, months.c.id == jobs.c.month_id)
    .where(
        HOLDS,
        jobs.c.finished_at_ms.is_(None),  # says no more, and is what an index has
        jobs.c.state.in_(RUNNABLE),
        jobs.c.intent.is_(None),
        months.c.plan != "",
    )
    .order_by(sessions.c.id, jobs.c.created_at_ms, jobs.c.id)
)
_BUSY: Final = select(leases.c.worker_id).where(leases.c.state == literal(LeaseState.OPEN))
_IN_HAND: Final = (
    select(
        leases.c.worker_id,
        leases.c.granted_at_ms,
        units.c.p50_gpu_ms,
        leases.c.steps_done,
        units.c.frames,
        jobs.c.steps,
        jobs.c.render_plan["micro_batch"].as_integer().label("micro_batch"),
    )
    .join(units, units.c.id == leases.c.unit_id)
    .join(jobs, jobs.c.id == leases.c.job_id)
    .where(leases.c.state == literal(LeaseState.OPEN))
)
# No column of an index: else SQLite goes through all units there ever were, in its order.
_OF_JOB: Final[ColumnElement[str]] = literal_column("units.job_id || ''")
_READY_WORK: Final = (
    select(_OF_JOB, func.sum(units.c.p50_gpu_ms))
    .where(units.c.state == literal(UnitState.READY))
    .group_by(_OF_JOB)
)

_READY_DEPTHS: Final = (
    select(units.c.queue, func.count())
    .where(units.c.state == literal(UnitState.READY))
    .group_by(units.c.queue)
)
# By their leases, which an index has: a unit is leased as long as one of them is open.
_LEASED_DEPTHS: Final = (
    select(units.c.queue, func.count())
    .join(leases, leases.c.unit_id == units.c.id)
    .where(leases.c.state == literal(LeaseState.OPEN))
    .group_by(units.c.queue)
)

_AMONG: Final[BindParameter[str]] = bindparam("ids", expanding=True)
_OPEN_JOBS: Final = select(jobs.c.id).where(
    jobs.c.id.in_(_AMONG), jobs.c.finished_at_ms.is_(None), jobs.c.deleted_at_ms.is_(None)
)
_LEASED_JOBS: Final = (
    select(leases.c.job_id)
    .where(leases.c.job_id.in_(_AMONG), leases.c.state == literal(LeaseState.OPEN))
    .distinct()
)
_READY_QUEUES: Final = (
    select(units.c.job_id, func.min(units.c.queue))
    .where(units.c.job_id.in_(_AMONG), units.c.state == literal(UnitState.READY))
    .group_by(units.c.job_id)
)


class Turns:
    """Questions about who works and waits, and who is next."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def is_at_work(self, session_id: str, *, but: str) -> bool:
        """Tell whether a session has a job that may run, beside this one."""
        asked = {"session_id": session_id, "but": but}
        return bool(self.connection.scalar(_IS_AT_WORK, asked))

    def current_virtual_us(self, *, but: str, model: str) -> int:
        """Return the virtual time of a model's devices, for who has no work beside this job.

        While somebody works, it is that of whoever was granted the newest of their units;
        before the first grant the lowest there is. While nobody does, it is the highest there
        ever was: all that was done counts alike.
        """
        lowest: int | None = self.connection.scalar(_LOWEST, {"but": but})
        if lowest is None:
            return self.connection.scalar(_HIGHEST) or 0
        return max(lowest, self.connection.scalar(_NEWEST_GRANTED, {"model": model}) or 0)

    def sessions_with_work(self, queues: Sequence[str], limit: int) -> list[Session]:
        """Return sessions with a grantable unit, the one furthest behind its share first."""
        return self._sessions(_BY_VIRTUAL_TIME, queues=queues, limit=limit)

    def sessions_of_plan(self, plan: str, queues: Sequence[str], limit: int) -> list[Session]:
        """Return those of one plan, the one furthest behind its share first."""
        return self._sessions(_OF_PLAN, plan=plan, queues=queues, limit=limit)

    def sessions_waiting(self, before_ms: int, queues: Sequence[str], limit: int) -> list[Session]:
        """Return those that have waited since before this moment, the longest first."""
        return self._sessions(_BY_WAIT, before_ms=before_ms, queues=queues, limit=limit)

    def jobs_in_line(self) -> list[Json]:
        """Return every job that may run with its session's turn, by session, oldest first."""
        return [dict(row._mapping) for row in self.connection.execute(_IN_LINE)]

    def busy_workers(self) -> frozenset[str]:
        """Return the workers that have an open lease."""
        return frozenset(self.connection.scalars(_BUSY))

    def work_in_hand(self) -> list[Json]:
        """Return every open lease: its worker and grant, what it should take and what it made."""
        return [dict(row._mapping) for row in self.connection.execute(_IN_HAND)]

    def ready_work(self) -> dict[str, int]:
        """Return what the ready units of each job should take, in GPU-ms."""
        return {row[0]: int(row[1]) for row in self.connection.execute(_READY_WORK)}

    def ready_units(self, session_id: str, queues: Sequence[str], limit: int) -> list[Unit]:
        """Return a session's grantable units: of jobs that may run, oldest first."""
        asked = {"session_id": session_id, "queues": queues, "limit": limit}
        return [Unit(**row._mapping) for row in self.connection.execute(READY_UNITS, asked)]

    def unrung_units(self, queue: str, before_ms: int, limit: int) -> list[Unit]:
        """Return grantable units of a queue that nobody was rung for since `before_ms`."""
        asked = {"queues": [queue], "before_ms": before_ms, "limit": limit}
        return [Unit(**row._mapping) for row in self.connection.execute(UNRUNG_UNITS, asked)]

    def mark_rung(self, unit_ids: Sequence[str], at_ms: int) -> None:
        """Note that a device was rung for these units."""
        query = update(tables.units).where(tables.units.c.id.in_(unit_ids))
        self.connection.execute(query.values(rung_at_ms=at_ms))

    def lapsed_leases(self, before_ms: int) -> list[Lease]:
        """Return open leases that expired before this moment."""
        rows = self.connection.execute(LAPSED_LEASES, {"before_ms": before_ms})
        return [Lease(**row._mapping) for row in rows]

    def queue_depths(self) -> list[tuple[str, str, int]]:
        """Return (queue, unit state, count) of ready and leased units."""
        found = {
            UnitState.READY: self.connection.execute(_READY_DEPTHS),
            UnitState.LEASED: self.connection.execute(_LEASED_DEPTHS),
        }
        return [(queue, state, count) for state, rows in found.items() for queue, count in rows]

    def at_work(self, model: str) -> dict[str, frozenset[str]]:
        """Return the active workers that have a model, by device class."""
        t = tables.workers
        query = select(t.c.id, t.c.device_class, t.c.models).where(t.c.state == WorkerState.ACTIVE)
        found: defaultdict[str, set[str]] = defaultdict(set)
        for worker_id, device_class, models in self.connection.execute(query):
            if model in models:
                found[device_class].add(worker_id)
        return {name: frozenset(ids) for name, ids in found.items()}

    def open_among(self, job_ids: Collection[str]) -> frozenset[str]:
        """Return those of these jobs that have neither ended nor been deleted."""
        return frozenset(self.connection.scalars(_OPEN_JOBS, {"ids": list(job_ids)}))

    def leased_among(self, job_ids: Collection[str]) -> frozenset[str]:
        """Return those of these jobs that a worker has a unit of."""
        return frozenset(self.connection.scalars(_LEASED_JOBS, {"ids": list(job_ids)}))

    def ready_queues(self, job_ids: Collection[str]) -> dict[str, str]:
        """Return a queue in which each of these jobs has a ready unit, where it has one."""
        found = self.connection.execute(_READY_QUEUES, {"ids": list(job_ids)})
        return {row[0]: row[1] for row in found}

    def _sessions(self, query: Query, **asked: object) -> list[Session]:
        return [Session(**row._mapping) for row in self.connection.execute(query, asked)]
