"""Accounts, their plans and their months, above every session (SQLite and Postgres)."""

from dataclasses import replace

import pytest

from orchestrator.errors import BadRequest, BudgetExceeded, NotFound, PlanLimit
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, sessions
from orchestrator.farm.books import months
from orchestrator.farm.kernel.owned import named_session
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.farm.leases import reconcile
from orchestrator.model import Account, Alert, Month
from orchestrator.money.plans import Plan, Plans, shipped
from orchestrator.remedies import ChangePlan, WaitForMonth
from orchestrator.states import AlertAction, EntryKind, JobState, PauseReason
from tests.factories import Clock, Hand, account_id, brief, submit

DAY_SECONDS = 86_400


def plans(**changes: object) -> Plans:
    """Return one plan, `tight`, beside the shipped ones."""
    studio = shipped().named("studio")
    tight: Plan = replace(studio, name="tight", **changes)  # type: ignore[arg-type]
    return Plans({**shipped().plans, "tight": tight})


def on_plan(farm: Farm, **changes: object) -> Farm:
    """Put the home account on a plan of its own."""
    farm = replace(farm, plans=plans(**changes))
    accounts.set_plan(farm, account_id(farm), "tight")
    return farm


def use_up(hand: Hand) -> None:
    """Let every unit cost as much as its lease allows."""
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)


def month_of(farm: Farm) -> Month:
    """Return the home account's month of now."""
    return accounts.look(farm, account_id(farm)).month


def test_a_month_bounds_all_sessions_together(farm: Farm) -> None:
    """Two sessions with budget enough cannot hold more together than the month has."""
    first = submit(farm)
    farm = on_plan(farm, month_gpu_ms=2 * first.held_gpu_ms - 1)
    sessions.create(farm, account_id=account_id(farm), name="other", budget_gpu_ms=10**6)
    with pytest.raises(BudgetExceeded, match="month"):
        submit(farm, session="other")
    assert sessions.find(farm, account_id(farm), "other").held_gpu_ms == 0
    assert month_of(farm).held_gpu_ms == first.held_gpu_ms
    assert check.violations(farm) == []


def test_what_a_job_settles_is_spent_in_the_month(farm: Farm, clock: Clock) -> None:
    """After the job its month holds nothing and spent what the session spent."""
    job = submit(farm)
    Hand(farm, clock).work_off(gpu_ms=9)
    spent = jobs.get(farm, None, job.id).spent_gpu_ms
    assert (month_of(farm).held_gpu_ms, month_of(farm).spent_gpu_ms) == (0, spent)
    assert check.violations(farm) == []


def test_a_lower_plan_takes_nothing_back_and_sinks(farm: Farm, clock: Clock) -> None:
    """A cap under what is in use is clamped there and sinks as the hold is released."""
    job = submit(farm)
    farm = on_plan(farm, month_gpu_ms=0)
    assert month_of(farm).limit_gpu_ms == job.held_gpu_ms
    assert month_of(farm).available_gpu_ms == 0
    jobs.cancel(farm, None, job.id)
    assert month_of(farm).limit_gpu_ms == 0
    assert check.violations(farm) == []


def test_without_a_plan_nothing_runs(farm: Farm, clock: Clock) -> None:
    """No plan, no lease and no new job; a plan given again lets the job finish."""
    job = submit(farm)
    accounts.set_plan(farm, account_id(farm), accounts.NO_PLAN)
    assert Hand(farm, clock).claim() is None
    with pytest.raises(PlanLimit, match="no plan"):
        submit(farm)
    accounts.set_plan(farm, account_id(farm), "studio")
    Hand(farm, clock, "two").work_off()
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED


def test_accounts_without_a_plan_stand_in_nobodys_way(farm: Farm, clock: Clock) -> None:
    """However many of their sessions come first, those of others are looked at."""
    for number in range(20):
        guest = accounts.create(farm, name=f"guest {number}", plan="studio").account
        jobs.submit(farm, account_id=guest.id, session_id=None, brief=brief())
        accounts.set_plan(farm, guest.id, accounts.NO_PLAN)
    mine = submit(farm)
    with farm.store.write() as tx:
        last = named_session(tx, account_id(farm), None, lock=True)
        tx.save(last, replace(last, virtual_us=10**9))
    order = Hand(farm, clock).claim()
    assert order
    assert order.job_id == mine.id


