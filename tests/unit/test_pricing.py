"""Prices: priors, quantiles of receipts, rounding, sums."""

from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.catalog import FAKE, CostPrior, ModelCard
from orchestrator.model import Brief, JobSample, Pace, RenderPlan, Sample, Size
from orchestrator.money import pricing, rates
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.states import Basis, OnExhausted, UnitKind

PRIOR = CostPrior(ms_per_frame_step_megapixel=1000.0, decode_ms_per_frame=2.0, startup_ms=9000)
RATES = rates.shipped().cards[0]
CARD: ModelCard = replace(FAKE, id="priced", priors={"cpu": PRIOR})


def plan(**asked: object) -> RenderPlan:
    """Return a plan of the card's model."""
    brief = Brief(prompt="a dog", **asked)  # type: ignore[arg-type]
    screenplay = parser.parse("a dog", vocabulary=CARD.vocabulary)
    return planner.plan(brief, screenplay, CARD, seed=1)


def sample(number: int, gpu_ms: int, **changes: object) -> Sample:
    """Return a render receipt of one megapixel-step."""
    facts: dict[str, object] = {
        "id": f"smp_{number:04}",
        "model": CARD.id,
        "device_class": "cpu",
        "kind": UnitKind.RENDER,
        "gpu_ms": gpu_ms,
        "work": 1.0,
        "at_ms": number,
    }
    return Sample(**facts | changes)  # type: ignore[arg-type]


def test_the_prior_is_the_card_s_own_arithmetic() -> None:
    """24 frames of 64x64 in 4 steps: frames · (steps · megapixels · rate + decode)."""
    costs = pricing.CostModel.fit([], CARD, RATES)
    render = pricing.quote(plan(), costs).stages[1]
    assert render.p50_gpu_ms == 442  # ceil(24 · (4 · 0.004096 · 1000 + 2)) = ceil(441.2)
    assert render.p90_gpu_ms == 795  # ceil(441.2 · 1.8)
    quote = pricing.quote(plan(), costs)
    assert quote.basis == "scaled from a card for cpu: the prior of priced, no receipts yet"
    assert (quote.basis_kind, quote.receipts, quote.extrapolated) == (Basis.CARD, 0, False)


def test_a_started_micro_batch_is_paid_whole() -> None:
    """The last micro-batch is padded, so 21 frames cost what 24 do."""
    costs = pricing.CostModel.fit([], CARD, RATES)
    whole = pricing.quote(plan(seconds=2.0), costs).stages[1]
    padded = pricing.quote(plan(seconds=21 / 12), costs).stages[1]
    assert padded.p50_gpu_ms == whole.p50_gpu_ms
    assert pricing.work_of(UnitKind.RENDER, plan(), 21) == pytest.approx(24 * 4 * 0.004096)


def test_four_receipts_say_nothing_and_five_do() -> None:
    """Under five receipts the prior stands; from five on the farm's own figures."""
    slow = [sample(n, 4000) for n in range(5)]
    prior = pricing.quote(plan(), pricing.CostModel.fit([], CARD, RATES))
    assert pricing.quote(plan(), pricing.CostModel.fit(slow[:4], CARD, RATES)) == prior
    fitted = pricing.quote(plan(), pricing.CostModel.fit(slow, CARD, RATES))
    assert fitted.p50_gpu_ms > 3 * prior.stages[1].p50_gpu_ms
    assert fitted.basis == "measured on its class (cpu): 5 receipts of priced"
    assert (fitted.basis_kind, fitted.receipts) == (Basis.CLASS, 5)


def test_one_wild_receipt_moves_nothing() -> None:
    """The median is robust: a hung worker's hour does not change the quote."""
    calm = [sample(n, 1000) for n in range(20)]
    wild = [*calm, sample(20, 3_600_000)]
    a, b = (pricing.CostModel.fit(s, CARD, RATES).factor(UnitKind.RENDER) for s in (calm, wild))
    assert (a.p50, a.p90) == (b.p50, b.p90)
    assert a.p90 == pytest.approx(a.p50 * pricing.MIN_SPREAD)


