"""The age that a lease can reach, and the cost to the farm of its end without a result."""

from orchestrator.farm import Farm, check
from orchestrator.farm.books import receipts
from orchestrator.farm.leases import reconcile, worker_calls
from orchestrator.states import Cause, Outcome
from tests.contract.test_leases import claimed
from tests.factories import Clock, Hand, submit


def test_a_lease_has_an_oldest_age(farm: Farm, clock: Clock) -> None:
    """Beyond its limit and half an hour no heartbeat renews it: it is to stop, and then lapses."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    oldest_ms = order.gpu_ms_limit + worker_calls.AROUND_MS
    verdicts = []
    while not reconcile.reconcile(farm):
        clock.advance(10)
        assert len(verdicts) < 10_000, "it is renewed for ever"
        verdicts.append(hand.beat(order, 1, sequence=len(verdicts) + 1))
    went_on = verdicts.index("pause")
    assert oldest_ms / 10_000 - 1 <= went_on <= oldest_ms / 10_000 + 1
    assert set(verdicts[:went_on]) == {"go"}
    assert len(verdicts) - went_on <= 6, "lease and grace"
    assert check.violations(farm) == []


def test_who_tells_of_more_than_the_limit_is_to_stop(farm: Farm, clock: Clock) -> None:
    """One slow step over it is honest; what is far over it is not."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    clock.advance(1)
    assert hand.beat(order, order.gpu_ms_limit + 500, sequence=1) == "go"
    assert hand.beat(order, 2 * order.gpu_ms_limit + 1_500, sequence=2) == "pause"


def test_a_heartbeat_does_not_revive_a_lease(farm: Farm, clock: Clock) -> None:
    """After its end and the grace it is gone, though nobody took it back yet."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    clock.advance(farm.terms.lease_seconds + farm.terms.grace_seconds + 0.001)
    assert hand.beat(order, 10) == "gone"
    assert reconcile.reconcile(farm) == 1


def test_a_lost_worker_is_the_farms_loss_from_its_grant_to_the_grace(
    farm: Farm, clock: Clock
) -> None:
    """Not what its last heartbeat told: the device was taken for as long as the farm waited."""
    job = submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    clock.advance(5)
    hand.beat(order, 492)
    clock.advance(1000)
    reconcile.reconcile(farm)
    held_ms = 5_000 + farm.terms.lease_ms + farm.terms.grace_ms
    assert receipts.receipt(farm, None, job.id)["lost_gpu_ms"] == held_ms
    back = claimed(Hand(farm, clock, "back"))
    assert back.unit_id == order.unit_id
    assert check.violations(farm) == []


def test_no_loss_is_more_than_the_farm_saw(farm: Farm, clock: Clock) -> None:
    """Whatever a worker tells: handed back after 2 s, or failed after 2 s, 2 s are lost."""
    job = submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    clock.advance(2)
    hand.release(order, gpu_ms=10**9)
    order = claimed(hand)
    clock.advance(2)
    load = {"load_gpu_ms": 10**9}
    hand.complete(order, Outcome.FAILED, cause=Cause.WORKER, wasted_gpu_ms=10**9, **load)
    assert receipts.receipt(farm, None, job.id)["lost_gpu_ms"] == 4_000
    assert check.violations(farm) == []
