"""Jobs, their units and their events, as their owners see them."""

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Final

from orchestrator.errors import NotFound
from orchestrator.farm.jobs.admission import shows_frames
from orchestrator.farm.kernel import Farm, Page
from orchestrator.farm.kernel.ids import first_of
from orchestrator.farm.kernel.owned import named_session, own_job, own_session
from orchestrator.farm.kernel.paging import bounded, page
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import EventWhere, JobsWanted
from orchestrator.model import Event, Job, Lease, Session, Unit

ANY: Final = JobsWanted()
CLOCKS_DIFFER_MS: Final = 3_600_000
"""Time by which an id may be ahead of its job's own: ids never go back when a clock does."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitView:
    """A unit with the lease whose result was accepted and may be seen."""

    unit: Unit
    lease: Lease | None


def get(farm: Farm, account_id: str | None, job_id: str) -> Job:
    """Return a job. `account_id` None: of any account."""
    with farm.store.read() as tx:
        return own_job(tx, account_id, job_id)


def listing(
    farm: Farm,
    account_id: str | None,
    *,
    limit: int = 50,
    after: str | None = None,
    wanted: JobsWanted = ANY,
    oldest_first: bool = False,
    names_of: str | None = None,
) -> Page[Job]:
    """Return the jobs that are wanted, newest first unless asked otherwise.

    Its session is an id or a name: the account's, or that of `names_of` where any account's are
    listed.
    """
    since, until = wanted.since_ms, wanted.until_ms
    asked = replace(
        wanted,
        account_id=account_id,
        since_id=None if since is None else first_of("job", since),
        until_id=None if until is None else first_of("job", until + CLOCKS_DIFFER_MS),
        after=after if oldest_first else None,
        before=None if oldest_first else after,
    )
    most = bounded(limit) + 1
    with farm.store.read() as tx:
        if wanted.session_id is not None:  # whose it is says its row: no list of all the account's
            session = _session(tx, account_id, names_of, wanted.session_id)
            if session is None:
                return page((), limit)
            asked = replace(asked, account_id=None, session_id=session.id)
        return page(tx.listings.jobs(asked, most, oldest_first=oldest_first), limit)


def units(farm: Farm, account_id: str | None, job_id: str) -> tuple[UnitView, ...]:
    """Return a job's units in frame order, each with its accepted lease.

    Without it while nobody may see its frames, or once they have expired: pictures are found by it.
    """
    with farm.store.read() as tx:
        job = own_job(tx, account_id, job_id)
        shown = shows_frames(farm, job) and job.expired_at_ms is None
        leases = tx.find(Lease, job_id=job_id) if shown else ()
        accepted = {lease.id: lease for lease in leases}
        return tuple(
            UnitView(unit=unit, lease=accepted.get(unit.accepted_lease_id or ""))
            for unit in tx.find(Unit, job_id=job_id, order="first_frame,id")
        )


def events(
    farm: Farm, job_ids: tuple[str, ...] | None, *, after: int, limit: int = 500
) -> tuple[Event, ...]:
    """Return events with a greater id, oldest first.

    The ids of one job never appear out of order (its transactions exclude each other); those
    of several jobs may on Postgres, so follow each job by its own cursor.
    """
    where: EventWhere = {"after": after, "limit": limit}
    if job_ids is not None:
        where["job_id"] = job_ids
    with farm.store.read() as tx:
        return tuple(tx.find(Event, **where))


def newer_events(farm: Farm, cursors: Mapping[str, int], *, limit: int) -> tuple[Event, ...]:
    """Return what happened to these jobs after each one's own cursor, oldest first, in one look."""
    with farm.store.read() as tx:
        return tuple(tx.deliveries.events_after(cursors, limit))


def still_open(farm: Farm, job_ids: Collection[str]) -> frozenset[str]:
    """Return those of these jobs that have neither ended nor been deleted."""
    with farm.store.read() as tx:
        return tx.turns.open_among(job_ids)


def last_event_id(farm: Farm) -> int:
    """Return the newest event's id."""
    with farm.store.read() as tx:
        return tx.deliveries.last_event_id()


def _session(
    tx: Transaction, account_id: str | None, names_of: str | None, name_or_id: str
) -> Session | None:
    """Return the session that a list asks for, if there is one that the account may see."""
    with suppress(NotFound):
        return own_session(tx, account_id, name_or_id)
    owner = account_id or names_of
    with suppress(NotFound):
        return named_session(tx, owner, name_or_id) if owner else None
    return None
