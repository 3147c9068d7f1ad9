"""The cost of a render plan: integer GPU-ms, p50 and p90, and a price.

The card's prior says how costs *grow* with work; this farm's own receipts say by what
factor the farm differs from it, by the model's profile where that was measured often enough::

    render unit   ceil(frames / micro_batch) micro-batches, each
                  micro_batch · (steps · native megapixels · ms_per_frame_step_megapixel
                                 + decode_ms_per_frame · native megapixels / card's)
    encode unit   ENCODE_BASE_MS + ENCODE_MS_PER_MEGAPIXEL · (frames · output megapixels
                                 + ENCODED · frames painted in passes · output megapixels
                                 + MADE · interpolated frames · native megapixels)
    parse unit     PARSE_MS
    p50, p90      that, times the quantiles of measured / predicted over the newest 200 samples,
                  of which none counts for more than WILD times their median

All results are rounded up. A quote's p50 is the sum of its units' p50s. The sum of their p90s
is more than the p90 of the sum, since not all are late at once; so once ENOUGH_JOBS quoted jobs
have ended, its p90 is p50 times the 0.9 quantile of what those spent over what their p50 was
(split conformal prediction: of jobs like them, nine in ten stay under it, whatever the shape of
the noise). It is never less than the encode reserve and a first render unit need. Its ceiling is
CEILING times that: what a job is charged at most where its plan has quotes that hold.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil
from typing import Final

from orchestrator.catalog import ModelCard
from orchestrator.model import FrameBatch, JobSample, Quote, RenderPlan, Sample, StageCost
from orchestrator.money.rates import RateCard
from orchestrator.states import UnitKind

NEWEST: Final = 200
"""Samples of a kind that count; older ones knew another farm."""
ENOUGH: Final = 5
"""Fewer samples than this say less than the prior."""
ENOUGH_JOBS: Final = 20
"""Fewer jobs against their quotes say less than the sum of the units' p90s."""
WILD: Final = 4.0
"""A unit that took so many times the median says that a machine hung, not how long work takes:
it counts as that much. Of ten samples the p90 is next to the largest."""
WILD_JOB: Final = 10.0
"""The same of jobs: the slowest in ten may well be those in which something hung."""
LOADS: Final = 3
"""Fewer model loads than this say less than the card's prior."""
PRIOR_SPREAD: Final = 1.6
"""p90 / p50 while nothing is measured."""
LEAST_STEPS: Final = 2
"""Of a micro-batch, with a decode: fewer are not worth a lease, its texts and its checkpoint."""
CEILING: Final = 1.25
"""A quote's ceiling over its p90: what it is beyond that is the farm's risk."""
MIN_SPREAD: Final = 1.15
"""p90 / p50 at least: a quiet afternoon of equal receipts promises nothing."""
PARSE_MS: Final = 10.0
"""Parsing a prompt on one CPU core."""
ENCODE_BASE_MS: Final = 400.0
"""Starting FFmpeg for the join, the poster and the contact sheet."""
ENCODE_MS_PER_MEGAPIXEL: Final = 6.0
"""Per frame and output megapixel: copied segments, decoded once for the sheet."""
ENCODED: Final = 5.0
"""An output megapixel that is encoded of masters costs what so many copied ones do."""
MADE: Final = 60.0
"""A native megapixel made between two painted ones costs what so many copied ones do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitCost:
    """Expected cost of one unit."""

    p50_gpu_ms: int
    p90_gpu_ms: int
    minimum_gpu_ms: int
    """Less than this brings nothing on that is worth keeping."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Factor:
    """Measured over predicted: quantiles over `samples` receipts."""

    p50: float = 1.0
    p90: float = PRIOR_SPREAD
    samples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class CostModel:
    """A card's prior on one device class, corrected by receipts."""

    card: ModelCard
    rates: RateCard
    device_class: str = "cpu"
    factors: Mapping[UnitKind, Factor] = field(default_factory=dict)
    by_profile: Mapping[str, Factor] = field(default_factory=dict)
    """Of render units, by the card's profiles that were measured often enough."""
    whole: float | None = None
    """A job's p90 over its p50; None: too few jobs have ended."""
    startup_gpu_ms: int = 0
    """Model load and warm-up."""
    jobs: int = 0
    """That `whole` rests on."""

    @classmethod
    def fit(
        cls,
        samples: Sequence[Sample],
        card: ModelCard,
        rates: RateCard,
        device_class: str | None = None,
        jobs: Sequence[JobSample] = (),
        present: Collection[str] = (),
    ) -> "CostModel":
        """Fit to the newest samples of the card's model on one device class.

        Without `device_class` it is the cheapest of those `present` (none: of all) that has
        rendered often enough to be known; where none has, the cheapest by the card's prior, and
        the CPU where nothing is present.
        """
        own = [s for s in samples if s.model == card.id and s.gpu_ms > 0 and s.work > 0]
        if device_class is None:
            device_class = _cheapest(own, card, rates, present)
        here = [s for s in own if s.device_class == device_class]
        ended = _measured(jobs, card, device_class)
        return cls(
            card=card,
            rates=rates,
            device_class=device_class,
            factors=_by_kind(here, card, device_class),
            by_profile=_by_profile(here, card, device_class),
            whole=_whole_p90(ended),
            startup_gpu_ms=_startup(here, card, device_class),
            jobs=len(ended),
        )

    def factor(self, kind: UnitKind, steps: int = 0) -> Factor:
        """Return the factor of a kind of unit; the prior's where nothing was fitted.

        Of render units of so many `steps`: their profile's, once it was measured often enough.
        """
        profile = self.card.profile_of(steps) if kind is UnitKind.RENDER else None
        return self.by_profile.get(profile or "") or self.factors.get(kind, Factor())

    def basis(self, steps: int) -> str:
        """Return the source of the figures for so many steps, for people."""
        count = self.factor(UnitKind.RENDER, steps).samples
        if count:
            ended = f" and {self.jobs} ended jobs" if self.whole else ""
            profile = self.card.profile_of(steps)
            which = f", profile {profile}," if profile in self.by_profile else ""
            return f"{count} receipts{ended} of {self.card.id}{which} on {self.device_class}"
        return f"the card's prior of {self.card.id} on {self.device_class}"


