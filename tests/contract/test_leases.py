"""Leases, fences and what happens to workers that are late, lost or wrong."""

import pytest

from orchestrator.errors import StaleLease
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import keys, sessions
from orchestrator.farm.books import receipts
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.farm.leases import fleet, reconcile, worker_calls
from orchestrator.model import Entry, Worker
from orchestrator.states import Cause, EntryKind, JobState, KeyKind, Outcome, UnitKind, WorkerState
from orchestrator.wire import Order
from tests.factories import Clock, Hand, account_id, brief, submit


def claimed(hand: Hand) -> Order:
    """Claim an order that must be there."""
    order = hand.claim()
    assert order
    return order


def notes(farm: Farm, kind: EntryKind) -> list[str]:
    """Return what the entries of a kind say of themselves."""
    with farm.store.read() as tx:
        return [entry.note for entry in tx.find(Entry, kind=kind)]


def test_a_lapsed_lease_is_granted_again_with_a_higher_fence(farm: Farm, clock: Clock) -> None:
    """A lost worker's unit goes to another one, and the session pays nothing for the loss."""
    job = submit(farm)
    lost, other = Hand(farm, clock, "lost"), Hand(farm, clock, "other")
    first = claimed(lost)
    lost.beat(first, 500)
    clock.advance(farm.terms.lease_seconds + farm.terms.grace_seconds + 1)
    assert reconcile.reconcile(farm) == 1
    second = claimed(other)
    assert (second.unit_id, second.fence) == (first.unit_id, first.fence + 1)
    assert jobs.get(farm, None, job.id).spent_gpu_ms == 0
    held_ms = farm.terms.lease_ms + farm.terms.grace_ms
    assert receipts.receipt(farm, None, job.id)["lost_gpu_ms"] == held_ms
    assert check.violations(farm) == []


def test_a_worker_that_never_sent_a_heartbeat_lapses_too(farm: Farm, clock: Clock) -> None:
    """A lease expires from its grant on, not from its first heartbeat."""
    submit(farm)
    claimed(Hand(farm, clock))
    clock.advance(farm.terms.lease_seconds + farm.terms.grace_seconds + 1)
    assert reconcile.reconcile(farm) == 1


def test_a_zombie_is_refused_and_costs_nothing(farm: Farm, clock: Clock) -> None:
    """The result of a lapsed lease is refused, even when nobody has the unit yet."""
    job = submit(farm)
    zombie = Hand(farm, clock)
    order = claimed(zombie)
    clock.advance(100)
    reconcile.reconcile(farm)
    with pytest.raises(StaleLease):
        zombie.complete(order, Outcome.DONE)
    with pytest.raises(StaleLease):
        worker_calls.upload_key(farm, zombie.id, order.lease_id, order.fence, "segment.mp4")
    assert zombie.beat(order, 10) == "gone"
    assert jobs.get(farm, None, job.id).spent_gpu_ms == 0


def test_heartbeats_keep_a_lease_alive(farm: Farm, clock: Clock) -> None:
    """A worker that reports in time keeps its unit however long it takes."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    for sequence in range(1, 20):
        clock.advance(farm.terms.lease_seconds - 1)
        assert hand.beat(order, sequence, sequence=sequence) == "go"
        assert reconcile.reconcile(farm) == 0


def test_an_old_heartbeat_renews_nothing(farm: Farm, clock: Clock) -> None:
    """A doubled or late message neither renews the lease nor lowers what was reported."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    hand.beat(order, 50, sequence=5)
    clock.advance(farm.terms.lease_seconds + farm.terms.grace_seconds + 1)
    hand.beat(order, 10, sequence=5)
    assert reconcile.reconcile(farm) == 1


def test_completing_twice_is_one_settlement(farm: Farm, clock: Clock) -> None:
    """A repeated complete is answered like the first and charged once."""
    job = submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    first = hand.done(order, 20)
    again = hand.complete(order, Outcome.DONE, gpu_ms=20)
    assert first.settled_gpu_ms == again.settled_gpu_ms == 20
    assert jobs.get(farm, None, job.id).spent_gpu_ms == 20


def test_a_lost_answer_to_a_claim_is_delivered_again(farm: Farm, clock: Clock) -> None:
    """A worker whose claim was answered into the void gets the same order, not a second one."""
    submit(farm)
    submit(farm)
    hand = Hand(farm, clock)
    assert claimed(hand).lease_id == claimed(hand).lease_id


def test_a_worker_has_one_unit_at_a_time(farm: Farm, clock: Clock) -> None:
    """A worker that is at work is given nothing else."""
    submit(farm)
    submit(farm)
    hand = Hand(farm, clock)
    hand.beat(claimed(hand), 1)
    assert hand.claim() is None


