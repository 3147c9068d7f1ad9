"""The operator's books: cost, revenue, idle and lost time, caps that were hit."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from orchestrator.errors import BudgetExceeded
from orchestrator.farm import Farm, economics, receipts, reconcile, sessions
from orchestrator.farm.economics import spans
from orchestrator.model import Account, Json
from orchestrator.rates import RateCard, Rates
from orchestrator.states import Cause, Outcome
from tests.factories import START_MS, Clock, Hand, account_id, brief, submit

HOUR = 3600
DAY = 24 * HOUR


def priced(farm: Farm, *, price: int = 1000, cost: int = 3_600_000) -> Farm:
    """Return the farm with a rate card: micro-USD per GPU-second, and per hour of presence."""
    card = RateCard(version="t", from_ms=0, price={"otherwise": price}, cost={"otherwise": cost})
    return replace(farm, rates=Rates((card,)))


def books(farm: Farm, by: str = "plan") -> Json:
    """Return the books since the farm opened."""
    return economics.economics(farm, by, 0)


def test_a_farm_in_which_nothing_ran_has_empty_books(farm: Farm) -> None:
    """No job and no worker is no row, and no division by nothing."""
    told = books(farm)
    assert (told["rows"], told["devices"]) == ([], [])
    assert told["total"]["cost_per_user_microusd"] is None


def test_a_job_brings_its_price_and_costs_its_time(farm: Farm, clock: Clock) -> None:
    """Revenue is what the receipt says; cost is all device time, the lost one too."""
    farm = priced(farm)
    job = submit(farm)
    hand = Hand(farm, clock)
    order = hand.claim()
    assert order
    clock.advance(1)
    hand.complete(order, Outcome.FAILED, gpu_ms=400, cause=Cause.WORKER)
    hand.work_off(gpu_ms=100)
    bill = receipts.receipt(farm, None, job.id)
    (row,) = books(farm)["rows"]
    assert (row["key"], row["users"], row["units"]) == ("studio", 1, 4)
    assert (row["gpu_ms"], row["lost_gpu_ms"]) == (bill["gpu_ms"], bill["lost_gpu_ms"])
    assert row["revenue_microusd"] == bill["price_microusd"] == row["gpu_ms"]
    assert row["cost_microusd"] == 800  # one micro-USD a millisecond
    assert row["margin_microusd"] == -row["lost_gpu_ms"] <= -400
    assert row["cost_per_user_microusd"] == 800


def test_idle_time_is_the_farm_s_own(farm: Farm, clock: Clock) -> None:
    """What a worker was there for and did not use is idle, and lowers the total's margin."""
    farm = priced(farm)
    hand = Hand(farm, clock)
    for _ in range(10):
        clock.advance(10)
        assert hand.claim() is None
    submit(farm)
    hand.work_off(gpu_ms=500)
    hand.claim()
    told = books(farm)
    (device,) = told["devices"]
    assert device["device_class"] == "cpu"
    assert device["busy_ms"] == 2_000
    assert device["present_ms"] == device["busy_ms"] + device["idle_ms"] >= 100_000
    assert told["total"]["idle_cost_microusd"] == device["idle_cost_microusd"] == device["idle_ms"]
    assert (
        told["total"]["margin_microusd"]
        == told["rows"][0]["margin_microusd"] - device["idle_cost_microusd"]
    )


def test_a_worker_that_was_away_is_not_paid(farm: Farm, clock: Clock) -> None:
    """A night without a word is no presence, whether or not somebody marked the worker gone."""
    farm = priced(farm)
    hand = Hand(farm, clock)
    for _ in range(2):
        clock.advance(30)
        hand.claim()
    clock.advance(8 * HOUR)
    hand.claim()
    clock.advance(30)
    hand.claim()
    clock.advance(8 * HOUR)
    reconcile.reconcile(farm)
    hand.claim()
    clock.advance(30)
    hand.claim()
    (device,) = books(farm)["devices"]
    assert device["present_ms"] == 120_000


def test_a_worker_that_starts_again_begins_a_shift(farm: Farm, clock: Clock) -> None:
    """Between its last word and its hello a worker was not there."""
    from orchestrator.farm import keys, work
    from orchestrator.states import KeyKind

    farm = priced(farm)
    hand = Hand(farm, clock)
    clock.advance(20)
    hand.claim()
    clock.advance(40)
    key, _ = keys.create(farm, account_id=None, kind=KeyKind.WORKER, name="own", worker_id=hand.id)
    work.hello(farm, key, hand.hello())
    clock.advance(20)
    hand.claim()
    (device,) = books(farm)["devices"]
    assert device["present_ms"] == 40_000


def test_refusals_and_pauses_for_budget_are_cap_hits(farm: Farm, clock: Clock) -> None:
    """A submission that did not fit counts, and a job that had to stop; a quote does not."""
    farm = priced(farm)
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=2_000)
    for _ in range(3):
        with pytest.raises(BudgetExceeded):
            submit(farm, brief(seconds=60.0), session="small")
    clock.advance(DAY)
    with pytest.raises(BudgetExceeded):
        submit(farm, brief(seconds=60.0), session="small")
    (row,) = books(farm)["rows"]
    assert (row["cap_hits"], row["units"], row["users"]) == (4, 0, 1)