@pytest.mark.parametrize("count", [5, 8, 10, 20])
def test_a_hung_unit_among_few_does_not_make_quotes_absurd(count: int) -> None:
    """One receipt of a hundred times the others counts as WILD times their median."""
    samples = [sample(n, 2000) for n in range(count - 1)] + [sample(count, 200_000)]
    factor = pricing.CostModel.fit(samples, CARD, RATES).factor(UnitKind.RENDER)
    calm = pricing.CostModel.fit(samples[:-1] * 2, CARD, RATES).factor(UnitKind.RENDER)
    assert factor.p50 == pytest.approx(calm.p50)
    assert calm.p90 <= factor.p90 <= calm.p50 * pricing.WILD


def test_wild_jobs_do_not_make_quotes_absurd() -> None:
    """Two of twenty that cost a hundred times their p50 are at most WILD_JOB times the median."""
    costs = pricing.CostModel.fit([sample(n, 2000) for n in range(20)], CARD, RATES)
    usual = pricing.quote(plan(), costs).p50_gpu_ms
    ended = [
        JobSample(
            id=f"jsm_{n:04}",
            job_id="j",
            model=CARD.id,
            device_class="cpu",
            p50_gpu_ms=usual,
            p90_gpu_ms=2 * usual,
            spent_gpu_ms=usual * (100 if n < 2 else 1),
            measured=True,
            at_ms=n,
        )
        for n in range(pricing.ENOUGH_JOBS)
    ]
    samples = [sample(n, 2000) for n in range(20)]
    fitted = pricing.CostModel.fit(samples, CARD, RATES, jobs=ended)
    assert fitted.whole == pytest.approx(pricing.WILD_JOB)


def test_the_devices_that_are_there_are_quoted() -> None:
    """Not one that is gone, however well it is known; of several the cheapest one that is known."""
    priors = {"cpu": PRIOR, "nvidia-t4": replace(PRIOR, ms_per_frame_step_megapixel=50.0)}
    card = replace(CARD, priors=priors)
    known = [sample(n, 2000) for n in range(9)]
    gone = [sample(n + 20, 50, device_class="nvidia-t4") for n in range(9)]
    fit = pricing.CostModel.fit
    assert fit([*known, *gone], card, RATES, present={"cpu": ("w",)}).device_class == "cpu"
    assert fit([*known, *gone], card, RATES).device_class == "nvidia-t4"
    assert (
        fit(known, card, RATES, present={"cpu": ("w",), "nvidia-t4": ("g",)}).device_class == "cpu"
    )
    assert (
        fit([], card, RATES, present={"cpu": ("w",), "nvidia-t4": ("g",)}).device_class
        == "nvidia-t4"
    )
    assert fit([], card, RATES, present={"nvidia-t4": ("g",)}).device_class == "nvidia-t4"


def test_frames_made_of_others_cost_what_ffmpeg_needs_for_them() -> None:
    """Half the frames are painted; the other half is work of the encode unit."""
    costs = pricing.CostModel.fit([], CARD, RATES)
    whole, half = (pricing.quote(plan(seconds=4.0, interpolate=n), costs) for n in (1, 2))
    assert half.stages[1].p50_gpu_ms < whole.stages[1].p50_gpu_ms * 0.6
    made = pricing.ENCODE_MS_PER_MEGAPIXEL * pricing.MADE * 24 * CARD.native.megapixels
    assert half.stages[2].p50_gpu_ms - whole.stages[2].p50_gpu_ms == pytest.approx(made, abs=1)


def test_frames_painted_in_passes_are_quoted_what_their_encoding_takes() -> None:
    """They are encoded when all are there; with made frames between them that is in those."""
    costs = pricing.CostModel.fit([], CARD, RATES)

    def encode_ms(**changes: object) -> int:
        return pricing.quote(plan(seconds=4.0, **changes), costs).stages[2].p50_gpu_ms

    passes: dict[str, object] = {"on_exhausted": OnExhausted.FINISH}
    encoded = pricing.ENCODE_MS_PER_MEGAPIXEL * pricing.ENCODED * 48 * CARD.output.megapixels
    assert encode_ms(**passes) - encode_ms() == pytest.approx(encoded, abs=1)
    assert encode_ms(**passes, interpolate=2) == encode_ms(interpolate=2)


