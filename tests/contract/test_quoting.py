"""Quotes: what would fit, what is taken to fit, and how good they turn out to be."""

from dataclasses import replace
from typing import Any, cast

import pytest

from orchestrator import catalog
from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, keys, sessions
from orchestrator.farm.books import calibration
from orchestrator.farm.jobs.quoting import Alternative
from orchestrator.farm.leases import fleet, worker_calls
from orchestrator.model import Alert, Brief, Sample, Session, Size, Worker
from orchestrator.money.plans import Plans
from orchestrator.planning import planner
from orchestrator.remedies import AskForLess, ChangePlan, SeeAlternatives, TopUp, WaitForHolders
from orchestrator.states import AlertAction, JobState, KeyKind, OnExhausted, Outcome, UnitKind
from tests.factories import Clock, Hand, account_id, brief, submit

DEAR = 10


def spending(farm: Farm, gpu_ms: int, name: str = "small budget") -> Session:
    """Open a session with a budget."""
    return sessions.create(farm, account_id=account_id(farm), name=name, budget_gpu_ms=gpu_ms)


def with_a_dear_model(farm: Farm) -> None:
    """Offer `grand`, ten times as dear as the fake one, and make it the model that is asked for."""
    prior = catalog.FAKE.priors["cpu"]
    rate = prior.ms_per_frame_step_megapixel * DEAR
    grand = replace(
        catalog.FAKE,
        id="grand",
        parameters=10**9,
        min_steps=4,
        priors={"cpu": replace(prior, ms_per_frame_step_megapixel=rate)},
    )
    cast("dict[str, catalog.ModelCard]", farm.catalog.cards)[grand.id] = grand


def test_a_job_that_fits_is_left_alone(farm: Farm) -> None:
    """`fit` changes nothing where there is room."""
    told = jobs.submit(
        farm, account_id=account_id(farm), session_id=None, brief=brief(), fit=True
    ).job
    assert told.quote.fitted is None
    assert (told.steps, told.frames_total) == (submit(farm).steps, submit(farm).frames_total)


