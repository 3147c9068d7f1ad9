"""Requests that meet in the database: one gives way, is called again, and nothing is doubled."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TypeVar

import pytest

from orchestrator.errors import Conflict, Contended
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.model import Session
from tests.factories import account_id, submit
from web.threads import in_thread

T = TypeVar("T")
CROWD = 8


def _at_once(*verbs: Callable[[], T]) -> list[T | Exception]:
    """Call each in a thread of its own, all at one moment; return results and errors."""
    start = Barrier(len(verbs))

    def run(verb: Callable[[], T]) -> T | Exception:
        start.wait(10)
        try:
            return in_thread(verb)
        except Exception as error:  # noqa: BLE001 - it is what the test looks at
            return error

    with ThreadPoolExecutor(len(verbs)) as crowd:
        return list(crowd.map(run, verbs))


@pytest.mark.parametrize("names", [("one", "one"), ("one", "two")], ids=["session", "sessions"])
def test_one_key_at_once_is_one_job(farm: Farm, names: tuple[str, str]) -> None:
    """Eight equal requests at one moment, on one session or two, are one job and one hold."""
    for name in set(names):
        sessions.create(farm, account_id=account_id(farm), name=name, budget_gpu_ms=10**6)
    for turn in range(5):
        made = _at_once(
            *(
                lambda name=names[n % 2], turn=turn: submit(farm, session=name, key=f"k{turn}").id
                for n in range(CROWD)
            )
        )
        assert len(set(made)) == 1, made
    found = jobs.listing(farm, None).items
    assert len(found) == 5
    held = sum(s.held_gpu_ms for s in sessions.listing(farm, None).items)
    assert held == sum(job.held_gpu_ms for job in found)
    assert check.violations(farm) == []


def test_one_name_at_once_is_one_session(farm: Farm) -> None:
    """Of eight that open a session of one name, one does; the others are told so."""

    def create() -> Session:
        return sessions.create(farm, account_id=account_id(farm), name="new", budget_gpu_ms=1)

    made = _at_once(*[create] * CROWD)
    assert sum(isinstance(one, Session) for one in made) == 1
    assert all(isinstance(one, Session | Conflict) for one in made), made


def test_two_that_wait_for_each_other_both_end(farm: Farm) -> None:
    """A deadlock ends one transaction without a trace, and its second call succeeds."""
    pair = [
        sessions.create(farm, account_id=account_id(farm), name=name, budget_gpu_ms=1).id
        for name in "ab"
    ]
    meet, calls = Barrier(2), []

    def lock(ids: list[str]) -> str:
        calls.append(ids)
        with farm.store.write() as tx:
            tx.get(Session, ids[0], lock=True)
            if len(calls) <= len(pair) and _is_postgres(farm):
                meet.wait(10)
            tx.get(Session, ids[1], lock=True)
        return "done"

    assert _at_once(lambda: lock(pair), lambda: lock(pair[::-1])) == ["done", "done"]
    assert len(calls) == (3 if _is_postgres(farm) else 2)


def test_the_one_who_gives_way_says_so(farm: Farm) -> None:
    """Without a second call the loser of a deadlock raises Contended, not a driver's error."""
    if not _is_postgres(farm):
        pytest.skip("SQLite lets one writer in at a time")
    pair = [
        sessions.create(farm, account_id=account_id(farm), name=name, budget_gpu_ms=1).id
        for name in "ab"
    ]
    meet = Barrier(2)

    def lock(ids: list[str]) -> bool:
        try:
            with farm.store.write() as tx:
                tx.get(Session, ids[0], lock=True)
                meet.wait(10)
                tx.get(Session, ids[1], lock=True)
        except Contended:
            return False
        return True

    with ThreadPoolExecutor(2) as crowd:
        assert sorted(crowd.map(lock, [pair, pair[::-1]])) == [False, True]


def _is_postgres(farm: Farm) -> bool:
    return farm.store.engine.dialect.name == "postgresql"  # type: ignore[attr-defined,no-any-return]