def test_a_new_month_lets_a_job_go_on(farm: Farm, clock: Clock) -> None:
    """A job that used up its account's month is paused, and goes on in the next one."""
    job = submit(farm)
    farm = on_plan(farm, month_gpu_ms=0)
    use_up(Hand(farm, clock))
    paused = jobs.get(farm, None, job.id)
    assert (paused.state, paused.pause_reason) == (JobState.PAUSED, PauseReason.BUDGET)
    before = month_of(farm)
    farm = replace(farm, plans=plans(month_gpu_ms=10**9))
    clock.advance(40 * DAY_SECONDS)
    assert reconcile.turn_month(farm)
    assert not reconcile.turn_month(farm)
    Hand(farm, clock, "next").work_off(gpu_ms=50)
    assert jobs.get(farm, None, job.id).state is JobState.SUCCEEDED
    assert month_of(farm).id != before.id
    assert month_of(farm).spent_gpu_ms > 0
    assert check.violations(farm) == []


@pytest.mark.parametrize(
    ("changes", "asked", "said"),
    [
        ({"seconds": 1.0}, {}, "seconds"),
        ({"steps": 1}, {"steps": 2}, "steps"),
        ({"pixels": 16}, {}, "megapixels"),
        ({"models": ("other",)}, {}, "model fake"),
        ({"open_jobs": 1}, {}, "open jobs"),
    ],
)
def test_a_plan_bounds_what_a_job_may_ask(
    farm: Farm, changes: dict[str, object], asked: dict[str, object], said: str
) -> None:
    """Length, steps, size, model and open jobs are refused by name, and nothing is written."""
    if "open_jobs" in changes:
        submit(farm)
    held = month_of(farm).held_gpu_ms
    farm = on_plan(farm, **changes)
    with pytest.raises(PlanLimit, match=said):
        submit(farm, brief(**asked))
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief(**asked))
    assert not told.fits
    assert said in str(told.refusal)
    assert month_of(farm).held_gpu_ms == held


def test_a_session_opens_with_what_its_plan_gives(farm: Farm) -> None:
    """No budget named: the plan's; more than the plan allows: refused, as is a top-up."""
    farm = on_plan(farm, session_gpu_ms=5_000, most_session_gpu_ms=6_000)
    made = sessions.create(farm, account_id=account_id(farm), name="new")
    assert made.limit_gpu_ms == 5_000
    with pytest.raises(PlanLimit, match="6 GPU-seconds"):
        sessions.top_up(farm, None, made.id, 1_001)
    with pytest.raises(PlanLimit):
        sessions.create(farm, account_id=account_id(farm), name="big", budget_gpu_ms=6_001)


def test_a_lowered_session_sinks_as_holds_release(farm: Farm) -> None:
    """A limit lowered under what is held never makes the balance negative."""
    job = submit(farm)
    session = sessions.find(farm, account_id(farm), None)
    lowered = sessions.lower(farm, None, session.id, 10)
    assert (lowered.limit_gpu_ms, lowered.available_gpu_ms) == (job.held_gpu_ms, 0)
    jobs.cancel(farm, None, job.id)
    assert sessions.get(farm, None, session.id).limit_gpu_ms == 10
    with pytest.raises(BadRequest, match="not lower"):
        sessions.lower(farm, None, session.id, 10)
    assert check.violations(farm) == []