def test_fit_takes_the_best_that_fits(farm: Farm) -> None:
    """The job is the first alternative of its quote, says what gave, and holds within the rest."""
    asked = brief(seconds=8.0)
    whole = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    spending(farm, whole.quote.p90_gpu_ms * 2 // 3)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="small budget", brief=asked)
    assert not told.fits
    best = told.alternatives[0]
    fitting = jobs.estimate(
        farm, account_id=account_id(farm), session_id="small budget", brief=asked, fit=True
    )
    assert (fitting.fitted, fitting.quote, fitting.fits) == (best.label, best.quote, True)
    job = jobs.submit(
        farm, account_id=account_id(farm), session_id="small budget", brief=asked, fit=True
    ).job
    assert job.quote.fitted == best.label
    assert (job.steps, job.held_gpu_ms) == (best.brief.steps, best.quote.p90_gpu_ms)


def test_fit_stays_within_the_job_s_own_cap(farm: Farm) -> None:
    """max_gpu_seconds is a room of its own: the variant fits that too."""
    whole = jobs.estimate(
        farm, account_id=account_id(farm), session_id=None, brief=brief(seconds=8.0)
    )
    cap = whole.quote.p50_gpu_ms * 2 // 3
    job = jobs.submit(
        farm,
        account_id=account_id(farm),
        session_id=None,
        brief=brief(seconds=8.0, max_gpu_ms=cap),
        fit=True,
    ).job
    assert job.quote.fitted
    assert job.held_gpu_ms <= cap == job.cap_gpu_ms


def test_where_nothing_fits_fit_is_refused_like_any_other(farm: Farm) -> None:
    """A budget of nothing is over budget with or without `fit`; nothing is written."""
    spending(farm, 1)
    with pytest.raises(BudgetExceeded) as refused:
        jobs.submit(
            farm, account_id=account_id(farm), session_id="small budget", brief=brief(), fit=True
        )
    assert refused.value.data["alternatives"] == ()
    assert jobs.listing(farm, None).items == ()


def test_a_cheaper_model_is_offered(farm: Farm) -> None:
    """If another model can do it for less, it stands before smaller and shorter videos."""
    with_a_dear_model(farm)
    asked = brief(model="grand", seconds=8.0)
    whole = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    spending(farm, whole.quote.p90_gpu_ms // 5)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="small budget", brief=asked)
    labels = [each.label for each in told.alternatives]
    assert labels[0] == "the model fake instead of grand"
    assert told.alternatives[0].brief.seconds == asked.seconds
    assert told.alternatives[0].quote.price_microusd < whole.quote.price_microusd
    back = jobs.estimate(
        farm,
        account_id=account_id(farm),
        session_id="small budget",
        brief=brief(seconds=600.0),
    )
    assert not any("grand" in each.label for each in back.alternatives)


def offered(farm: Farm, asked: Brief) -> list[Alternative]:
    """Return what is offered where there is a little less than the wish needs."""
    whole = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    spending(farm, whole.quote.p90_gpu_ms - 1)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="small budget", brief=asked)
    costs = [each.quote.p50_gpu_ms for each in told.alternatives]
    assert costs == sorted(set(costs), reverse=True)
    return list(told.alternatives)


def test_frames_made_between_painted_ones_are_offered(farm: Farm) -> None:
    """As long and as smooth for fewer painted frames, before fewer frames are offered at all."""
    best = offered(farm, brief(seconds=8.0, fps=24, steps=1))[0]
    assert (best.brief.fps, best.brief.seconds, best.brief.interpolate) == (24, 8.0, 2)
    assert best.label == "12 of 24 frames a second painted, the others made of them"


def test_a_smaller_painting_scaled_up_is_offered(farm: Farm) -> None:
    """Of a model that paints smaller: a quarter of the pixels, and the video as large."""
    card = replace(catalog.FAKE, most_upscale=2)
    cast("dict[str, catalog.ModelCard]", farm.catalog.cards)["fake"] = card
    found = offered(farm, brief(seconds=8.0, fps=5, steps=1))
    (smaller,) = [each for each in found if each.brief.upscale == 2 and each.brief.seconds == 8.0]
    assert smaller.label == "painted at 32x32 and scaled up"
    assert smaller.quote.p50_gpu_ms < found[0].quote.p50_gpu_ms or smaller is found[0]


def test_fewer_frames_a_second_are_offered(farm: Farm) -> None:
    """If none can be made between, a video as long with fewer comes before a shorter one."""
    best = offered(farm, brief(seconds=8.0, fps=11, steps=1))[0]
    assert (best.brief.fps, best.brief.seconds) == (7, 8.0)
    assert "7 frames a second instead of 11" in best.label


def test_what_saves_next_to_nothing_is_not_offered(farm: Farm) -> None:
    """Nobody gives up half the frames for a hundredth of the price."""
    for each in offered(farm, brief(seconds=1.0, fps=12, steps=2, size=Size(width=32, height=32))):
        assert each.brief.size == Size(width=32, height=32), "a smaller picture saves nothing here"


def test_variants_keep_to_the_plan(farm: Farm) -> None:
    """A cheaper model that the account's plan lacks is not offered, nor taken to fit."""
    with_a_dear_model(farm)
    studio = farm.plans.named("studio")
    narrow = Plans({**farm.plans.plans, "studio": replace(studio, models=("grand",))})
    farm = replace(farm, plans=narrow)
    asked = brief(model="grand", seconds=8.0, steps=4)
    with pytest.raises(PlanLimit):
        submit(farm, brief(model="fake"))
    spending(farm, 20_000)
    offered = jobs.estimate(
        farm, account_id=account_id(farm), session_id="small budget", brief=asked
    )
    assert not any("fake" in each.label for each in offered.alternatives)


def test_fit_brings_a_wish_down_to_the_plan(farm: Farm) -> None:
    """If the plan allows fewer steps than were asked for, `fit` takes as many as it allows."""
    studio = farm.plans.named("studio")
    farm = replace(farm, plans=Plans({**farm.plans.plans, "studio": replace(studio, steps=3)}))
    job = jobs.submit(
        farm, account_id=account_id(farm), session_id=None, brief=brief(steps=4), fit=True
    ).job
    assert (job.steps, job.quote.fitted) == (3, "3 steps instead of 4")


def with_plan(farm: Farm, **changes: Any) -> Farm:
    """Return the farm with other limits in the account's plan."""
    studio = farm.plans.named("studio")
    return replace(farm, plans=Plans({**farm.plans.plans, "studio": replace(studio, **changes)}))


def test_what_a_plan_refuses_comes_with_what_it_allows(farm: Farm) -> None:
    """Too many steps: quote and refusal name the limit, and the first variant is taken."""
    farm = with_plan(farm, steps=3)
    asked = brief(steps=4)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    with pytest.raises(PlanLimit, match="3 denoising steps") as refused:
        submit(farm, asked, alternatives=True)
    assert told.refusal and told.refusal.message == refused.value.message
    assert told.alternatives == refused.value.data["alternatives"]
    assert submit(farm, told.alternatives[0].brief).steps == 3


@pytest.mark.parametrize("over", ["budget", "plan"])
def test_variants_are_planned_only_for_who_asks(
    farm: Farm, monkeypatch: pytest.MonkeyPatch, over: str
) -> None:
    """A refusal plans what was asked and nothing else, and says that a quote names the rest."""
    farm = with_plan(farm, steps=3) if over == "plan" else farm
    name = spending(farm, 50).name if over == "budget" else None
    planned: list[Brief] = []
    plan = planner.plan
    monkeypatch.setattr(
        planner, "plan", lambda asked, *a, **how: planned.append(asked) or plan(asked, *a, **how)
    )
    with pytest.raises((BudgetExceeded, PlanLimit)) as refused:
        submit(farm, brief(steps=4), session=name)
    assert len(planned) == 1
    assert "alternatives" not in refused.value.data
    assert SeeAlternatives() in refused.value.remedies
    assert AskForLess() not in refused.value.remedies
    with pytest.raises((BudgetExceeded, PlanLimit)) as named:
        submit(farm, brief(steps=4), session=name, alternatives=True)
    assert len(planned) > 2
    assert SeeAlternatives() not in named.value.remedies


def test_the_least_that_has_to_give_is_offered_first(farm: Farm) -> None:
    """If frames painted smaller are enough, nobody gives up their number besides."""
    card = replace(catalog.FAKE, most_upscale=2, min_steps=4)
    cast("dict[str, catalog.ModelCard]", farm.catalog.cards)["fake"] = card
    asked = brief(seconds=8.0, steps=4, fps=11)
    mine = account_id(farm)
    smaller = jobs.estimate(
        farm, account_id=mine, session_id=None, brief=replace(asked, upscale=2)
    ).quote
    spending(farm, smaller.p90_gpu_ms)
    told = jobs.estimate(farm, account_id=mine, session_id="small budget", brief=asked)
    assert told.alternatives[0].label == "painted at 32x32 and scaled up"
    assert "frames a second" in told.alternatives[1].label


def test_as_much_as_the_plan_allows_comes_first(farm: Farm) -> None:
    """Too long and too large at once: the plan's own length and size, and nothing else gives."""
    farm = with_plan(farm, seconds=3.0, pixels=48 * 48)
    asked = brief(seconds=8.0, steps=4, size=Size(width=64, height=64))
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    best = told.alternatives[0]
    assert (best.brief.seconds, best.brief.steps) == (3.0, 4)
    assert best.brief.size == Size(width=48, height=48)
    assert best.label == "48x48 pixels instead of 64x64, 3 s instead of 8"
    assert submit(farm, best.brief).seconds == 3.0


def test_a_quote_says_that_too_many_jobs_are_open(farm: Farm) -> None:
    """As the submission would; the open ones are named, and asking for less is no way out."""
    open_one = submit(farm)
    farm = with_plan(farm, open_jobs=1)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    with pytest.raises(PlanLimit) as refused:
        submit(farm)
    assert told.refusal and told.refusal.data == refused.value.data
    assert refused.value.data["open_jobs"] == [{"job_id": open_one.id, "state": "queued"}]
    assert (told.fits, told.alternatives) == (False, ())


def test_nothing_is_offered_that_would_be_refused_too(farm: Farm, clock: Clock) -> None:
    """A closed session and a budget stopped by an alert take no job, however small."""
    closed = spending(farm, 50)
    sessions.close(farm, None, closed.id)
    asked = brief()
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="small budget", brief=asked)
    assert told.refusal and "closed" in told.refusal.message
    assert told.alternatives == ()
    submit(farm)
    Hand(farm, clock).work_off(gpu_ms=30)
    month_gpu_ms = jobs.listing(farm, None).items[0].spent_gpu_ms * 2
    brake = (Alert(40, AlertAction.PAUSE_NEW),)
    farm = with_plan(farm, month_gpu_ms=month_gpu_ms, alerts=brake)
    accounts.set_plan(farm, account_id(farm), "free")
    accounts.set_plan(farm, account_id(farm), "studio")
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, alternatives=True)
    assert refused.value.data["alternatives"] == ()


