"""The operator's books: cost, revenue, idle and lost time, caps that were hit."""

from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.books import economics, receipts
from orchestrator.farm.books.economics import spans
from orchestrator.farm.leases import fleet, reconcile
from orchestrator.model import Json
from orchestrator.money.plans import Plans
from orchestrator.money.rates import RateCard, Rates
from orchestrator.states import Cause, Outcome
from tests.factories import START_MS, Clock, Hand, account_id, brief, submit

HOUR = 3600
DAY = 24 * HOUR


def priced(farm: Farm, *, price: int = 1000, cost: int = 3_600_000) -> Farm:
    """Return the farm with a rate card: micro-USD per GPU-second, and per hour of presence."""
    card = RateCard(version="t", from_ms=0, price={"otherwise": price}, cost={"otherwise": cost})
    return replace(farm, rates=Rates((card,)))


def with_price(farm: Farm, plan: str, microusd: int | None) -> Farm:
    """Return the farm as it starts again with this price a month in its file of plans."""
    changed = replace(farm.plans.named(plan), price_month_microusd=microusd)
    farm = replace(farm, plans=Plans({**farm.plans.plans, plan: changed}))
    reconcile.turn_plans(farm)
    return farm


def books(farm: Farm, by: str = "plan") -> Json:
    """Return the books since the farm opened."""
    return economics.economics(farm, by, 0)


def used(farm: Farm, by: str = "plan") -> list[Json]:
    """Return their rows without the one of the time in which nothing ran."""
    return [row for row in books(farm, by)["rows"] if row["key"] != economics.IDLE]


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
    (row,) = used(farm)
    assert (row["key"], row["users"], row["units"]) == ("studio", 1, 4)
    assert (row["gpu_ms"], row["lost_gpu_ms"]) == (bill["gpu_ms"], bill["lost_gpu_ms"])
    assert row["revenue_microusd"] == bill["price_microusd"] == row["gpu_ms"]
    assert row["cost_microusd"] == 800  # one micro-USD a millisecond
    assert row["margin_microusd"] == -row["lost_gpu_ms"] <= -400
    assert row["cost_per_user_microusd"] == 800


def test_idle_time_is_the_farm_s_own(farm: Farm, clock: Clock) -> None:
    """Time for which a worker was there and unused is idle, and lowers the total's margin."""
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
    plan, idle = told["rows"]
    assert (idle["key"], idle["cost_microusd"]) == (economics.IDLE, device["idle_cost_microusd"])
    total = told["total"]
    assert total["margin_microusd"] == plan["margin_microusd"] - device["idle_cost_microusd"]
    assert total["cost_per_user_microusd"] == plan["cost_microusd"] + idle["cost_microusd"]


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
    from orchestrator.farm.accounts import keys
    from orchestrator.farm.leases import worker_calls
    from orchestrator.states import KeyKind

    farm = priced(farm)
    hand = Hand(farm, clock)
    clock.advance(20)
    hand.claim()
    clock.advance(40)
    key, _ = keys.create(farm, account_id=None, kind=KeyKind.WORKER, name="own", worker_id=hand.id)
    worker_calls.hello(farm, key, hand.hello())
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
    (row,) = used(farm)
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
    months = ["2027-01", "2027-02", "2027-03"]
    assert [row["key"] for row in told["month"]["rows"]] == [*months, economics.IDLE]
    assert [row["key"] for row in told["model"]["rows"]] == ["fake", economics.IDLE]
    assert [row["key"] for row in told["user"]["rows"]] == [account_id(farm), economics.IDLE]
    recent = economics.economics(farm, "month", clock() - 40 * DAY * 1000)
    assert [row["key"] for row in recent["rows"]] == ["2027-03", economics.IDLE]


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


def test_every_row_and_the_total_add_up(farm: Farm, clock: Clock) -> None:
    """Margin is revenue less cost in each row, and the total is the sum of all of them."""
    farm = priced(farm, price=7)
    hand = Hand(farm, clock)
    submit(farm)
    hand.work_off(gpu_ms=500)
    for _ in range(10):
        clock.advance(10)
        assert hand.claim() is None
    for by in economics.BY:
        told = books(farm, by)
        assert told["rows"][-1]["key"] == economics.IDLE
        for row in (*told["rows"], told["total"]):
            assert row["margin_microusd"] == row["revenue_microusd"] - row["cost_microusd"]
        for name in ("units", "gpu_ms", "revenue_microusd", "cost_microusd", "margin_microusd"):
            assert told["total"][name] == sum(row[name] for row in told["rows"])
        for row in told["rows"][:-1]:
            assert row["cost_per_user_microusd"] == row["cost_microusd"] // row["users"] > 0