def work_of(kind: UnitKind, plan: RenderPlan, frames: int) -> float:
    """Return the amount of work of a unit, as `Sample.work` has it; render: padded frames."""
    if kind is UnitKind.RENDER:
        return _micro_batches(plan, frames) * plan.micro_batch * plan.steps * plan.native.megapixels
    if kind is UnitKind.ENCODE:
        shown = float(plan.lead_frames + plan.frames_total + plan.made_frames)
        if plan.passes > 1 and plan.interpolate == 1:
            shown += ENCODED * plan.frames_total
        return shown * plan.output.megapixels + MADE * plan.made_frames * plan.native.megapixels
    return 1.0


def unit_cost(
    costs: CostModel, kind: UnitKind, plan: RenderPlan, batch: FrameBatch | None = None
) -> UnitCost:
    """Return the cost of one unit; a render unit needs its `batch`."""
    factor = costs.factor(kind, plan.steps)
    if kind is UnitKind.RENDER:
        assert batch, "a render unit has frames"
        step, decode = _micro_batch_ms(costs, plan)
        least = min(plan.steps, LEAST_STEPS) * step + decode
        predicted = _micro_batches(plan, batch.frames) * (plan.steps * step + decode)
    else:
        work = work_of(kind, plan, plan.frames_total)
        least = predicted = _small_ms(kind, work)
    return UnitCost(
        p50_gpu_ms=_whole(predicted * factor.p50),
        p90_gpu_ms=_whole(predicted * factor.p90),
        minimum_gpu_ms=_whole(least * factor.p90),
    )