def test_a_month_that_is_too_small_is_not_waited_for(farm: Farm) -> None:
    """A job that a whole month of the plan cannot pay, the next one cannot pay either."""
    farm = with_plan(farm, month_gpu_ms=20)
    accounts.set_plan(farm, account_id(farm), "free")
    accounts.set_plan(farm, account_id(farm), "studio")
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, brief(seconds=20.0))
    assert "A whole month of this plan has less" in refused.value.message
    assert refused.value.remedies == (SeeAlternatives(), ChangePlan(account_id(farm)))


def test_who_holds_too_little_is_not_waited_for(farm: Farm, clock: Clock) -> None:
    """Holds that come back are named as a way out only where they would suffice."""
    first = submit(farm)
    small = spending(farm, first.held_gpu_ms + 10)
    held = submit(farm, session=small.id)
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, brief(seconds=20.0), session=small.id)
    assert [each["job_id"] for each in refused.value.data["held_by"]] == [held.id]
    assert WaitForHolders() not in refused.value.remedies
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, session=small.id)
    assert WaitForHolders() in refused.value.remedies
    jobs.cancel(farm, None, first.id)
    hand = Hand(farm, clock)
    while not jobs.get(farm, None, held.id).frames_done:
        order = hand.claim()
        assert order
        hand.done(order, 1)
    jobs.pause(farm, None, held.id)
    assert jobs.get(farm, None, held.id).held_gpu_ms
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, brief(seconds=20.0), session=small.id)
    assert WaitForHolders() not in refused.value.remedies


