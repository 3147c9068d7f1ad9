"""The cost of a render plan: integer GPU-ms, p50 and p90, and a price.

A law says how costs *grow* with work (`orchestrator.money.laws`): that of the paces which workers
measured when they took the model up, else the card's prior, at the speed of the device; once
receipts have three shapes, what they say themselves. This farm's own receipts then say by what
factor the farm differs from it, by the model's profile where that was measured often enough::

    render unit   ceil(frames / micro_batch) micro-batches, each steps · step_ms + decode_ms
    encode unit   ENCODE_BASE_MS + ENCODE_MS_PER_MEGAPIXEL · (frames · output megapixels
                                 + ENCODED · frames painted in passes · output megapixels
                                 + MADE · interpolated frames · native megapixels)
    parse unit     PARSE_MS
    p50, p90      that, times the quantiles of measured / predicted over the newest 200 samples,
                  of which none counts for more than WILD times their median

All results are rounded up. A quote's p50 is the sum of its units' p50s. The sum of their p90s
is more than the p90 of the sum, since not all are late at once; so once its units are measured,
its p90 is p50 times the 0.9 quantile of what quoted jobs spent over what their p50 was
(split conformal prediction: of jobs like them, nine in ten stay under it, whatever the shape of
the noise). Until ENOUGH_JOBS have ended, jobs that nobody saw stand for those that are missing.
Its ceiling is CEILING times that, and never less than its shortest video needs: what a job is
charged at most where its plan has quotes that hold.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from math import ceil, exp, log
from statistics import NormalDist, median
from typing import Final

from orchestrator.catalog import ModelCard
from orchestrator.device_classes import CPU
from orchestrator.model import FrameBatch, JobSample, Pace, Quote, RenderPlan, Sample, StageCost
from orchestrator.money import laws
from orchestrator.money.laws import Law, Point
from orchestrator.money.rates import RateCard
from orchestrator.states import Basis, UnitKind

NEWEST: Final = 200
"""Samples of a kind that count; older ones knew another farm."""
ENOUGH: Final = 5
"""Fewer samples than this say less than the prior."""
NEWEST_JOBS: Final = 30
"""Jobs against their quotes that count; those before had quotes that knew less."""
ENOUGH_JOBS: Final = 9
"""While fewer jobs were held against their quotes, jobs that nobody saw make up the number."""
JOB_SPREAD: Final = 1.35
"""p90 / p50 of jobs that nobody saw: lognormal, as nobody knows better."""
WILD: Final = 4.0
"""A unit that took so many times the median says that a machine hung, not how long work takes:
it counts as that much. Of ten samples the p90 is next to the largest."""
WILD_JOB: Final = 10.0
"""The same of jobs: the slowest in ten may well be those in which something hung."""
LOADS: Final = 3
"""Fewer model loads than this say less than the card's prior."""
PRIOR_SPREAD: Final = 1.8
"""p90 / p50 while no receipt says otherwise, and where a size was never run."""
NEAR: Final = 1.05
"""A size beyond the measured ones by no more than that, by share, is one of them."""
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
    """A law on one device class, corrected by receipts."""

    card: ModelCard
    rates: RateCard
    device_class: str = CPU
    law: Law
    basis_kind: Basis = Basis.CARD
    sizes: tuple[float, float] | None = None
    """Smallest and largest micro-batch that was measured, in megapixels; None: none was."""
    factors: Mapping[UnitKind, Factor] = field(default_factory=dict)
    by_profile: Mapping[str, Factor] = field(default_factory=dict)
    """Of render units, by the card's profiles that were measured often enough."""
    whole: float | None = None
    """A job's p90 over its p50; None: no quote rests on receipts yet."""
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
        present: Mapping[str, Collection[str]] | None = None,
        paces: Sequence[Pace] = (),
        speeds: Mapping[str, float] | None = None,
    ) -> "CostModel":
        """Fit to the newest samples and paces of the card's model on one device class.

        Without `device_class` it is the cheapest of those `present` (class -> its workers; none:
        of all) on which the model was measured; where it was on none, the cheapest by the card's
        prior, and the CPU where nothing is present. `speeds` says of a class that the card does not
        know how many times as fast as a CPU it was at other models.
        """
        seen = _Seen(
            card=card,
            rates=rates,
            samples=[s for s in samples if s.model == card.id and s.gpu_ms > 0 and s.work > 0],
            paces=[p for p in paces if p.model == card.id],
            present=present or {},
            speeds=speeds or {},
        )
        if device_class is None:
            device_class = _cheapest(seen)
        here = seen.of(device_class)
        law = _law(seen, device_class)
        factors = {
            kind: _factor([s for s in here if s.kind is kind], card, law) for kind in UnitKind
        }
        ended = _measured(jobs, card, device_class)
        return cls(
            card=card,
            rates=rates,
            device_class=device_class,
            law=law,
            basis_kind=_basis_kind(seen, device_class, receipts=factors[UnitKind.RENDER].samples),
            sizes=_sizes(seen, device_class),
            factors=factors,
            by_profile=_by_profile(here, card, law),
            whole=_whole_p90(ended) if factors[UnitKind.RENDER].samples else None,
            startup_gpu_ms=_startup(seen, device_class),
            jobs=len(ended),
        )

    def factor(self, kind: UnitKind, steps: int = 0) -> Factor:
        """Return the factor of a kind of unit; the prior's where nothing was fitted.

        Of render units of so many `steps`: their profile's, once it was measured often enough.
        """
        profile = self.card.profile_of(steps) if kind is UnitKind.RENDER else None
        return self.by_profile.get(profile or "") or self.factors.get(kind, Factor())

    def extrapolates(self, plan: RenderPlan) -> bool:
        """Tell whether a plan's micro-batches are smaller or larger than all that was measured."""
        if self.sizes is None:
            return False
        smallest, largest = self.sizes
        return not smallest / NEAR <= megapixels_of(plan) <= largest * NEAR

    def basis(self, plan: RenderPlan) -> str:
        """Return the source of a plan's figures, for people."""
        count = self.factor(UnitKind.RENDER, plan.steps).samples
        where = {
            Basis.DEVICE: f"measured on this device ({self.device_class})",
            Basis.CLASS: f"measured on its class ({self.device_class})",
            Basis.CARD: f"scaled from a card for {self.device_class}",
        }[self.basis_kind]
        if count:
            profile = self.card.profile_of(plan.steps)
            which = f", profile {profile}," if profile in self.by_profile else ""
            ended = f" and {self.jobs} ended jobs" if self.jobs else ""
            what = f"{_receipts(count)} of {self.card.id}{which}{ended}".rstrip(",")
        elif self.basis_kind is Basis.CARD:
            what = f"the prior of {self.card.id}, no receipts yet"
        else:
            what = f"the pace of {self.card.id}, no receipts yet"
        beyond = "; extrapolated, as no picture of this size was measured there"
        return f"{where}: {what}{beyond if self.extrapolates(plan) else ''}"