def step_prior(costs: CostModel, plan: RenderPlan) -> tuple[int, int]:
    """Return (one denoising step, decode) of one micro-batch in GPU-ms, as p50."""
    factor = costs.factor(UnitKind.RENDER, plan.steps)
    step, decode = _micro_batch_ms(costs, plan)
    return _whole(step * factor.p50), _whole(decode * factor.p50)


def quote(plan: RenderPlan, costs: CostModel) -> Quote:
    """Price a plan, itemised by kind of unit."""
    render = [unit_cost(costs, UnitKind.RENDER, plan, batch) for batch in plan.batches]
    stages = (
        _stage(costs, UnitKind.PARSE, [unit_cost(costs, UnitKind.PARSE, plan)]),
        _stage(costs, UnitKind.RENDER, render),
        _stage(costs, UnitKind.ENCODE, [unit_cost(costs, UnitKind.ENCODE, plan)]),
    )
    p50 = sum(stage.p50_gpu_ms for stage in stages)
    p90 = sum(stage.p90_gpu_ms for stage in stages)
    if costs.whole:
        least = stages[0].p90_gpu_ms + max(u.minimum_gpu_ms for u in render) + stages[2].p90_gpu_ms
        p90 = max(_whole(p50 * costs.whole), p50, least)
    first = unit_cost(costs, UnitKind.RENDER, plan, FrameBatch(first_frame=0, frames=1))
    return Quote(
        p50_gpu_ms=p50,
        p90_gpu_ms=p90,
        ceiling_gpu_ms=_whole(p90 * CEILING),
        least_gpu_ms=stages[0].p90_gpu_ms + first.p90_gpu_ms + stages[2].p90_gpu_ms,
        price_microusd=sum(stage.price_microusd for stage in stages),
        stages=stages,
        startup_gpu_ms=costs.startup_gpu_ms,
        rates=costs.rates.version,
        profile=costs.card.profile_of(plan.steps),
        basis=costs.basis(plan.steps),
        device_class=costs.device_class,
        measured=costs.factor(UnitKind.RENDER, plan.steps).samples > 0,
        step_prior=step_prior(costs, plan),
    )


# --- inside -------------------------------------------------------------------------------


def _stage(costs: CostModel, kind: UnitKind, units: Sequence[UnitCost]) -> StageCost:
    p50 = sum(unit.p50_gpu_ms for unit in units)
    return StageCost(
        stage=kind,
        p50_gpu_ms=p50,
        p90_gpu_ms=sum(unit.p90_gpu_ms for unit in units),
        price_microusd=costs.rates.price_microusd(p50, costs.device_class),
    )