def test_a_top_up_that_the_month_would_refuse_says_so(farm: Farm) -> None:
    """Both limits are named where a larger session would not be enough."""
    needed = submit(farm).held_gpu_ms
    farm = with_plan(farm, month_gpu_ms=2 * needed - 1)
    accounts.set_plan(farm, account_id(farm), "free")
    accounts.set_plan(farm, account_id(farm), "studio")
    small = spending(farm, 10)
    with pytest.raises(BudgetExceeded) as refused:
        submit(farm, session=small.id)
    top_up, another, *_ = refused.value.remedies
    assert isinstance(top_up, TopUp) and another == ChangePlan(account_id(farm))
    assert "The account's month has" in refused.value.message


def test_a_video_that_was_cut_off_says_nothing_of_its_quote(farm: Farm, clock: Clock) -> None:
    """It cost less than its p90 because it is less: it is no job that came in under."""
    asked = brief(seconds=8.0, on_exhausted=OnExhausted.FINISH)
    whole = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    job = submit(farm, replace(asked, max_gpu_ms=whole.quote.p50_gpu_ms // 2))
    hand = Hand(farm, clock)
    while order := hand.claim():
        clock.advance(10)
        hand.complete(order, Outcome.DONE, gpu_ms=order.gpu_ms_limit)

    hand.work_off(10)  # the exhausted job was given up for a video of what there is
    ended = jobs.get(farm, None, job.id)
    assert (ended.state, ended.truncated) == (JobState.SUCCEEDED, True)
    assert calibration.calibration(farm)["jobs"] == 0


def test_quotes_are_for_devices_that_are_there(farm: Farm, clock: Clock) -> None:
    """A farm of one kind of GPU without a receipt is quoted by that GPU's prior, not a CPU's."""
    slow = catalog.FAKE.priors["cpu"]
    quick = replace(slow, ms_per_frame_step_megapixel=slow.ms_per_frame_step_megapixel / 20)
    card = replace(catalog.FAKE, priors={"cpu": slow, "nvidia-t4": quick})
    cast("dict[str, catalog.ModelCard]", farm.catalog.cards)["fake"] = card
    nobody = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    assert "for cpu" in nobody.quote.basis
    join, _ = keys.create(farm, account_id=None, kind=KeyKind.JOIN, name="join")
    hello = Hand(farm, clock).hello().model_copy(update={"name": "t4", "device_class": "nvidia-t4"})
    t4 = worker_calls.hello(farm, join, hello).worker_id
    fleet.drain(farm, jobs_hand(farm))
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    assert "for nvidia-t4" in told.quote.basis
    assert told.quote.p50_gpu_ms < nobody.quote.p50_gpu_ms
    fleet.drain(farm, t4)
    gone = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=brief())
    assert gone.quote.basis == nobody.quote.basis


def jobs_hand(farm: Farm) -> str:
    """Return the worker with a CPU."""
    with farm.store.read() as tx:
        (found,) = tx.find(Worker, device_class="cpu")
    return found.id


def test_an_empty_farm_says_how_to_get_figures(farm: Farm) -> None:
    """Calibration without a job is no division by nothing, and says what brings figures."""
    told = calibration.calibration(farm)
    assert (told["jobs"], told["under_p90_percent"], told["rows"]) == (0, None, [])
    assert "No job has ended yet" in told["note"]


def test_ended_jobs_are_held_against_their_quotes(farm: Farm, clock: Clock) -> None:
    """A finished job counts, an unfinished one only when it has cost more than its p90."""
    hand = Hand(farm, clock)
    submit(farm)
    hand.work_off(gpu_ms=10)
    dear = submit(farm)
    while order := hand.claim():
        clock.advance(10)
        hand.complete(order, Outcome.DONE, gpu_ms=order.gpu_ms_limit)
    assert jobs.get(farm, None, dear.id).spent_gpu_ms > dear.quote.p90_gpu_ms
    jobs.cancel(farm, None, submit(farm).id)
    told = calibration.calibration(farm)
    assert (told["jobs"], told["under_p90"], told["under_p90_percent"]) == (2, 1, 50.0)
    (row,) = told["rows"]
    assert (row["model"], row["device_class"], row["basis"]) == ("fake", "cpu", "prior")
    assert calibration.calibration(farm, newest=1)["jobs"] == 1


def test_a_lie_makes_nobody_s_quote_dearer(farm: Farm, clock: Clock) -> None:
    """Quotes learn of a unit at most the time the farm saw between grant and report."""
    hand = Hand(farm, clock)
    submit(farm)
    while order := hand.claim():
        clock.advance(2)
        hand.complete(order, Outcome.DONE, gpu_ms=1_000_000)
    with farm.store.read() as tx:
        learned = [sample.gpu_ms for sample in tx.find(Sample)]
    assert learned
    assert max(learned) <= 2_000


def test_one_look_at_the_receipts_serves_for_a_while(farm: Farm, clock: Clock) -> None:
    """A quote rests on receipts as they were at most `look_seconds` ago."""
    farm = replace(farm, terms=replace(farm.terms, look_seconds=2.0))
    mine = account_id(farm)

    def basis() -> str:
        asked = brief()
        return jobs.estimate(farm, account_id=mine, session_id=None, brief=asked).quote.basis

    before = basis()
    with farm.store.write() as tx:
        for number in range(5):
            sample = Sample(
                id=f"smp_{number}",
                model="fake",
                device_class="cpu",
                kind=UnitKind.RENDER,
                gpu_ms=100,
                work=1.0,
                at_ms=clock(),
            )
            tx.add(sample)
    clock.advance(1.9)
    assert basis() == before == "scaled from a card for cpu: the prior of fake, no receipts yet"
    clock.advance(0.1)
    assert basis() == "measured on its class (cpu): 5 receipts of fake"
