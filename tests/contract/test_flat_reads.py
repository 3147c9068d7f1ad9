"""Reads of pages, workers and the dispatcher cost what they show, not what there ever was.

Every statement that the verbs below send is explained by the database. None of them may go through
all units, jobs, leases or entries: of those there are more each day.
"""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest
from sqlalchemy import Connection, event

from orchestrator.errors import BudgetExceeded, NotFound
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.books import calibration, economics
from orchestrator.farm.jobs import deleting, waiting
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.farm.leases import fleet, reconcile, worker_calls
from orchestrator.model import Alert
from orchestrator.states import AlertAction, JobState, OnExhausted
from orchestrator.store import Store
from tests.factories import Clock, Hand, account_id, brief, submit

HISTORY: Final = ("units", "jobs", "leases", "entries")
OF_OPEN_ROWS: Final = frozenset(
    {
        *("ix_units_ready", "ix_units_ring", "ix_jobs_open"),
        *("ix_leases_open", "ix_leases_open_worker", "ux_leases_open_unit"),
    }
)
"""Indexes that an ended row is not in: all of one may be read."""
SCAN: Final = re.compile(rf"SCAN ({'|'.join(HISTORY)})\b(?:.* INDEX (\w+))?")
SORT: Final = "USE TEMP B-TREE FOR ORDER BY"


class Heard(dict[str, Any]):
    """The statements that were sent, each once, with the parameters of one time."""


@contextmanager
def heard(store: Store) -> Iterator[Heard]:
    """Listen to what is sent to the database, but for what only adds rows."""
    found = Heard()

    def listen(_: Connection, __: Any, sent: str, given: Any, ___: Any, many: bool) -> None:
        if sent.lstrip().startswith(("SELECT", "UPDATE", "DELETE", "WITH")):
            found[sent] = given[0] if many else given

    event.listen(store.engine, "before_cursor_execute", listen)
    try:
        yield found
    finally:
        event.remove(store.engine, "before_cursor_execute", listen)


def whole_reads(store: Store, sent: Heard) -> list[str]:
    """Return the statements that go through all rows of history, each with the plan's line."""
    explained = _by_sqlite if store.engine.dialect.name == "sqlite" else _by_postgres
    with store.engine.connect() as connection:
        return [
            f"{line}: {statement}"
            for statement, given in sent.items()
            for line in explained(connection, statement, given)
        ]


def _by_sqlite(connection: Connection, statement: str, given: Any) -> Iterator[str]:
    rows = connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
    lines = [row.detail for row in rows]
    ordered = "LIMIT" in statement and not any(SORT in line for line in lines)
    for line in lines:
        scan = SCAN.match(line)
        if scan and scan[2] not in OF_OPEN_ROWS and not (ordered and scan[2]):
            yield line


def _by_postgres(connection: Connection, statement: str, given: Any) -> Iterator[str]:
    # So few rows it would rather read all of: it may only where no index says what is asked.
    connection.exec_driver_sql("SET enable_seqscan = off")
    told = connection.exec_driver_sql(f"EXPLAIN (FORMAT JSON) {statement}", given).scalar()
    (plan,) = json.loads(told) if isinstance(told, str) else told
    yield from _whole(plan["Plan"], bounded=False)


def _whole(node: dict[str, Any], *, bounded: bool) -> Iterator[str]:
    kind, of, by = node["Node Type"], node.get("Relation Name"), node.get("Index Name")
    if of in HISTORY and kind == "Seq Scan":
        yield f"{kind} on {of}"
    history = any((by or "").startswith((f"ix_{name}_", f"pk_{name}")) for name in HISTORY)
    if history and by not in OF_OPEN_ROWS and "Index Cond" not in node and not bounded:
        yield f"{kind} using all of {by}"
    bounded = kind == "Limit" or (bounded and kind != "Sort")
    for below in node.get("Plans", ()):
        yield from _whole(below, bounded=bounded)


@pytest.fixture
def busy(farm: Farm, clock: Clock) -> Hand:
    """A worker with an open lease, on a farm with ended, paused and waiting jobs."""
    hand = Hand(farm, clock)
    submit(farm)
    hand.work_off()
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=5_000)
    submit(farm, brief(on_exhausted=OnExhausted.PAUSE), session="small")
    jobs.pause(farm, None, submit(farm).id)
    submit(farm)
    assert hand.claim()
    return hand


def test_endpoints_of_operators_read_no_history(farm: Farm, store: Store, busy: Hand) -> None:
    """/metrics, /queues, /usage by everything, the economics and the calibration."""
    mine = account_id(farm)
    with heard(store) as sent:
        assert fleet.queues(farm)
        for by in ("user", "session", "model", "worker", "stage"):
            assert fleet.usage(farm, None, by, farm.clock() - 90_000_000)
            assert fleet.usage(farm, mine, by, farm.clock() - 90_000_000)
        for way in economics.BY:
            economics.economics(farm, way, 0)
        calibration.calibration(farm)
        fleet.workers(farm)
    assert len(sent) > 15
    assert whole_reads(store, sent) == []