def test_only_the_newest_receipts_count() -> None:
    """A farm that got a faster machine 200 units ago is a fast farm, in any order."""
    samples = [sample(n, 9000) for n in range(300)] + [sample(300 + n, 900) for n in range(200)]
    fitted = pricing.CostModel.fit(samples[::-1], CARD, RATES).factor(UnitKind.RENDER)
    assert fitted.samples == 200
    assert fitted.p50 < 1


def test_a_profile_is_fitted_to_its_own_receipts() -> None:
    """Few steps cost more each (texts, decode): once measured, each profile has its own factor."""
    card = replace(CARD, profiles={"fast": 2, "best": 8})
    slow = [sample(n, 3000, steps=2) for n in range(5)]
    calm = [sample(9 + n, 1000, steps=8) for n in range(9)]
    costs = pricing.CostModel.fit([*slow, *calm, sample(30, 1000, steps=4)], card, RATES)
    fast, best, own = (costs.factor(UnitKind.RENDER, steps) for steps in (2, 8, 4))
    assert (fast.samples, best.samples, own.samples) == (5, 9, 15)
    assert fast.p50 > 2 * best.p50
    fast_words = "measured on its class (cpu): 5 receipts of priced, profile fast"
    assert costs.basis(plan(steps=2)) == fast_words
    assert costs.basis(plan(steps=4)) == "measured on its class (cpu): 15 receipts of priced"
    few = pricing.CostModel.fit(slow[:4] + calm, card, RATES)
    assert few.factor(UnitKind.RENDER, 2) == few.factor(UnitKind.RENDER)
    asked = pricing.quote(plan(steps=2), costs)
    assert asked.profile == "fast"


def test_receipts_of_others_do_not_count() -> None:
    """Another model's, and another device's, receipts leave a CPU quote alone."""
    others = [sample(n, 9000, model="other") for n in range(9)]
    assert pricing.CostModel.fit(others, CARD, RATES).basis_kind is Basis.CARD
    gpus = [sample(n, 9, device_class="nvidia-t4") for n in range(9)]
    asked = pricing.CostModel.fit(gpus, CARD, RATES, "cpu")
    assert (asked.device_class, asked.basis_kind) == ("cpu", Basis.CARD)


def test_the_cheapest_known_device_is_quoted() -> None:
    """A T4 that is fifty times faster than the CPU costs less, though a second of it costs more."""
    cpu = [sample(n, 1000) for n in range(5)]
    gpu = [sample(100 + n, 20, device_class="nvidia-t4") for n in range(5)]
    slow_gpu = [sample(100 + n, 500, device_class="nvidia-t4") for n in range(5)]
    assert pricing.CostModel.fit(cpu + gpu, CARD, RATES).device_class == "nvidia-t4"
    assert pricing.CostModel.fit(cpu + slow_gpu, CARD, RATES).device_class == "cpu"


def pace(step_ms: float, *, size: float = 0.016384, **changes: object) -> Pace:
    """Return a pace of the card at its native micro-batch of 4 frames of 64x64."""
    facts: dict[str, object] = {
        "id": "pac_1",
        "worker_id": "w",
        "model": CARD.id,
        "device_class": "cpu",
        "megapixels": size,
        "step_gpu_ms": step_ms,
        "decode_gpu_ms": step_ms / 2,
        "load_gpu_ms": 700,
        "at_ms": 1,
    }
    return Pace(**facts | changes)  # type: ignore[arg-type]


def test_a_measured_pace_is_quoted_in_place_of_a_card_that_is_wrong() -> None:
    """10 ms a step and 5 ms a decode, whatever the card says: six micro-batches of four steps."""
    costs = pricing.CostModel.fit([], CARD, RATES, paces=[pace(10.0)], present={"cpu": ("w",)})
    quote = pricing.quote(plan(), costs)
    assert quote.stages[1].p50_gpu_ms == 6 * (4 * 10 + 5)
    assert quote.step_prior == (10, 5)
    assert quote.startup_gpu_ms == 700
    assert (quote.basis_kind, quote.receipts, quote.measured) == (Basis.DEVICE, 0, False)
    assert quote.basis == "measured on this device (cpu): the pace of priced, no receipts yet"