def test_the_books_agree_however_they_are_cut(farm: Farm, clock: Clock) -> None:
    """By plan, user, model and month the totals are the same; months come in order."""
    farm = priced(farm)
    hand = Hand(farm, clock)
    for _ in range(3):
        submit(farm)
        hand.work_off(gpu_ms=50)
        clock.advance(31 * DAY)
    told = {by: books(farm, by) for by in economics.BY}
    totals = [t["total"] for t in told.values()]
    assert all(total == totals[0] for total in totals)
    assert [row["key"] for row in told["month"]["rows"]] == ["2027-01", "2027-02", "2027-03"]
    assert [row["key"] for row in told["model"]["rows"]] == ["fake"]
    assert [row["key"] for row in told["user"]["rows"]] == [account_id(farm)]
    recent = economics.economics(farm, "month", clock() - 40 * DAY * 1000)
    assert [row["key"] for row in recent["rows"]] == ["2027-03"]


def test_spans_end_with_their_month_and_their_rate_card(farm: Farm) -> None:
    """A time is cut where a month or a rate card begins, and nowhere else; nothing is missing."""

    def at(*day: int) -> int:
        return round(datetime(*day, tzinfo=UTC).timestamp() * 1000)

    older = replace(farm.rates.cards[0], from_ms=0)
    newer = replace(older, version="newer", from_ms=at(2027, 2, 10))
    farm = replace(farm, rates=Rates((older, newer)))
    cut = list(spans(farm, at(2027, 1, 31), at(2027, 3, 1) + 1))
    assert [(s.month, s.card.version) for s in cut] == [
        ("2027-01", older.version),
        ("2027-02", older.version),
        ("2027-02", "newer"),
        ("2027-03", "newer"),
    ]
    assert cut[0].from_ms == at(2027, 1, 31)
    assert all(a.until_ms == b.from_ms for a, b in pairwise(cut))


def test_accounts_are_counted_once(farm: Farm, clock: Clock) -> None:
    """Two users on one plan share its row, and the average cost is over both."""
    farm = priced(farm)
    with farm.store.write() as tx:
        tx.add(Account(id="acc_other", name="other", plan="studio", created_at_ms=START_MS))
    sessions.create(farm, account_id="acc_other", name="default", budget_gpu_ms=60_000)
    from orchestrator.farm import jobs

    submit(farm)
    jobs.submit(farm, account_id="acc_other", session_id=None, brief=brief())
    Hand(farm, clock).work_off(gpu_ms=50)
    (row,) = books(farm)["rows"]
    assert row["users"] == 2
    assert row["cost_per_user_microusd"] == row["cost_microusd"] // 2
    assert len(books(farm, "user")["rows"]) == 2


def test_a_plan_with_a_price_brings_that_by_the_day(farm: Farm, clock: Clock) -> None:
    """A month of 3,100 micro-USD is 100 a day, used or not; its use is covered by it."""
    card = RateCard(
        version="t",
        from_ms=0,
        price={"otherwise": 1000},
        cost={"otherwise": 0},
        plans={"studio": 31 * 100},
    )
    farm = replace(farm, rates=Rates((card,)))
    assert round(datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp() * 1000) == START_MS
    clock.advance(4 * DAY)
    (row,) = books(farm, "model")["rows"]
    assert (row["key"], row["revenue_microusd"]) == (economics.UNUSED, 400)
    submit(farm)
    Hand(farm, clock).work_off(gpu_ms=50)
    told = books(farm)
    (row,) = told["rows"]
    assert row["revenue_microusd"] == 400
    assert row["rate_card_microusd"] > 0
    assert [r["key"] for r in books(farm, "model")["rows"]] == ["fake"]
    clock.advance(31 * DAY)
    months = {r["key"]: r["revenue_microusd"] for r in books(farm, "month")["rows"]}
    assert months == {"2027-01": 1_666, "2027-02": 2_029}  # 16 2/3 of 31 days, 18 1/3 of 28


def test_a_plan_s_price_is_shared_out_whole(farm: Farm, clock: Clock) -> None:
    """Over several models nothing is lost to rounding, and each gets its share of the time."""
    from tests.factories import with_painter

    with_painter(farm)
    card = RateCard(
        version="t",
        from_ms=0,
        price={"otherwise": 1},
        cost={"otherwise": 0},
        plans={"studio": 31 * 1001},
    )
    farm = replace(farm, rates=Rates((card,)))
    clock.advance(DAY)
    hand = Hand(farm, clock, models=("fake", "painter"))
    submit(farm, brief(model="fake"))
    submit(farm, brief(model="painter"))
    hand.work_off(gpu_ms=33)
    rows = {row["key"]: row["revenue_microusd"] for row in books(farm, "model")["rows"]}
    assert rows.keys() == {"fake", "painter"}
    assert abs(rows["fake"] - rows["painter"]) <= 1
    assert sum(rows.values()) == books(farm)["total"]["revenue_microusd"] >= 1001
