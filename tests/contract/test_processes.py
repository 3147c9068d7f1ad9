"""Real processes on one budget (T3 of docs/reliability.md), on SQLite and on Postgres."""

import contextlib
import multiprocessing

import pytest

from orchestrator.errors import BudgetExceeded, Conflict
from orchestrator.farm import check, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.states import Outcome
from orchestrator.store import Store, open_store
from tests.factories import Clock, Hand, account_id, make_farm, submit

PROCESSES = 8


def _spend(url: str, worker: int, session: str) -> None:
    """Submit and work until the session is used up."""
    clock = Clock()
    farm = make_farm(open_store(url), clock)
    hand = Hand(farm, clock, f"w{worker}")
    for _ in range(6):
        with contextlib.suppress(BudgetExceeded):
            submit(farm, session=session)
        for _ in range(4):
            try:
                order = hand.claim()
                if order:
                    clock.advance(1)
                    hand.complete(order, Outcome.DONE, gpu_ms=200)
            except Conflict:
                continue
    farm.store.close()  # type: ignore[attr-defined]


@pytest.mark.slow(15)
def test_eight_processes_never_overspend_one_budget(store_url: str, store: Store) -> None:
    """Eight processes submit and work on one small session: no overspend, no lost entry."""
    farm = make_farm(store, Clock())
    sessions.create(farm, account_id=account_id(farm), name="shared", budget_gpu_ms=20_000)
    context = multiprocessing.get_context("spawn")
    crowd = [
        context.Process(target=_spend, args=(store_url, n, "shared")) for n in range(PROCESSES)
    ]
    for process in crowd:
        process.start()
    for process in crowd:
        process.join(120)
    assert [process.exitcode for process in crowd] == [0] * PROCESSES
    assert check.violations(farm) == []
    session = sessions.find(farm, account_id(farm), "shared")
    assert 0 < session.spent_gpu_ms <= session.limit_gpu_ms
    assert jobs.listing(farm, None).items
