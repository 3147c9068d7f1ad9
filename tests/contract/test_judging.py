"""Workers judged by their reports: flags, and device time paid once."""

from dataclasses import replace
from typing import Any

from orchestrator.farm import Farm, check
from orchestrator.farm.leases import fleet
from orchestrator.farm.leases import worker_calls as verbs
from orchestrator.model import Worker
from orchestrator.states import Cause, Outcome, WorkerState
from orchestrator.wire import Order, ReleaseRequest
from tests.factories import Clock, Hand, brief, submit


def worker(farm: Farm, hand: Hand) -> Worker:
    """Return the row of a hand."""
    return next(row for row in fleet.workers(farm) if row.id == hand.id)


def busy(hand: Hand, seconds: int) -> Order:
    """Claim an order and beat for so many seconds."""
    order = hand.claim()
    assert order
    for second in range(seconds):
        hand.clock.advance(1)
        hand.beat(order, second, sequence=second + 1)
    return order


def report(hand: Hand, order: Order, gpu_ms: int, **told: Any) -> None:
    """Complete an order with what is told."""
    hand.complete(order, Outcome.DONE, gpu_ms=gpu_ms, **{"host_ms": {}} | told)


def test_time_that_nobody_explains_flags_a_worker(farm: Farm, clock: Clock) -> None:
    """Busy for 20 s with 10 s on its report: a flag, which its operator sees."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=8.0))
    report(hand, busy(hand, 20), 10_000)
    assert worker(farm, hand).flags == 1


def test_an_honest_worker_is_not_flagged(farm: Farm, clock: Clock) -> None:
    """Stages, load, files fetched and sent: what is left is below 5 %, or the network's."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=20.0))
    report(hand, busy(hand, 1), 5)  # the plan, with a slow network
    report(hand, busy(hand, 20), 18_500)
    load = {"load_gpu_ms": 12_000}
    report(hand, busy(hand, 20), 5_000, **load, host_ms={"fetch": 1_000, "upload": 500})
    report(hand, busy(hand, 60), 57_100)
    assert worker(farm, hand).flags == 0


def test_three_flags_quarantine_and_an_operator_admits_again(farm: Farm, clock: Clock) -> None:
    """A clean report takes no flag back; being admitted does."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=20.0))
    for _ in range(2):
        report(hand, busy(hand, 20), 100)
        report(hand, busy(hand, 1), 100)
    assert (worker(farm, hand).flags, worker(farm, hand).state) == (2, WorkerState.ACTIVE)
    report(hand, busy(hand, 20), 100)
    assert worker(farm, hand).state is WorkerState.QUARANTINED
    assert hand.claim() is None
    fleet.admit(farm, hand.id)
    assert (worker(farm, hand).flags, worker(farm, hand).state) == (0, WorkerState.ACTIVE)
    assert hand.claim()


def test_failed_and_handed_back_units_are_not_judged(farm: Farm, clock: Clock) -> None:
    """Whoever failed has no full report to give, and is paid nothing."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=20.0))
    hand.complete(busy(hand, 20), Outcome.FAILED, gpu_ms=1, cause=Cause.FARM, host_ms={})
    order = busy(hand, 20)
    verbs.release(farm, hand.id, ReleaseRequest(lease_id=order.lease_id, fence=order.fence))
    assert worker(farm, hand).flags == 0


def test_a_silent_worker_is_busy_until_it_reports(farm: Farm, clock: Clock) -> None:
    """Without a heartbeat its busy time does not end at the grant: 24 s with 0.1 s told flag it."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=20.0))
    report(hand, busy(hand, 1), 5)
    for _ in range(3):
        order = hand.claim()
        assert order
        clock.advance(24)
        report(hand, order, 100)
    assert worker(farm, hand).state is WorkerState.QUARANTINED


def test_little_lies_add_up(farm: Farm, clock: Clock) -> None:
    """1.9 s of work told as 1 ms is below what one report may hide, and not for ever."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=20.0))
    report(hand, busy(hand, 1), 1_000)
    for _ in range(6):
        order = hand.claim()
        assert order
        clock.advance(1.9)
        hand.beat(order, 1)
        report(hand, order, 1)
    assert worker(farm, hand).state is WorkerState.QUARANTINED


def test_what_honest_reports_leave_open_does_not_add_up(farm: Farm, clock: Clock) -> None:
    """A crowded machine: every unit leaves 200 ms of 5 s open, and nobody minds 5 %."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=100.0))
    report(hand, busy(hand, 1), 900)
    for _ in range(40):
        report(hand, busy(hand, 5), 4_800)
    assert (worker(farm, hand).flags, worker(farm, hand).unexplained_ms) == (0, 0)


def test_a_failure_that_is_charged_is_judged(farm: Farm, clock: Clock) -> None:
    """The request is blamed and its session pays: the worker has to say for what."""
    hand = Hand(farm, clock)
    for _ in range(3):
        submit(farm, brief(seconds=2.0))
        report(hand, busy(hand, 1), 1_000)
        told = {"gpu_ms": 200, "host_ms": {}}
        hand.complete(busy(hand, 20), Outcome.FAILED, cause=Cause.REQUEST, **told)
    assert worker(farm, hand).state is WorkerState.QUARANTINED


def test_overlapping_leases_are_not_paid_for_the_same_second(farm: Farm, clock: Clock) -> None:
    """Two leases of one device over the same 10 s are charged 10 s together."""
    hand = Hand(farm, clock)
    submit(farm, brief(seconds=20.0))
    report(hand, busy(hand, 1), 5)
    first = busy(hand, 10)
    with farm.store.write() as tx:  # as if the second had been granted with the first
        row = tx.get(Worker, hand.id, lock=True)
        assert row
        tx.save(row, replace(row, metered_to_ms=clock() - 10_000 + 6_000))
    report(hand, first, 9_000)
    assert worker(farm, hand).metered_to_ms == clock()
    assert check.violations(farm) == []