def _micro_batches(plan: RenderPlan, frames: int) -> int:
    return -(-frames // plan.micro_batch)


def _micro_batch_ms(costs: CostModel, plan: RenderPlan) -> tuple[float, float]:
    """Return what the prior says of (one step, decode) of one micro-batch."""
    prior = costs.card.prior(costs.device_class)
    pixels = plan.native.megapixels
    step = plan.micro_batch * pixels * prior.ms_per_frame_step_megapixel
    decode = plan.micro_batch * prior.decode_ms_per_frame * pixels / costs.card.native.megapixels
    return step, decode


def _small_ms(kind: UnitKind, work: float) -> float:
    if kind is UnitKind.ENCODE:
        return ENCODE_BASE_MS + ENCODE_MS_PER_MEGAPIXEL * work
    return PARSE_MS


def _predicted_ms(sample: Sample, card: ModelCard, device_class: str) -> float:
    """Return what the prior says of a sample."""
    if sample.kind is not UnitKind.RENDER:
        return _small_ms(sample.kind, sample.work)
    prior = card.prior(device_class)
    steps = sample.steps or card.default_steps
    decode_share = prior.decode_ms_per_frame / (steps * card.native.megapixels)
    return sample.work * (prior.ms_per_frame_step_megapixel + decode_share)


def _by_kind(
    samples: Sequence[Sample], card: ModelCard, device_class: str
) -> dict[UnitKind, Factor]:
    return {
        kind: _factor([s for s in samples if s.kind is kind], card, device_class)
        for kind in UnitKind
    }


def _by_profile(samples: Sequence[Sample], card: ModelCard, device_class: str) -> dict[str, Factor]:
    """Return the factors of the card's profiles that were measured often enough."""
    renders = [s for s in samples if s.kind is UnitKind.RENDER]
    found = {
        name: _factor([s for s in renders if s.steps == steps], card, device_class)
        for name, steps in card.profiles.items()
    }
    return {name: factor for name, factor in found.items() if factor.samples}


def _measured(jobs: Sequence[JobSample], card: ModelCard, device_class: str) -> list[JobSample]:
    """Return the ended jobs of a card and a device class whose quotes rested on receipts."""
    here = (card.id, device_class)
    return [job for job in jobs if job.measured and (job.model, job.device_class) == here]


def _factor(samples: Sequence[Sample], card: ModelCard, device_class: str) -> Factor:
    newest = sorted(samples, key=lambda s: (s.at_ms, s.id))[-NEWEST:]
    if len(newest) < ENOUGH:
        return Factor()
    ratios = _tamed([s.gpu_ms / _predicted_ms(s, card, device_class) for s in newest], WILD)
    p50 = _quantile(ratios, 0.5)
    p90 = max(_quantile(ratios, 0.9), p50 * MIN_SPREAD)
    return Factor(p50=p50, p90=p90, samples=len(ratios))


def _whole_p90(jobs: Sequence[JobSample]) -> float | None:
    """Return the 0.9 quantile of spent / p50 with the correction for a finite sample.

    Lei et al. 2018, Distribution-free predictive inference for regression: of n residuals
    take the ceil(0.9·(n + 1))-th smallest.
    """
    newest = sorted(jobs, key=lambda j: (j.at_ms, j.id))[-NEWEST:]
    if len(newest) < ENOUGH_JOBS:
        return None
    ratios = _tamed([job.spent_gpu_ms / job.p50_gpu_ms for job in newest], WILD_JOB)
    return ratios[min(len(ratios), ceil(0.9 * (len(ratios) + 1))) - 1]


def _tamed(ratios: Sequence[float], wild: float) -> list[float]:
    """Return the ratios in order, none above so many times their median (winsorised)."""
    ordered = sorted(ratios)
    most = wild * _quantile(ordered, 0.5)
    return [min(ratio, most) for ratio in ordered]


def _startup(samples: Sequence[Sample], card: ModelCard, device_class: str) -> int:
    """Return the median model load, which has no part in what units cost."""
    loads = sorted(sample.load_gpu_ms for sample in samples if sample.load_gpu_ms)
    if len(loads) < LOADS:
        return card.prior(device_class).startup_ms
    return _whole(_quantile(loads, 0.5))


def _cheapest(
    samples: Sequence[Sample], card: ModelCard, rates: RateCard, present: Collection[str]
) -> str:
    renders = [s for s in samples if s.kind is UnitKind.RENDER]
    seen = {s.device_class for s in renders}
    prices: dict[str, float] = {}
    known: dict[str, float] = {}
    for name in sorted(present or seen):
        factor = _factor([s for s in renders if s.device_class == name], card, name)
        ms = card.prior(name).ms_per_frame_step_megapixel * factor.p50
        prices[name] = ms * rates.per_second(name)
        if factor.samples:
            known[name] = prices[name]
    among = known or (prices if present else {})
    return min(among, key=lambda name: among[name], default="cpu")


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation (type 7 of Hyndman and Fan, 1996)."""
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _whole(ms: float) -> int:
    """Round up to whole milliseconds, at least one; a hair above an integer is that integer."""
    return max(1, ceil(round(ms, 6)))