def test_nobody_is_charged_more_than_the_farm_saw(farm: Farm, clock: Clock) -> None:
    """A worker that reports more time than has passed is paid for the time that passed."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    clock.advance(0.01)
    answer = hand.complete(order, Outcome.DONE, gpu_ms=order.gpu_ms_limit)
    assert answer.settled_gpu_ms == 10


def test_nobody_is_charged_more_than_the_limit(farm: Farm, clock: Clock) -> None:
    """Overrun is the farm's loss."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    answer = hand.done(order, order.gpu_ms_limit + 500, seconds=20)
    assert (answer.settled_gpu_ms, answer.lost_gpu_ms) == (order.gpu_ms_limit, 500)
    assert notes(farm, EntryKind.LOSS) == ["over the lease's limit"]
    assert check.violations(farm) == []


def test_a_workers_failure_is_free_and_tried_elsewhere(farm: Farm, clock: Clock) -> None:
    """The next attempt goes to another worker where there is one, and nothing is charged."""
    job = submit(farm)
    bad, good = Hand(farm, clock, "bad"), Hand(farm, clock, "good")
    order = claimed(bad)
    clock.advance(1)
    bad.complete(order, Outcome.FAILED, cause=Cause.WORKER)
    assert bad.claim() is None
    assert claimed(good).unit_id == order.unit_id
    assert jobs.get(farm, None, job.id).spent_gpu_ms == 0


def test_three_failures_fail_the_job_and_free_its_hold(farm: Farm, clock: Clock) -> None:
    """A unit has three attempts; then the job ends with an error that says so, free of charge."""
    job = submit(farm)
    hand = Hand(farm, clock)
    for _ in range(3):
        order = claimed(hand)
        clock.advance(1)
        hand.complete(order, Outcome.FAILED, cause=Cause.FARM)
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.FAILED
    assert ended.error
    assert "3 times" in ended.error.message
    assert (ended.spent_gpu_ms, ended.held_gpu_ms) == (0, 0)
    assert check.violations(farm) == []


def test_a_job_that_the_farm_cannot_finish_costs_nothing(farm: Farm, clock: Clock) -> None:
    """Its charges on the way are given back by an entry, and its receipt is of zero."""
    job = submit(farm)
    hand = Hand(farm, clock)
    hand.done(claimed(hand), 40)
    hand.done(claimed(hand), 70)
    assert jobs.get(farm, None, job.id).spent_gpu_ms == 110
    for _ in range(3):
        order = claimed(hand)
        clock.advance(1)
        hand.complete(order, Outcome.FAILED, cause=Cause.WORKER)
    ended = jobs.get(farm, None, job.id)
    assert (ended.state, ended.spent_gpu_ms) == (JobState.FAILED, 0)
    bill = receipts.receipt(farm, None, job.id)
    assert (bill["gpu_ms"], bill["refunded_gpu_ms"], bill["price_microusd"]) == (0, 110, 0)
    assert sum(line["gpu_ms"] for line in bill["lines"]) == 0
    session = sessions.find(farm, account_id(farm), None)
    assert (session.held_gpu_ms, session.spent_gpu_ms) == (0, 0)
    rows = fleet.usage(farm, None, by="model", since_ms=0)
    assert sum(row["gpu_ms"] for row in rows) == 0
    assert check.violations(farm) == []


def test_an_impossible_request_fails_at_once_and_is_charged(farm: Farm, clock: Clock) -> None:
    """A unit that its request made impossible is not tried again; its device time is billed."""
    job = submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    clock.advance(1)
    hand.complete(order, Outcome.FAILED, cause=Cause.REQUEST, gpu_ms=9)
    ended = jobs.get(farm, None, job.id)
    assert (ended.state, ended.spent_gpu_ms) == (JobState.FAILED, 9)


def test_a_worker_that_fails_three_sessions_is_quarantined(farm: Farm, clock: Clock) -> None:
    """A machine that breaks everybody's units gets none until an operator admits it again."""
    hand, other = Hand(farm, clock), Hand(farm, clock, "other")
    for name in "abc":
        sessions.create(farm, account_id=account_id(farm), name=name, budget_gpu_ms=10**6)
        submit(farm, session=name)
        order = claimed(hand)
        clock.advance(1)
        hand.complete(order, Outcome.FAILED, cause=Cause.WORKER)
        other.work_off()
    with farm.store.read() as tx:
        worker = tx.get(Worker, hand.id)
    assert worker
    assert worker.state is WorkerState.QUARANTINED
    submit(farm)
    assert hand.claim() is None
    fleet.admit(farm, hand.id)
    assert hand.claim()


def test_a_released_unit_is_free_and_not_an_attempt(farm: Farm, clock: Clock) -> None:
    """A worker that shuts down hands its unit back; the next one starts it at the farm's cost."""
    job = submit(farm)
    hand, other = Hand(farm, clock), Hand(farm, clock, "other")
    for _ in range(5):
        order = claimed(hand)
        clock.advance(1)
        hand.release(order, gpu_ms=3)
    other.work_off(gpu_ms=5)
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED
    assert receipts.receipt(farm, None, job.id)["lost_gpu_ms"] == 15
    assert check.violations(farm) == []


