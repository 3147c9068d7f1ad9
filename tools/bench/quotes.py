"""Shares of jobs within their quotes, on farms whose cards are wrong and a class nobody knew.

    python -m tools.bench.quotes
    python -m tools.bench.quotes --farms 200 --jobs 120

Simulated, with the farm's own cost model: no device is needed. Each farm has one device of a class
that no card names. What a step and a decode truly cost there is off from the card by the factor of
the row, and half of a native step grows with the square of the size, which no card says; each unit
and each job is late as chance has it, and so is each of the worker's paces. A job is quoted, run
and learned from, before the next one is quoted.

Columns: jobs within their p90 (goal: 80 % of first jobs, 88 to 92 % once five receipts are known),
the median of |p50 / cost - 1|, the share that ended under its ceiling, and how much of all device
time lay over a ceiling, which is the farm's loss.
"""

import argparse
import json
import math
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from typing import Final

from orchestrator.catalog import FAKE, CostPrior, ModelCard
from orchestrator.model import FrameBatch, JobSample, Pace, RenderPlan, Sample, Size
from orchestrator.money import pricing, rates
from orchestrator.money.laws import Law
from orchestrator.states import UnitKind
from tools.bench.progress import step

RATES: Final = rates.shipped().cards[0]
DEVICE: Final = "nvidia-nobody-knows"
PRIOR: Final = CostPrior(
    ms_per_frame_step_megapixel=1000.0, decode_ms_per_frame=20.0, startup_ms=9000
)
CARD: Final[ModelCard] = replace(
    FAKE, id="simulated", native=Size(width=256, height=256), priors={"cpu": PRIOR}
)
SIDES: Final = (128, 192, 256, 384)
"""Of the pictures that are asked for."""
TWENTY: Final = 20
NATIVE: Final = CARD.micro_batch * CARD.native.megapixels


@dataclass(frozen=True, slots=True)
class Noise:
    """Spread (standard deviation of the logarithm) of what is late, and units that hang."""

    per_unit: float
    per_job: float
    wild: float = 0.0


NOISES: Final = {
    "units are late": Noise(0.2, 0.0),
    "whole jobs are late": Noise(0.05, 0.15),
    "both": Noise(0.3, 0.3),
    "one unit in a hundred hangs": Noise(0.1, 0.1, 0.01),
}
FACTORS: Final = (0.1, 1.0, 10.0)
"""True cost over what the card says."""


@dataclass(frozen=True, slots=True)
class Ended:
    """A job that ended, and how many receipts its quote rested on."""

    receipts: int
    p50: int
    p90: int
    ceiling: int
    spent: int


class SimulatedFarm:
    """One device whose true cost law is another than its cards'; jobs of several sizes."""

    def __init__(
        self,
        seed: int,
        noise: Noise,
        factor: float,
        *,
        paced: bool = True,
        square: float = 0.5,
        sides: Sequence[int] = SIDES,
    ) -> None:
        self.random = random.Random(seed)
        self.noise = noise
        self.sides = sides
        said = pricing.prior_law(CARD)
        self.true = Law(
            linear=said.linear * factor * (1 - square),
            square=said.linear * factor * square / NATIVE,
            decode_linear=said.decode_linear * factor,
        )
        """A step at the native size costs `factor` times the card's, `square` of it attention's."""
        self.samples: list[Sample] = []
        self.jobs: list[JobSample] = []
        self.paces = [self._pace(NATIVE), self._pace(NATIVE / 4)] if paced else []

    def costs(self) -> pricing.CostModel:
        """Return the cost model as the farm would fit it now."""
        kinds = {k: [s for s in self.samples if s.kind is k][-pricing.NEWEST :] for k in UnitKind}
        return pricing.CostModel.fit(
            [one for some in kinds.values() for one in some],
            CARD,
            RATES,
            jobs=self.jobs[-pricing.NEWEST :],
            present={DEVICE: {"w"}},
            paces=self.paces,
        )

    def render(self) -> Ended:
        """Quote a job, let its units cost what they cost, and learn from both."""
        rng, side = self.random, self.random.choice(self.sides)
        plan = plan_of(rng.randint(2, 16), rng.choice((2, 4, 8)), side)
        quote = pricing.quote(plan, self.costs())
        late = math.exp(rng.gauss(0, self.noise.per_job))
        spent = self._small(UnitKind.PARSE, plan, late) + self._small(UnitKind.ENCODE, plan, late)
        spent += sum(self._render(plan, late) for _ in plan.batches)
        self.jobs.append(
            JobSample(
                id=f"jsm_{len(self.jobs):06}",
                job_id="j",
                model=CARD.id,
                device_class=DEVICE,
                p50_gpu_ms=quote.p50_gpu_ms,
                p90_gpu_ms=quote.p90_gpu_ms,
                spent_gpu_ms=spent,
                measured=quote.measured,
                at_ms=len(self.jobs),
            )
        )
        return Ended(
            quote.receipts, quote.p50_gpu_ms, quote.p90_gpu_ms, quote.ceiling_gpu_ms, spent
        )

    def _late(self, late: float) -> float:
        hangs = 30 if self.random.random() < self.noise.wild else 1
        return late * hangs * math.exp(self.random.gauss(0, self.noise.per_unit))

    def _small(self, kind: UnitKind, plan: RenderPlan, late: float) -> int:
        prior = pricing.unit_cost(pricing.CostModel.fit([], CARD, RATES), kind, plan)
        gpu_ms = max(1, round(prior.p50_gpu_ms * self._late(late)))
        self._learn(kind, plan, gpu_ms)
        return gpu_ms

    def _render(self, plan: RenderPlan, late: float) -> int:
        size = pricing.megapixels_of(plan)
        late = self._late(late)
        denoise_ms = plan.steps * self.true.step_ms(size) * late
        decode_ms = self.true.decode_ms(size) * late
        self._learn(
            UnitKind.RENDER,
            plan,
            max(1, round(denoise_ms + decode_ms)),
            denoise_gpu_ms=round(denoise_ms),
            decode_gpu_ms=round(decode_ms),
            megapixels=size,
            steps=plan.steps,
        )
        return self.samples[-1].gpu_ms

    def _learn(self, kind: UnitKind, plan: RenderPlan, gpu_ms: int, **facts: float) -> None:
        work = pricing.work_of(kind, plan, 4)
        sample = Sample(
            id=f"smp_{len(self.samples):06}",
            model=CARD.id,
            device_class=DEVICE,
            kind=kind,
            gpu_ms=gpu_ms,
            work=work,
            worker_id="w",
            at_ms=len(self.samples),
        )
        self.samples.append(replace(sample, **facts))  # type: ignore[arg-type] - its fields

    def _pace(self, size: float) -> Pace:
        late = math.exp(self.random.gauss(0, self.noise.per_unit))
        return Pace(
            id=f"pac_{size}",
            worker_id="w",
            model=CARD.id,
            device_class=DEVICE,
            megapixels=size,
            step_gpu_ms=self.true.step_ms(size) * late,
            decode_gpu_ms=self.true.decode_ms(size) * late,
            load_gpu_ms=4000,
            at_ms=0,
        )


