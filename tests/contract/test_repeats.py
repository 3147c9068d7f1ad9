"""Requests that a client repeats without a key: one job for each one it meant."""

from concurrent.futures import ThreadPoolExecutor

from orchestrator.farm import Farm, Repeat, jobs
from orchestrator.farm.jobs import deleting
from orchestrator.farm.kernel.repeats import KEEP_MS
from orchestrator.model import Attempt
from tests.factories import Clock, account_id, brief

WINDOW_MS = 600_000


def send(farm: Farm, tries_before: int = 0, *, arrived_at_ms: int | None = None) -> str:
    """Submit the same brief as another try, and return its job's id."""
    repeat = Repeat(
        request_sha256="a" * 64,
        tries_before=tries_before,
        arrived_at_ms=farm.clock() if arrived_at_ms is None else arrived_at_ms,
        window_ms=WINDOW_MS * tries_before,
    )
    return jobs.submit(
        farm,
        account_id=account_id(farm),
        session_id=None,
        brief=brief(),
        idempotency=repeat,
    ).job.id


def test_a_second_try_is_the_first_ones_job(farm: Farm, clock: Clock) -> None:
    """However often the answer is lost, there is one job and one hold."""
    first = send(farm)
    for tries in (1, 2, 2):
        clock.advance(5)
        assert send(farm, tries) == first
    assert len(jobs.listing(farm, None).items) == 1


def test_two_first_tries_are_two_jobs(farm: Farm) -> None:
    """A client that asks for the same thing twice on purpose gets it twice."""
    assert send(farm) != send(farm)


def test_two_lost_answers_are_two_jobs(farm: Farm) -> None:
    """Second tries of two equal requests do not come back as one job, however often repeated."""
    made = {send(farm), send(farm)}
    assert {send(farm, 1), send(farm, 1)} == made
    assert {send(farm, 2), send(farm, 2)} == made
    assert len(jobs.listing(farm, None).items) == 2


def test_the_newest_answers_first(farm: Farm, clock: Clock) -> None:
    """Of an earlier request, answered long ago, and the one just lost, the lost one is meant."""
    send(farm)
    clock.advance(60)
    newest = send(farm)
    clock.advance(1)
    assert send(farm, 1) == newest


def test_a_try_that_overtook_the_first_one_is_its_job(farm: Farm, clock: Clock) -> None:
    """A first try that waited inside the farm while its second one was served makes no other."""
    arrived = farm.clock()
    clock.advance(10)
    job = send(farm, 1)
    clock.advance(1)
    assert send(farm, arrived_at_ms=arrived) == job
    assert send(farm) != job, "what arrives later was meant"


def test_a_try_after_the_window_is_a_new_request(farm: Farm, clock: Clock) -> None:
    """A request older than a client waits is another request; after a day it is forgotten."""
    first = send(farm)
    clock.advance(WINDOW_MS / 1000 + 1)
    assert send(farm, 1) != first
    clock.advance(KEEP_MS / 1000 + 1)
    send(farm)
    with farm.store.read() as tx:
        assert len(tx.find(Attempt)) == 1


def test_tries_that_meet_are_one_job(farm: Farm) -> None:
    """Whatever order a request and its repetitions come in, at once, they make one job."""
    with ThreadPoolExecutor(4) as crowd:
        made = set(crowd.map(lambda tries: send(farm, tries), (2, 0, 1, 1)))
    assert len(made) == len(jobs.listing(farm, None).items) == 1


def test_a_deleted_job_answers_no_try(farm: Farm, clock: Clock) -> None:
    """Its deleter knew its id; an equal request since then that lost its first try is new."""
    gone = send(farm)
    jobs.cancel(farm, None, gone)
    deleting.delete(farm, None, gone)
    clock.advance(1)
    made = send(farm, 1)
    assert made != gone
    assert send(farm, 2) == made