def test_units_are_those_that_were_charged(farm: Farm, clock: Clock) -> None:
    """Usage and books of one time count the same units: a lost or refused one is none of them."""
    job = submit(farm)
    hand = Hand(farm, clock)
    order = hand.claim()
    assert order
    hand.release(order, 5)
    order = hand.claim()
    assert order
    hand.complete(order, Outcome.FAILED, gpu_ms=5, cause=Cause.WORKER)
    hand.work_off(gpu_ms=50)
    (row,) = fleet.usage(farm, None, "model", 0)
    total = books(farm)["total"]
    same = ("units", "gpu_ms", "lost_gpu_ms")
    assert [row[name] for name in same] == [total[name] for name in same]
    assert row["units"] == len([u for u in jobs.units(farm, None, job.id) if u.lease])


def test_usage_counts_from_its_moment_on(farm: Farm, clock: Clock) -> None:
    """By sums of days and hours, and lease by lease before them: what ended before is in none."""
    hand = Hand(farm, clock)
    clock.now_ms = (clock.now_ms // (DAY * 1000) + 1) * DAY * 1000 + 1_800_000  # 00:30
    ends: list[tuple[int, int]] = []
    for number, hours in enumerate((0, 0, 1, 22.4, 0.2, 1, 24, 30)):
        clock.advance(hours * 3600)
        submit(farm)
        gpu_ms = 10 * (number + 1)
        while order := hand.claim():
            charged = hand.done(order, gpu_ms, seconds=30.0).settled_gpu_ms
            ends.append((clock(), charged))
    moments = {0, *(at for at, _ in ends), *(at + 1 for at, _ in ends)}
    moments |= {at // span * span for at, _ in ends for span in (3_600_000, DAY * 1000)}
    for since_ms in moments:
        counted = [gpu_ms for at, gpu_ms in ends if at >= since_ms]
        for by in ("user", "session", "model", "worker", "stage"):
            for owner in (None, account_id(farm)):
                rows = fleet.usage(farm, owner, by, since_ms)
                assert sum(row["units"] for row in rows) == len(counted), (since_ms, by)
                assert sum(row["gpu_ms"] for row in rows) == sum(counted), (since_ms, by)
    assert fleet.usage(farm, "acc_other", "model", 0) == []
    assert check.violations(farm) == []


def test_usage_takes_back_what_was_refunded(farm: Farm, clock: Clock) -> None:
    """A job that the farm could not do was charged yesterday, and is lost since yesterday."""
    hand = Hand(farm, clock)
    submit(farm)
    order = hand.claim()
    assert order
    hand.done(order, 40)
    (before,) = fleet.usage(farm, None, "session", 0)
    assert (before["units"], before["gpu_ms"], before["lost_gpu_ms"]) == (1, 40, 0)
    clock.advance(DAY)
    for _ in range(farm.terms.max_attempts):
        order = hand.claim()
        assert order
        clock.advance(1)
        hand.complete(order, Outcome.FAILED, gpu_ms=5, cause=Cause.WORKER)
    (row,) = fleet.usage(farm, None, "session", 0)
    lost = 40 + 5 * farm.terms.max_attempts
    assert (row["units"], row["gpu_ms"], row["lost_gpu_ms"]) == (1, 0, lost)
    assert check.violations(farm) == []


def test_cap_hits_are_of_whole_days(farm: Farm, clock: Clock) -> None:
    """They are counted by day, so the books say from which day on."""
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=1)
    with pytest.raises(BudgetExceeded):
        submit(farm, session="small")
    clock.advance(HOUR)
    told = economics.economics(farm, "plan", clock() - 1_000)
    assert told["total"]["cap_hits"] == 1
    assert told["cap_hits_since_ms"] == clock() // (DAY * 1000) * DAY * 1000


def test_accounts_are_counted_once(farm: Farm, clock: Clock) -> None:
    """Two users on one plan share its row, and the average cost is over both."""
    farm = priced(farm)
    other = accounts.create(farm, name="other", plan="studio").account
    submit(farm)
    jobs.submit(farm, account_id=other.id, session_id=None, brief=brief())
    Hand(farm, clock).work_off(gpu_ms=50)
    (row,) = used(farm)
    assert row["users"] == 2
    assert row["cost_per_user_microusd"] == row["cost_microusd"] // 2
    assert len(used(farm, "user")) == 2


def test_another_plan_leaves_the_past_as_it_was(farm: Farm, clock: Clock) -> None:
    """Use, payments and refusals under a plan stay in its row, whatever comes after."""
    farm = with_price(priced(farm), "creator", 31 * 100)
    home = account_id(farm)
    sessions.create(farm, account_id=home, name="small", budget_gpu_ms=1)
    submit(farm)
    Hand(farm, clock).work_off(gpu_ms=50)
    with pytest.raises(BudgetExceeded):
        submit(farm, session="small")
    clock.advance(2 * DAY)
    before = {row["key"]: row for row in used(farm)}
    assert before.keys() == {"studio"} and before["studio"]["revenue_microusd"] > 0
    accounts.set_plan(farm, home, "creator")
    clock.advance(3 * DAY)
    submit(farm)
    Hand(farm, clock, "two").work_off(gpu_ms=50)
    clock.advance(1)
    accounts.set_plan(farm, home, accounts.NO_PLAN)
    clock.advance(DAY)
    with pytest.raises(PlanLimit):
        submit(farm)
    after = {row["key"]: row for row in used(farm)}
    assert after["studio"] == before["studio"]
    assert after["creator"]["revenue_microusd"] == 300
    assert after["creator"]["rate_card_microusd"] == 50 * after["creator"]["units"] > 0
    assert (after["(none)"]["revenue_microusd"], after["(none)"]["cap_hits"]) == (0, 1)


def test_another_price_counts_from_then_on(farm: Farm, clock: Clock) -> None:
    """A price that changes in the file, or a plan that leaves it, leaves what is past."""
    farm = with_price(priced(farm), "studio", 31 * 100)
    clock.advance(2 * DAY)
    farm = with_price(farm, "studio", 31 * 1000)
    clock.advance(2 * DAY)
    assert books(farm)["total"]["revenue_microusd"] == 200 + 2_000
    farm = replace(farm, plans=Plans({"free": farm.plans.named("free")}))
    assert reconcile.turn_plans(farm)
    clock.advance(2 * DAY)
    assert books(farm)["total"]["revenue_microusd"] == 200 + 2_000


def test_a_refund_takes_back_what_it_was_settled_as(farm: Farm, clock: Clock) -> None:
    """A job charged by the GPU-second brings nothing once refunded, on whatever plan by then."""
    farm = with_price(priced(farm), "creator", 31 * 100)
    submit(farm)
    hand = Hand(farm, clock)
    order = hand.claim()
    assert order
    hand.done(order, 50)
    assert books(farm)["total"]["revenue_microusd"] == 50
    accounts.set_plan(farm, account_id(farm), "creator")
    for number in range(farm.terms.max_attempts):
        other = Hand(farm, clock, f"broken {number}")
        order = other.claim()
        assert order
        other.complete(order, Outcome.FAILED, cause=Cause.WORKER)
    assert books(farm)["total"]["revenue_microusd"] == 0


def test_a_plan_with_a_price_brings_that_by_the_day(farm: Farm, clock: Clock) -> None:
    """A month of 3,100 micro-USD is 100 a day, used or not; its use is covered by it."""
    farm = with_price(priced(farm, cost=0), "studio", 31 * 100)
    assert round(datetime(2027, 1, 15, 8, tzinfo=UTC).timestamp() * 1000) == START_MS
    clock.advance(4 * DAY)
    (row,) = used(farm, "model")
    assert (row["key"], row["revenue_microusd"]) == (economics.UNUSED, 400)
    submit(farm)
    Hand(farm, clock).work_off(gpu_ms=50)
    (row,) = used(farm)
    assert row["revenue_microusd"] == 400
    assert row["rate_card_microusd"] > 0
    assert [r["key"] for r in used(farm, "model")] == ["fake"]
    clock.advance(31 * DAY)
    months = {r["key"]: r["revenue_microusd"] for r in used(farm, "month")}
    assert months == {"2027-01": 1_666, "2027-02": 2_029}  # 16 2/3 of 31 days, 18 1/3 of 28


def test_a_plan_s_price_is_shared_out_whole(farm: Farm, clock: Clock) -> None:
    """Over several models nothing is lost to rounding, and each gets its share of the time."""
    from tests.factories import with_painter

    with_painter(farm)
    farm = with_price(priced(farm, price=1, cost=0), "studio", 31 * 1001)
    clock.advance(DAY)
    hand = Hand(farm, clock, models=("fake", "painter"))
    submit(farm, brief(model="fake"))
    submit(farm, brief(model="painter"))
    hand.work_off(gpu_ms=33)
    rows = {row["key"]: row["revenue_microusd"] for row in used(farm, "model")}
    assert rows.keys() == {"fake", "painter"}
    assert abs(rows["fake"] - rows["painter"]) <= 1
    assert sum(rows.values()) == books(farm)["total"]["revenue_microusd"] >= 1001
