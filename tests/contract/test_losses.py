"""Losses, which cannot be more than there was to lose."""

import pytest

from orchestrator.farm import Farm, check
from orchestrator.farm.books import receipts
from orchestrator.receipt import MOST_MS
from orchestrator.states import Cause, Outcome
from orchestrator.wire import Order
from tests.factories import Clock, Hand, submit


def claimed(hand: Hand) -> Order:
    """Claim an order that must be there."""
    order = hand.claim()
    assert order
    return order


@pytest.mark.parametrize("told", [10**9, MOST_MS])
def test_a_loss_is_at_most_the_time_the_farm_saw(farm: Farm, clock: Clock, told: int) -> None:
    """Whatever a worker says that it wasted, handed back or broke: the books have seen less."""
    hand, job = Hand(farm, clock), submit(farm)
    order = claimed(hand)
    hand.release(order, gpu_ms=told)
    order = claimed(hand)
    clock.advance(1)
    hand.release(order, gpu_ms=told)
    order = claimed(hand)
    clock.advance(2)
    hand.complete(order, Outcome.FAILED, cause=Cause.FARM, gpu_ms=told, load_gpu_ms=told)
    order = claimed(hand)
    clock.advance(3)
    answer = hand.complete(order, Outcome.DONE, gpu_ms=1, wasted_gpu_ms=told)
    assert (answer.settled_gpu_ms, answer.lost_gpu_ms) == (1, 2_999)
    assert receipts.receipt(farm, None, job.id)["lost_gpu_ms"] == 1_000 + 2_000 + 2_999
    assert check.violations(farm) == []