def test_lists_of_jobs_read_what_they_show(farm: Farm, store: Store, busy: Hand) -> None:
    """Each way to look through the jobs: all, an account's, a session's, those in a state."""
    mine = account_id(farm)
    home = sessions.find(farm, mine, None).id
    with heard(store) as sent:
        for owner in (None, mine):
            for session in (None, home):
                for state in (None, *JobState):
                    by = JobsWanted(session_id=session, state=state)
                    jobs.listing(farm, owner, limit=5, after="job_z", wanted=by)
                    jobs.listing(farm, owner, limit=5, after="job_z", wanted=by, oldest_first=True)
                    jobs.listing(farm, owner, limit=5, wanted=by)
    assert whole_reads(store, sent) == []
    if store.engine.dialect.name == "sqlite":
        assert _sorted(store, sent) == []


def _sorted(store: Store, sent: Heard) -> list[str]:
    """Return the statements that read more than they show, to sort it."""
    with store.engine.connect() as connection:
        return [
            statement
            for statement, given in sent.items()
            for row in connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", given)
            if SORT in row.detail
        ]


def test_a_job_s_page_reads_no_history(farm: Farm, store: Store, busy: Hand) -> None:
    """Its wait, its units and events, and its owner's verbs."""
    mine, all_jobs = account_id(farm), jobs.listing(farm, None).items
    with heard(store) as sent:
        for job in all_jobs:
            waiting.reason(farm, job)
            jobs.units(farm, mine, job.id)
            jobs.events(farm, (job.id,), after=0)
        waiting.queued(farm, all_jobs)
        waiting.reasons(farm, [job.id for job in all_jobs])
        jobs.newer_events(farm, {job.id: 0 for job in all_jobs}, limit=9)
        jobs.still_open(farm, [job.id for job in all_jobs])
        jobs.last_event_id(farm)
        ended = next(job for job in all_jobs if job.state.is_terminal)
        paused = next(job for job in all_jobs if job.state is JobState.PAUSED)
        jobs.resume(farm, mine, paused.id)
        jobs.cancel(farm, mine, paused.id)
        deleting.delete(farm, mine, ended.id)
        with pytest.raises(NotFound):
            deleting.delete(farm, mine, ended.id)
    assert whole_reads(store, sent) == []


def test_a_submission_and_its_refusals_read_no_history(
    farm: Farm, store: Store, busy: Hand
) -> None:
    """A quote, a job, one that does not fit its session or its month, and a top-up."""
    mine = account_id(farm)
    with heard(store) as sent:
        jobs.estimate(farm, account_id=mine, session_id=None, brief=brief())
        submit(farm)
        with pytest.raises(BudgetExceeded):
            submit(farm, brief(seconds=20.0), session="small")
        small = sessions.find(farm, mine, "small")
        sessions.top_up(farm, mine, small.id, 100)
        sessions.set_alerts(farm, mine, small.id, (Alert(10, AlertAction.PAUSE_NEW),))
        studio = farm.plans.named("studio")
        month = {**farm.plans.plans, "studio": replace(studio, month_gpu_ms=3_000)}
        poor = replace(farm, plans=type(farm.plans)(month))
        accounts.set_plan(poor, mine, "free")
        accounts.set_plan(poor, mine, "studio")
        with pytest.raises(BudgetExceeded):
            submit(poor, brief(seconds=20.0))
    assert whole_reads(store, sent) == []


def test_a_worker_s_calls_read_no_history(
    farm: Farm, store: Store, clock: Clock, busy: Hand
) -> None:
    """hello, claims with and without work, heartbeats, results, releases and files."""
    other = Hand(farm, clock, name="other")
    with heard(store) as sent:
        order = busy.claim()
        assert order
        busy.beat(order, 1)
        with pytest.raises(NotFound):
            worker_calls.may_read(farm, busy.id, "units/unt_1/1/master.mkv")
        busy.done(order)
        again = other.claim()
        assert again
        other.release(again)
        busy.work_off()
        Hand(farm, clock, name="third").claim()
    assert len(sent) > 30
    assert whole_reads(store, sent) == []


def test_housekeeping_reads_no_history(farm: Farm, store: Store, clock: Clock, busy: Hand) -> None:
    """The dispatcher's looks of every few seconds: bells, lapsed leases, months, plans."""
    with heard(store) as sent:
        reconcile.lead(farm, "me", 5.0)
        reconcile.turn_plans(farm)
        reconcile.turn_month(farm)
        reconcile.to_ring(farm)
        clock.advance(farm.terms.lease_seconds + farm.terms.grace_seconds + 1)
        assert reconcile.reconcile(farm) == 1
        clock.advance(32 * 86_400)
        reconcile.turn_month(farm)
        reconcile.to_ring(farm)
    assert whole_reads(store, sent) == []