def plan_of(units: int, steps: int, side: int) -> RenderPlan:
    """Return a plan with so many equal render units."""
    size = Size(width=side, height=side)
    return RenderPlan(
        model=CARD.id,
        model_version="1",
        native=size,
        output=size,
        fps=12,
        steps=steps,
        guidance_scale=1.0,
        micro_batch=CARD.micro_batch,
        seed=0,
        shots=(),
        batches=tuple(FrameBatch(first_frame=4 * n, frames=4) for n in range(units)),
    )


@dataclass(frozen=True, slots=True)
class Held:
    """Shares of jobs within their quotes."""

    jobs: int
    within_p90: float
    """Percent."""
    p50_error: float
    """Percent, of the median job."""
    under_ceiling: float
    """Percent."""
    over_quote: float
    """Percent of all device time."""


def held(ended: Iterable[Ended]) -> Held:
    """Return how well the quotes of these jobs held."""
    jobs = list(ended)
    if not jobs:
        return Held(0, 0.0, 0.0, 0.0, 0.0)
    spent = sum(job.spent for job in jobs)
    over = sum(max(0, job.spent - job.ceiling) for job in jobs)
    return Held(
        jobs=len(jobs),
        within_p90=_percent(sum(job.spent <= job.p90 for job in jobs), len(jobs)),
        p50_error=round(100 * median(abs(job.p50 / job.spent - 1) for job in jobs), 1),
        under_ceiling=_percent(sum(job.spent <= job.ceiling for job in jobs), len(jobs)),
        over_quote=_percent(over, spent),
    )


def simulate(
    noise: Noise, factor: float, *, farms: int, jobs: int, paced: bool = True, seed: int = 1
) -> dict[str, Held]:
    """Return how quotes held on so many farms: of first jobs, and after so many receipts."""
    runs = []
    for number in range(farms):
        farm = SimulatedFarm(1000 * seed + number, noise, factor, paced=paced)
        runs.append([farm.render() for _ in range(jobs)])
    after = [job for run in runs for job in run]
    early = [job for run in runs for job in run[:20]]
    return {
        "first job": held(run[0] for run in runs),
        "5+ receipts, of 20 jobs": held(job for job in early if job.receipts >= pricing.ENOUGH),
        "5+ receipts": held(job for job in after if job.receipts >= pricing.ENOUGH),
        "20+ receipts": held(job for job in after if job.receipts >= TWENTY),
    }


def _percent(part: float, whole: float) -> float:
    return round(100 * part / whole, 1) if whole else 0.0


def main(argv: Sequence[str] | None = None) -> int:
    """Simulate and print a table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--farms", type=int, default=40)
    parser.add_argument("--jobs", type=int, default=100)
    parser.add_argument("--unpaced", action="store_true", help="workers that measure nothing")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(argv)
    rows = []
    for name, noise in NOISES.items():
        for factor in FACTORS:
            step(f"{name}, card wrong by {factor:g}")
            found = simulate(
                noise, factor, farms=options.farms, jobs=options.jobs, paced=not options.unpaced
            )
            for when, each in found.items():
                rows.append((name, factor, when, each))
    if options.json:
        print(json.dumps([[*row[:3], row[3].__dict__] for row in rows]))
        return 0
    print(f"{'noise':28} {'true/card':>9} {'quoted':24} in p90  p50 off  ceiling  over it   %")
    for name, factor, when, each in rows:
        print(
            f"{name:28} {factor:9g} {when:24} {each.within_p90:6} {each.p50_error:8}"
            f" {each.under_ceiling:8} {each.over_quote:8}"
        )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