def test_a_pace_of_others_of_the_class_is_its_class_s() -> None:
    """Of several workers the median counts; a worker that is there before one that is gone."""
    paces = [pace(ms, id=f"pac_{ms}", worker_id=f"w{ms}") for ms in (1.0, 10.0, 900.0)]
    several = {"cpu": ("w1.0", "w10.0", "w900.0")}
    costs = pricing.CostModel.fit([], CARD, RATES, paces=paces, present=several)
    assert costs.basis_kind is Basis.CLASS
    assert costs.law.step_ms(0.016384) == pytest.approx(10)
    alone = pricing.CostModel.fit([], CARD, RATES, paces=paces, present={"cpu": ("w900.0",)})
    assert (alone.basis_kind, round(alone.law.step_ms(0.016384))) == (Basis.DEVICE, 900)
    new = pricing.CostModel.fit([], CARD, RATES, paces=paces, present={"cpu": ("new",)})
    assert (new.basis_kind, round(new.law.step_ms(0.016384))) == (Basis.CLASS, 10)


def test_a_class_that_no_card_knows_is_scaled_by_its_own_speed() -> None:
    """By what it made of other models; never what a CPU costs, for a GPU."""
    there = {"nvidia-x": ("w",)}
    cpu = pricing.CostModel.fit([], CARD, RATES).law.step_ms(1.0)
    fast = pricing.CostModel.fit([], CARD, RATES, present=there, speeds={"nvidia-x": 40.0})
    assert fast.law.step_ms(1.0) == pytest.approx(cpu / 40)
    assert pricing.quote(plan(), fast).basis.startswith("scaled from a card for nvidia-x")
    by_price = pricing.CostModel.fit([], CARD, RATES, present=there).law.step_ms(1.0)
    assert by_price == pytest.approx(cpu * RATES.per_second("cpu") / RATES.per_second("nvidia-x"))


def attention_samples(sizes: tuple[float, ...], each: int = 3) -> list[Sample]:
    """Return receipts of a device whose step costs 100·m + 400·m², whose decode 3 + 50·m."""
    steps, batches = 4, 2
    made = []
    for n in range(each * len(sizes)):
        size = sizes[n % len(sizes)]
        denoise = steps * batches * (100 * size + 400 * size**2)
        decode = batches * (3 + 50 * size)
        made.append(
            sample(
                n,
                round(denoise + decode),
                steps=steps,
                megapixels=size,
                work=steps * batches * size,
                denoise_gpu_ms=round(denoise),
                decode_gpu_ms=round(decode),
            )
        )
    return made


def test_a_law_of_attention_is_found_in_receipts_of_three_sizes() -> None:
    """Both constants of a step and of a decode come back, where one of each is 3.5 times off."""
    costs = pricing.CostModel.fit(attention_samples((0.25, 0.5, 1.0)), CARD, RATES)
    for size in (0.3, 1.0, 2.0):
        assert costs.law.step_ms(size) == pytest.approx(100 * size + 400 * size**2, rel=0.02)
        assert costs.law.decode_ms(size) == pytest.approx(3 + 50 * size, rel=0.1)
    assert costs.factor(UnitKind.RENDER).p50 == pytest.approx(1, rel=0.02)
    flat = pricing.CostModel.fit(attention_samples((0.25, 0.5), 5), CARD, RATES)
    assert flat.law.square == 0, "two sizes scale the law that was there"


def test_a_size_that_never_ran_is_extrapolated_and_says_so() -> None:
    """Its p90 is as wide as nobody's; a size between measured ones is not extrapolated."""
    costs = pricing.CostModel.fit(attention_samples((0.008, 0.01, 0.0164)), CARD, RATES)
    inside, beyond = (
        pricing.quote(replace(plan(), native=Size(width=side, height=side)), costs)
        for side in (64, 256)
    )
    assert (inside.extrapolated, beyond.extrapolated) == (False, True)
    assert "extrapolated" in beyond.basis
    assert "extrapolated" not in inside.basis
    assert beyond.p90_gpu_ms >= beyond.stages[1].p50_gpu_ms * pricing.PRIOR_SPREAD