def test_alerts_are_given_once_each(farm: Farm, clock: Clock) -> None:
    """Every threshold that spending crosses is an event and a line of the ledger, once."""
    quiet = submit(farm)
    Hand(farm, clock).work_off(gpu_ms=20)
    spent = jobs.get(farm, None, quiet.id).spent_gpu_ms
    farm = on_plan(farm, month_gpu_ms=10**9)
    tight = sessions.create(
        farm, account_id=account_id(farm), name="small", budget_gpu_ms=2 * quiet.held_gpu_ms
    )
    for _ in range(3):
        submit(farm, session="small")
        Hand(farm, clock, "again").work_off(gpu_ms=quiet.held_gpu_ms // 7)
    told = [
        event.data["percent"]
        for job in jobs.listing(farm, None, wanted=JobsWanted(session_id=tight.id)).items
        for event in jobs.events(farm, (job.id,), after=0)
        if event.kind == "budget" and event.data["scope"] == "session"
    ]
    lines = [
        entry
        for entry in sessions.ledger_page(farm, None, tight.id).items
        if entry.kind is EntryKind.ALERT
    ]
    assert spent
    assert told
    assert sorted(told) == sorted(set(told))
    assert len(lines) == len(told)
    assert check.violations(farm) == []


def test_a_hold_that_a_new_month_cannot_take_over_names_the_month(farm: Farm, clock: Clock) -> None:
    """A paused job keeps its hold for the video; the refusal says which limit and who helps."""
    hand = Hand(farm, clock)
    job = submit(farm, brief(seconds=8.0))
    for _ in range(2):  # the plan, and a first unit of frames
        order = hand.claim()
        assert order
        hand.done(order, 5)
    jobs.pause(farm, None, job.id)
    clock.advance(31 * DAY_SECONDS)
    farm = on_plan(farm, month_gpu_ms=1)
    with pytest.raises(BudgetExceeded, match="The job holds") as refused:
        jobs.resume(farm, None, job.id)
    facts = refused.value.data
    assert (facts["limit"], facts["limit_gpu_ms"], facts["available_gpu_ms"]) == ("month", 1, 1)
    assert facts["needed_gpu_ms"] == jobs.get(farm, None, job.id).held_gpu_ms
    assert ChangePlan(account_id(farm)) in refused.value.remedies
    assert check.violations(farm) == []


def test_an_alert_can_stop_new_jobs_and_all_jobs(farm: Farm, clock: Clock) -> None:
    """`pause_all` pauses what waits and refuses the next job; another plan ends it."""
    submit(farm)
    Hand(farm, clock).work_off(gpu_ms=20)
    farm = on_plan(farm, month_gpu_ms=40_000, alerts=(Alert(5, AlertAction.PAUSE_ALL),))
    waiting = submit(farm)
    use_up(Hand(farm, clock, "more"))
    assert jobs.get(farm, None, waiting.id).pause_reason is PauseReason.BUDGET
    with pytest.raises(BudgetExceeded, match="stops all jobs") as refused:
        submit(farm)
    assert refused.value.data["limit"] == "month"
    assert isinstance(refused.value.remedies[0], WaitForMonth)
    accounts.set_plan(farm, account_id(farm), "studio")
    Hand(farm, clock, "last").work_off()
    assert jobs.get(farm, None, waiting.id).state is JobState.SUCCEEDED
    assert check.violations(farm) == []


def test_accounts_are_opened_and_listed(farm: Farm) -> None:
    """A new account stands on its plan with an untouched month; an unknown plan is refused."""
    made = accounts.create(farm, name="guest", plan="free")
    assert (made.month.spent_gpu_ms, made.month.cap_gpu_ms) == (0, 600_000)
    opened = sessions.find(farm, made.account.id, None)
    assert (opened.name, opened.limit_gpu_ms) == ("default", 120_000)
    assert {each.account.name for each in accounts.listing(farm).items} == {"home", "guest"}
    with pytest.raises(BadRequest, match="no plan"):
        accounts.create(farm, name="x", plan="gold")
    with pytest.raises(NotFound):
        accounts.set_plan(farm, "acc_nobody", "free")


def test_a_month_is_named_by_utc(farm: Farm, clock: Clock) -> None:
    """Months begin at 00:00 UTC."""
    clock.now_ms = 1_793_491_199_999
    assert months.name_of(clock.now_ms) == "2026-10"
    assert months.name_of(clock.now_ms + 1) == "2026-11"
    with farm.store.read() as tx:
        home = tx.find(Account)[0]
        assert months.seen(farm, tx, home.id, clock.now_ms + 1).id == f"{home.id}.2026-11"


def test_a_quote_says_what_the_month_leaves(farm: Farm) -> None:
    """Available is the smaller of the session's room and its account's month."""
    farm = on_plan(farm, month_gpu_ms=1)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    assert (told.available_gpu_ms, told.fits) == (1, False)
    assert told.session.available_gpu_ms > 1
