"""Quotes: what would fit, what is taken to fit, and how good they turn out to be."""

from dataclasses import replace
from typing import cast

import pytest

from orchestrator import catalog
from orchestrator.errors import BudgetExceeded, PlanLimit
from orchestrator.farm import Farm, calibration, jobs, sessions
from orchestrator.farm.quoting import Alternative
from orchestrator.model import Brief, Sample, Session, Size
from orchestrator.states import Outcome
from orchestrator.tiers import Tiers
from tests.factories import Clock, Hand, account_id, brief, submit

DEAR = 10


def purse(farm: Farm, gpu_ms: int, name: str = "purse") -> Session:
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
    assert told.quote["fitted"] is None
    assert (told.steps, told.frames_total) == (submit(farm).steps, submit(farm).frames_total)


def test_fit_takes_the_best_that_fits(farm: Farm) -> None:
    """The job is the first alternative of its quote, says what gave, and holds within the rest."""
    asked = brief(seconds=8.0)
    whole = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    purse(farm, whole.quote.p90_gpu_ms * 2 // 3)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="purse", brief=asked)
    assert not told.fits
    best = told.alternatives[0]
    fitting = jobs.estimate(
        farm, account_id=account_id(farm), session_id="purse", brief=asked, fit=True
    )
    assert (fitting.fitted, fitting.quote, fitting.fits) == (best.label, best.quote, True)
    job = jobs.submit(
        farm, account_id=account_id(farm), session_id="purse", brief=asked, fit=True
    ).job
    assert job.quote["fitted"] == best.label
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
    assert job.quote["fitted"]
    assert job.held_gpu_ms <= cap == job.cap_gpu_ms


def test_where_nothing_fits_fit_is_refused_like_any_other(farm: Farm) -> None:
    """A purse for nothing is over budget with or without `fit`; nothing is written."""
    purse(farm, 1)
    with pytest.raises(BudgetExceeded) as refused:
        jobs.submit(farm, account_id=account_id(farm), session_id="purse", brief=brief(), fit=True)
    assert refused.value.data["alternatives"] == ()
    assert jobs.listing(farm, None).items == ()


def test_a_cheaper_model_is_offered(farm: Farm) -> None:
    """Where another model can do it for less, it stands before smaller and shorter videos."""
    with_a_dear_model(farm)
    asked = brief(model="grand", seconds=8.0)
    whole = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    purse(farm, whole.quote.p90_gpu_ms // 5)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="purse", brief=asked)
    labels = [each.label for each in told.alternatives]
    assert labels[0] == "the model fake instead of grand"
    assert told.alternatives[0].brief.seconds == asked.seconds
    assert told.alternatives[0].quote.price_microusd < whole.quote.price_microusd
    back = jobs.estimate(
        farm,
        account_id=account_id(farm),
        session_id="purse",
        brief=brief(seconds=600.0),
    )
    assert not any("grand" in each.label for each in back.alternatives)


def offered(farm: Farm, asked: Brief) -> list[Alternative]:
    """Return what is offered where there is a little less than the wish needs."""
    whole = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    purse(farm, whole.quote.p90_gpu_ms - 1)
    told = jobs.estimate(farm, account_id=account_id(farm), session_id="purse", brief=asked)
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
    """Where none can be made between, a video as long with fewer comes before a shorter one."""
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
    studio = farm.tiers.named("studio")
    narrow = Tiers({**farm.tiers.tiers, "studio": replace(studio, models=("grand",))})
    farm = replace(farm, tiers=narrow)
    asked = brief(model="grand", seconds=8.0, steps=4)
    with pytest.raises(PlanLimit):
        submit(farm, brief(model="fake"))
    purse(farm, 20_000)
    offered = jobs.estimate(farm, account_id=account_id(farm), session_id="purse", brief=asked)
    assert not any("fake" in each.label for each in offered.alternatives)


def test_fit_brings_a_wish_down_to_the_plan(farm: Farm) -> None:
    """Where the plan allows fewer steps than were asked for, `fit` takes as many as it allows."""
    studio = farm.tiers.named("studio")
    farm = replace(farm, tiers=Tiers({**farm.tiers.tiers, "studio": replace(studio, steps=3)}))
    job = jobs.submit(
        farm, account_id=account_id(farm), session_id=None, brief=brief(steps=4), fit=True
    ).job
    assert (job.steps, job.quote["fitted"]) == (3, "3 steps instead of 4")


def test_an_empty_farm_says_how_to_get_figures(farm: Farm) -> None:
    """Calibration without a job is no division by nothing, and names the next step."""
    told = calibration.calibration(farm)
    assert (told["jobs"], told["under_p90_percent"], told["rows"]) == (0, None, [])
    assert "farm render" in told["next"]


def test_ended_jobs_are_held_against_their_quotes(farm: Farm, clock: Clock) -> None:
    """A finished job counts, an unfinished one only when it has cost more than its p90."""
    hand = Hand(farm, clock)
    submit(farm)
    hand.work_off(gpu_ms=10)
    dear = submit(farm)
    while order := hand.claim():
        clock.advance(10)
        hand.complete(order, Outcome.DONE, gpu_ms=order.gpu_ms_limit)
    assert jobs.get(farm, None, dear.id).spent_gpu_ms > dear.quote["p90_gpu_ms"]
    jobs.cancel(farm, None, submit(farm).id)
    told = calibration.calibration(farm)
    assert (told["jobs"], told["under_p90"], told["under_p90_percent"]) == (2, 1, 50.0)
    (row,) = told["rows"]
    assert (row["model"], row["device_class"], row["basis"]) == ("fake", "cpu", "prior")
    assert calibration.calibration(farm, newest=1)["jobs"] == 1


def test_a_lie_makes_nobody_s_quote_dearer(farm: Farm, clock: Clock) -> None:
    """What quotes learn of a unit is at most the time the farm saw between grant and report."""
    hand = Hand(farm, clock)
    submit(farm)
    while order := hand.claim():
        clock.advance(2)
        hand.complete(order, Outcome.DONE, gpu_ms=1_000_000)
    with farm.store.read() as tx:
        learned = [sample.gpu_ms for sample in tx.find(Sample)]
    assert learned
    assert max(learned) <= 2_000