def megapixels_of(plan: RenderPlan) -> float:
    """Return the megapixels of a micro-batch, all its frames together."""
    return plan.micro_batch * plan.native.megapixels


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
    p90 = factor.p90
    if kind is UnitKind.RENDER:
        assert batch, "a render unit has frames"
        if costs.extrapolates(plan):
            p90 = max(p90, factor.p50 * PRIOR_SPREAD)
        step, decode = _micro_batch_ms(costs, plan)
        least = min(plan.steps, LEAST_STEPS) * step + decode
        predicted = _micro_batches(plan, batch.frames) * (plan.steps * step + decode)
    else:
        work = work_of(kind, plan, plan.frames_total)
        least = predicted = _small_ms(kind, work)
    return UnitCost(
        p50_gpu_ms=_whole(predicted * factor.p50),
        p90_gpu_ms=_whole(predicted * p90),
        minimum_gpu_ms=_whole(least * p90),
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
    if costs.whole and not costs.extrapolates(plan):
        p90 = max(_whole(p50 * costs.whole), p50)
    first = unit_cost(costs, UnitKind.RENDER, plan, FrameBatch(first_frame=0, frames=1))
    least = stages[0].p90_gpu_ms + first.p90_gpu_ms + stages[2].p90_gpu_ms
    return Quote(
        p50_gpu_ms=p50,
        p90_gpu_ms=p90,
        ceiling_gpu_ms=max(_whole(p90 * CEILING), least),
        least_gpu_ms=least,
        price_microusd=sum(stage.price_microusd for stage in stages),
        stages=stages,
        startup_gpu_ms=costs.startup_gpu_ms,
        rates=costs.rates.version,
        profile=costs.card.profile_of(plan.steps),
        basis=costs.basis(plan),
        basis_kind=costs.basis_kind,
        receipts=costs.factor(UnitKind.RENDER, plan.steps).samples,
        extrapolated=costs.extrapolates(plan),
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
    """Return what the law says of (one step, decode) of one micro-batch."""
    megapixels = megapixels_of(plan)
    return costs.law.step_ms(megapixels), costs.law.decode_ms(megapixels)


def _small_ms(kind: UnitKind, work: float) -> float:
    if kind is UnitKind.ENCODE:
        return ENCODE_BASE_MS + ENCODE_MS_PER_MEGAPIXEL * work
    return PARSE_MS


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """All that is known of a model on this farm's devices."""

    card: ModelCard
    rates: RateCard
    samples: Sequence[Sample]
    paces: Sequence[Pace]
    present: Mapping[str, Collection[str]]
    speeds: Mapping[str, float]

    def of(self, device_class: str) -> list[Sample]:
        """Return the samples of a class."""
        return [s for s in self.samples if s.device_class == device_class]

    def paces_of(self, device_class: str) -> list[Pace]:
        """Return the paces of a class: of workers that are there, else of those that were."""
        here = [p for p in self.paces if p.device_class == device_class]
        at_work = self.present.get(device_class, ())
        return [p for p in here if p.worker_id in at_work] or here


def prior_law(card: ModelCard, device_class: str = CPU) -> Law:
    """Return what a card says; of a class that it does not know, what it says of a CPU."""
    prior = card.prior(device_class)
    return Law(
        linear=prior.ms_per_frame_step_megapixel,
        decode_linear=prior.decode_ms_per_frame / card.native.megapixels,
    )


def point_of(pace: Pace) -> Point:
    """Return a pace as a measurement of the law."""
    return Point(pace.megapixels, pace.step_gpu_ms, pace.decode_gpu_ms)


def _law(seen: _Seen, device_class: str) -> Law:
    """Return the law of a class: its receipts', its paces', or the card's at its speed."""
    renders = _newest([s for s in seen.of(device_class) if s.kind is UnitKind.RENDER])
    if len(renders) >= ENOUGH and (own := laws.fitted(map(_point, renders))):
        return own
    law = prior_law(seen.card, device_class)
    if points := [point_of(pace) for pace in seen.paces_of(device_class)]:
        return laws.fitted(points, laws.PACED_SHAPES) or laws.through(law, points)
    if device_class in seen.card.priors:
        return law
    speed = seen.speeds.get(device_class) or _speed_by_price(seen.rates, device_class)
    return law.times(1 / speed, 1 / speed)


def _speed_by_price(rates: RateCard, device_class: str) -> float:
    """Return how many times as fast as a CPU a class is, as far as its price tells."""
    own, cpu = rates.per_second(device_class), rates.per_second(CPU)
    return own / cpu if own and cpu else 1.0


def _point(sample: Sample) -> Point:
    """Return a step and a decode of a render sample's micro-batches; zeros where it has none."""
    steps = sample.steps and sample.work / sample.megapixels if sample.megapixels else 0
    if not steps:
        return Point(0.0, 0.0, 0.0)
    decodes = steps / sample.steps
    # A decode of less than a millisecond was rounded to none.
    decode_ms = max(0.5, sample.decode_gpu_ms) / decodes
    return Point(sample.megapixels, sample.denoise_gpu_ms / steps, decode_ms)


def _sizes(seen: _Seen, device_class: str) -> tuple[float, float] | None:
    """Return the smallest and the largest micro-batch that a class was measured with."""
    renders = _newest([s for s in seen.of(device_class) if s.kind is UnitKind.RENDER])
    sizes = [p.megapixels for p in seen.paces_of(device_class)]
    sizes += [s.megapixels for s in renders if s.megapixels]
    return (min(sizes), max(sizes)) if sizes else None


def _basis_kind(seen: _Seen, device_class: str, *, receipts: int) -> Basis:
    """Return what the figures rest on: receipts where they count, else paces, else the card."""
    if receipts:
        by = {s.worker_id for s in seen.of(device_class) if s.kind is UnitKind.RENDER}
    else:
        by = {pace.worker_id for pace in seen.paces_of(device_class)}
    if not by:
        return Basis.CARD
    at_work = seen.present.get(device_class, ())
    return Basis.DEVICE if len(at_work) == 1 and by == set(at_work) else Basis.CLASS


def _receipts(count: int) -> str:
    return f"{count} receipt{'s' if count != 1 else ''}"


def _predicted_ms(sample: Sample, card: ModelCard, law: Law) -> float:
    """Return what a law says of a sample."""
    if sample.kind is not UnitKind.RENDER:
        return _small_ms(sample.kind, sample.work)
    steps = sample.steps or card.default_steps
    megapixels = sample.megapixels or card.micro_batch * card.native.megapixels
    batches = sample.work / (steps * megapixels)
    return batches * (steps * law.step_ms(megapixels) + law.decode_ms(megapixels))


def _by_profile(samples: Sequence[Sample], card: ModelCard, law: Law) -> dict[str, Factor]:
    """Return the factors of the card's profiles that were measured often enough."""
    renders = [s for s in samples if s.kind is UnitKind.RENDER]
    found = {
        name: _factor([s for s in renders if s.steps == steps], card, law)
        for name, steps in card.profiles.items()
    }
    return {name: factor for name, factor in found.items() if factor.samples}


def _measured(jobs: Sequence[JobSample], card: ModelCard, device_class: str) -> list[JobSample]:
    """Return the ended jobs of a card and a device class whose quotes rested on receipts."""
    here = (card.id, device_class)
    return [job for job in jobs if job.measured and (job.model, job.device_class) == here]


def _newest(samples: Sequence[Sample]) -> list[Sample]:
    return sorted(samples, key=lambda s: (s.at_ms, s.id))[-NEWEST:]


def _factor(samples: Sequence[Sample], card: ModelCard, law: Law) -> Factor:
    newest = _newest(samples)
    if len(newest) < ENOUGH:
        return Factor()
    ratios = _tamed([s.gpu_ms / _predicted_ms(s, card, law) for s in newest], WILD)
    p50 = _quantile(ratios, 0.5)
    p90 = max(_quantile(ratios, 0.9), p50 * MIN_SPREAD)
    return Factor(p50=p50, p90=p90, samples=len(ratios))


def _whole_p90(jobs: Sequence[JobSample]) -> float:
    """Return the 0.9 quantile of spent / p50 with the correction for a finite sample.

    Lei et al. 2018, Distribution-free predictive inference for regression: of n residuals take
    the 0.9·(n + 1)-th smallest; between two of them, what lies between (type 6 of Hyndman and
    Fan), or every n would promise another share. Of too few the rest are those that nobody saw.
    """
    newest = sorted(jobs, key=lambda j: (j.at_ms, j.id))[-NEWEST_JOBS:]
    seen = [job.spent_gpu_ms / job.p50_gpu_ms for job in newest]
    unseen = _unseen(max(0, ENOUGH_JOBS - len(seen)))
    ratios = sorted([*(_tamed(seen, WILD_JOB) if seen else ()), *unseen])
    at = 0.9 * (len(ratios) + 1) - 1
    return _quantile(ratios, min(1.0, at / (len(ratios) - 1)))


def _unseen(count: int) -> list[float]:
    """Return spent / p50 of jobs that nobody saw, evenly over their distribution."""
    law = NormalDist()
    width = log(JOB_SPREAD) / law.inv_cdf(0.9)
    return [exp(width * law.inv_cdf(n / (count + 1))) for n in range(1, count + 1)]


def _tamed(ratios: Sequence[float], wild: float) -> list[float]:
    """Return the ratios in order, none above so many times their median (winsorised)."""
    ordered = sorted(ratios)
    most = wild * _quantile(ordered, 0.5)
    return [min(ratio, most) for ratio in ordered]


def _startup(seen: _Seen, device_class: str) -> int:
    """Return the median model load, which has no part in what units cost."""
    loads = sorted(s.load_gpu_ms for s in seen.of(device_class) if s.load_gpu_ms)
    if len(loads) >= LOADS:
        return _whole(_quantile(loads, 0.5))
    measured = [p.load_gpu_ms for p in seen.paces_of(device_class) if p.load_gpu_ms]
    return _whole(median(measured)) if measured else seen.card.prior(device_class).startup_ms


def _cheapest(seen: _Seen) -> str:
    """Return the class that does a native micro-batch's step for the least money."""
    classes = sorted(
        seen.present or {s.device_class for s in seen.samples if s.kind is UnitKind.RENDER}
    )
    native = seen.card.micro_batch * seen.card.native.megapixels
    prices: dict[str, float] = {}
    known: dict[str, float] = {}
    for name in classes:
        law = _law(seen, name)
        renders = [s for s in seen.of(name) if s.kind is UnitKind.RENDER]
        factor = _factor(renders, seen.card, law)
        prices[name] = law.step_ms(native) * factor.p50 * seen.rates.per_second(name)
        if factor.samples or seen.paces_of(name):
            known[name] = prices[name]
    among = known or (prices if seen.present else {})
    return min(among, key=lambda name: among[name], default=CPU)


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile by linear interpolation (type 7 of Hyndman and Fan, 1996)."""
    at = share * (len(ordered) - 1)
    low = int(at)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (at - low)


def _whole(ms: float) -> int:
    """Round up to whole milliseconds, at least one; a hair above an integer is that integer."""
    return max(1, ceil(round(ms, 6)))