def test_a_hung_unit_is_no_law() -> None:
    """One receipt in ten of a hundred times the others bends nothing."""
    calm = attention_samples((0.25, 0.5, 1.0), 10)
    hung = [
        replace(s, gpu_ms=100 * s.gpu_ms, denoise_gpu_ms=100 * s.denoise_gpu_ms) if n == 29 else s
        for n, s in enumerate(calm)
    ]
    bent = pricing.CostModel.fit(hung, CARD, RATES).law.step_ms(1.0)
    assert bent == pytest.approx(500, rel=0.02)


@given(
    sizes=st.lists(st.floats(0.001, 10), min_size=3, max_size=6),
    ms=st.lists(st.integers(0, 10**7), min_size=6, max_size=6),
)
def test_no_receipts_make_a_law_that_falls(sizes: list[float], ms: list[int]) -> None:
    """Whatever was measured, more pixels never cost less, and nothing costs less than nothing."""
    made = [
        sample(
            n,
            max(1, ms[n % 6]),
            steps=4,
            megapixels=sizes[n % len(sizes)],
            work=4 * sizes[n % len(sizes)],
            denoise_gpu_ms=ms[n % 6],
            decode_gpu_ms=ms[-1 - n % 6],
        )
        for n in range(12)
    ]
    law = pricing.CostModel.fit(made, CARD, RATES).law
    for small, large in pairwise((0.001, 0.1, 1.0, 10.0)):
        assert 0 <= law.step_ms(small) <= law.step_ms(large)
        assert 0 <= law.decode_ms(small) <= law.decode_ms(large)


@given(
    gpu_ms=st.lists(st.integers(1, 10**6), max_size=30),
    seconds=st.floats(0.05, 60),
    steps=st.integers(1, 50),
)
def test_a_quote_is_the_sum_of_its_units(gpu_ms: list[int], seconds: float, steps: int) -> None:
    """p50 and p90 add up over units, p90 is never below p50, and everything costs something."""
    costs = pricing.CostModel.fit([sample(n, ms) for n, ms in enumerate(gpu_ms)], CARD, RATES)
    made = plan(seconds=seconds, steps=steps)
    quote = pricing.quote(made, costs)
    units = [pricing.unit_cost(costs, UnitKind.RENDER, made, batch) for batch in made.batches]
    units += [pricing.unit_cost(costs, kind, made) for kind in (UnitKind.PARSE, UnitKind.ENCODE)]
    assert quote.p50_gpu_ms == sum(unit.p50_gpu_ms for unit in units)
    if costs.whole is None:
        assert quote.p90_gpu_ms == sum(unit.p90_gpu_ms for unit in units)
    assert quote.p50_gpu_ms <= quote.p90_gpu_ms
    assert [stage.stage for stage in quote.stages] == ["parse", "render", "encode"]
    for unit in units:
        assert 1 <= unit.p50_gpu_ms <= unit.p90_gpu_ms
        assert 1 <= unit.minimum_gpu_ms <= unit.p90_gpu_ms


@given(ms=st.floats(0.01, 1e5), steps=st.integers(1, 50))
def test_a_floor_lets_the_meter_take_its_steps(ms: float, steps: int) -> None:
    """The floor covers two steps of a micro-batch at p50 and its decode, up to rounding."""
    card = replace(CARD, priors={"cpu": replace(PRIOR, ms_per_frame_step_megapixel=ms)})
    costs = pricing.CostModel.fit([], card, RATES)
    made = plan(steps=steps)
    step, decode = pricing.step_prior(costs, made)
    floor = pricing.unit_cost(costs, UnitKind.RENDER, made, made.batches[0]).minimum_gpu_ms
    assert floor >= min(steps, 2) * (step - 1) + decode - 1
    assert floor >= step + decode


@pytest.mark.parametrize(
    ("gpu_ms", "device", "price"),
    [(0, "cpu", 0), (1, "cpu", 1), (1000, "cpu", 14), (1001, "cpu", 15), (1000, "abacus", 280)],
)
def test_prices_are_whole_and_rounded_up(gpu_ms: int, device: str, price: int) -> None:
    """Money is an integer of micro-USD, never rounded in the payer's favour."""
    assert RATES.price_microusd(gpu_ms, device) == price