def test_a_worker_that_says_hello_again_gives_its_lease_back(farm: Farm, clock: Clock) -> None:
    """A restarted worker remembers nothing, so what it held is granted anew at once."""
    submit(farm)
    hand = Hand(farm, clock)
    first = claimed(hand)
    key, _ = keys.create(farm, account_id=None, kind=KeyKind.WORKER, name="own", worker_id=hand.id)
    worker_calls.hello(farm, key, hand.hello())
    second = claimed(hand)
    assert (second.unit_id, second.fence) == (first.unit_id, first.fence + 1)


def test_a_drained_worker_gets_nothing_new(farm: Farm, clock: Clock) -> None:
    """Draining lets a worker finish what it has."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    fleet.drain(farm, hand.id)
    hand.done(order)
    assert hand.claim() is None


def test_freezing_stops_all_spending_at_once(farm: Farm, clock: Clock) -> None:
    """The emergency brake: running units are told to pause and nothing is granted."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    fleet.freeze(farm, frozen=True)
    assert hand.beat(order, 1) == "pause"
    clock.advance(1)
    hand.complete(order, Outcome.STOPPED, gpu_ms=1)
    assert hand.claim() is None
    fleet.freeze(farm, frozen=False)
    assert hand.claim()


def test_an_older_epoch_voids_leases(farm: Farm, clock: Clock) -> None:
    """After a restored backup every lease from before is refused."""
    submit(farm)
    hand = Hand(farm, clock)
    order = claimed(hand)
    with farm.store.write() as tx:
        tx.set_fact("epoch", 2)
    with pytest.raises(StaleLease):
        hand.complete(order, Outcome.DONE)


def test_a_worker_is_given_only_what_it_serves(farm: Farm, clock: Clock) -> None:
    """Kinds and models decide which queues a worker sees."""
    submit(farm)
    renderer = Hand(farm, clock, "gpu", kinds=(UnitKind.RENDER,))
    planner = Hand(farm, clock, "cpu", kinds=(UnitKind.PARSE, UnitKind.ENCODE))
    assert renderer.claim() is None
    planner.done(claimed(planner))
    assert planner.claim() is None
    order = claimed(renderer)
    assert order.work.kind is UnitKind.RENDER


def test_a_worker_reads_only_what_its_lease_names(farm: Farm, clock: Clock) -> None:
    """An encode lease opens its own job's segments and nothing else."""
    from orchestrator.errors import NotFound

    submit(farm)
    hand = Hand(farm, clock)
    while True:
        order = claimed(hand)
        if order.work.kind is UnitKind.ENCODE:
            break
        hand.done(order)
    segment = order.work.segments[0].key  # type: ignore[union-attr]
    worker_calls.may_read(farm, hand.id, segment)
    stranger = Hand(farm, clock, "stranger")
    for worker_id, key in ((stranger.id, segment), (hand.id, "units/unt_x/1/segment.mp4")):
        with pytest.raises(NotFound):
            worker_calls.may_read(farm, worker_id, key)


def test_idle_devices_are_rung_once_and_again_later(farm: Farm, clock: Clock) -> None:
    """Each idle device hears of one waiting unit; a lost message is repeated after a while."""
    submit(farm)
    assert reconcile.to_ring(farm) == []
    Hand(farm, clock)
    Hand(farm, clock, "poller", polls=True)
    first = reconcile.to_ring(farm)
    assert [queue for queue, _ in first] == ["parse"]
    assert reconcile.to_ring(farm) == []
    clock.advance(farm.terms.ring_again_seconds + 1)
    assert reconcile.to_ring(farm) == first


def test_one_dispatcher_leads(farm: Farm, clock: Clock) -> None:
    """A second dispatcher waits until the first one's lock runs out."""
    assert reconcile.lead(farm, "a", 5)
    assert not reconcile.lead(farm, "b", 5)
    clock.advance(6)
    assert reconcile.lead(farm, "b", 5)


def test_sessions_that_only_wait_hide_no_work(farm: Farm, clock: Clock) -> None:
    """However many paused sessions stand before it, a session with work is found."""
    owner = account_id(farm)
    hand = Hand(farm, clock)
    for number in range(20):
        name = f"paused {number}"
        sessions.create(farm, account_id=owner, name=name, budget_gpu_ms=10**6)
        waiting = submit(farm, brief(seconds=8.0), session=name)
        hand.done(claimed(hand), 5)
        hand.done(claimed(hand), 5)
        jobs.pause(farm, None, waiting.id)
    late = submit(farm)
    assert claimed(hand).job_id == late.id


def test_sessions_share_by_what_they_were_granted(farm: Farm, clock: Clock) -> None:
    """A session with one job is not kept waiting by another that submitted ten before it."""
    owner = account_id(farm)
    for name in ("crowd", "single"):
        sessions.create(farm, account_id=owner, name=name, budget_gpu_ms=10**8)
    for _ in range(10):
        submit(farm, session="crowd")
    late = submit(farm, session="single")
    hand = Hand(farm, clock)
    while jobs.get(farm, None, late.id).state is not JobState.SUCCEEDED:
        hand.done(claimed(hand))
    finished = jobs.listing(farm, None, wanted=JobsWanted(state=JobState.SUCCEEDED)).items
    assert len(finished) <= 2
