"""The pace of a job: what its own leases took, and what the rest of it takes at that.

A quote knows how long work takes on the farm's devices; a lease knows how long it took on this
one. Of a job's newest render leases, stopped ones too, each older one counting FADES of the next::

    step      GPU-ms of a denoising step of a micro-batch: `denoise` over the steps made
    finish    of what ends a micro-batch: `decode` and `transfer` over the micro-batches kept
    begin     of what each lease starts with: all other stages

What was not seen yet (no micro-batch was finished, or a worker tells no stages) is as slow
against its quote as what was. The spread of a unit's p90 over its p50 shrinks with what was seen.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, sqrt
from typing import Final

from orchestrator.model import Lease, Quote, RenderPlan, Unit
from orchestrator.money.pricing import LEAST_STEPS, MIN_SPREAD, PRIOR_SPREAD, UnitCost
from orchestrator.receipt import DECODE, DENOISE, TRANSFER, KeptReceipt
from orchestrator.states import LeaseState, Outcome, UnitKind

NEWEST: Final = 8
"""Leases that a pace rests on at most."""
FADES: Final = 0.6
"""Weight of a lease beside that of the next newer one."""
UNSURE: Final = 0.35
"""Spread beyond 1 after one whole micro-batch; it falls with the root of what was seen."""
MOST_SPREAD: Final = 2.0
"""However much the leases differ: of wild ones none says how long the rest takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """GPU-ms of a job's steps and of what ends its micro-batches, with the spread of its units."""

    step_ms: float
    finish_ms: float
    begin_ms: float = 0.0
    spread: float = PRIOR_SPREAD
    slowness: float = 1.0
    """Times its quote's p50."""

    def work_ms(self, steps: int, finishes: int) -> float:
        """Return the GPU-ms of so many steps and ends of micro-batches, under one lease."""
        return self.begin_ms + steps * self.step_ms + finishes * self.finish_ms

    def cost(self, unit: Unit, plan: RenderPlan) -> UnitCost:
        """Return what the rest of a render unit costs: from its checkpoint on, where it has one."""
        steps, finishes = left_of(unit, plan)
        p50 = self.work_ms(steps, finishes)
        least = self.work_ms(min(steps, LEAST_STEPS), 1)
        return UnitCost(
            p50_gpu_ms=max(1, ceil(p50)),
            p90_gpu_ms=max(1, ceil(p50 * self.spread)),
            minimum_gpu_ms=max(1, ceil(least * self.spread)),
        )


def quoted(quote: Quote) -> Pace:
    """Return the pace that a quote expects."""
    step_ms, finish_ms = quote.step_prior
    return Pace(step_ms=step_ms, finish_ms=finish_ms)


def left_of(unit: Unit, plan: RenderPlan) -> tuple[int, int]:
    """Return the steps and the micro-batches that a render unit has to make yet."""
    micro_batches = -(-unit.frames // plan.micro_batch)
    begun = unit.checkpoint.step if unit.checkpoint else 0
    return max(0, micro_batches * plan.steps - begun), micro_batches


def made(lease: Lease, plan: RenderPlan) -> tuple[int, int]:
    """Return the steps that a render lease has made, and the micro-batches that it has finished.

    A worker that tells no steps has made those of the frames and of the checkpoint that it kept.
    """
    finishes = -(-lease.frames_done // plan.micro_batch)
    point = lease.receipt.checkpoint_step if lease.receipt else 0
    return lease.steps_done or finishes * plan.steps + point, finishes


def seen(quote: Quote, plan: RenderPlan, leases: Sequence[Lease]) -> Pace | None:
    """Return the pace of a job's leases, the newest first; None: none of them tells of any."""
    expected = quoted(quote)
    told = [part for lease in leases if (part := _part(lease, plan, expected))][:NEWEST]
    if not told:
        return None
    weights = [FADES**n for n in range(len(told))]

    def mean(of: str, over: str) -> float | None:
        amount = sum(w * getattr(part, over) for w, part in zip(weights, told, strict=True))
        total = sum(w * getattr(part, of) for w, part in zip(weights, told, strict=True))
        return total / amount if amount else None

    step_ms = mean("step_ms", "steps") or expected.step_ms
    slowness = step_ms / expected.step_ms
    finish_ms = mean("finish_ms", "finishes")
    found = Pace(
        step_ms=step_ms,
        finish_ms=slowness * expected.finish_ms if finish_ms is None else finish_ms,
        begin_ms=mean("begin_ms", "leases") or 0.0,
        slowness=slowness,
    )
    return Pace(
        step_ms=found.step_ms,
        finish_ms=found.finish_ms,
        begin_ms=found.begin_ms,
        slowness=slowness,
        spread=_spread(told, found, plan),
    )


# --- inside -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """Device time of one lease, by its work."""

    steps: float
    finishes: int
    step_ms: float
    finish_ms: float
    begin_ms: float
    leases: int = 1

    @property
    def total_ms(self) -> float:
        return self.step_ms + self.finish_ms + self.begin_ms


def _part(lease: Lease, plan: RenderPlan, expected: Pace) -> _Part | None:
    receipt = lease.receipt
    if lease.kind is not UnitKind.RENDER or lease.state is not LeaseState.COMPLETED:
        return None
    if receipt is None or lease.outcome is Outcome.FAILED:
        return None
    steps, finishes = made(lease, plan)
    seen_ms = (lease.resolved_at_ms or lease.granted_at_ms) - lease.granted_at_ms
    took_ms = min(receipt.gpu_ms + receipt.wasted_gpu_ms, seen_ms)
    if not steps or took_ms <= 0:
        return _reckoned(receipt)
    stages = receipt.by_stage
    if DENOISE in stages:
        whole = took_ms / max(1, sum(stages.values()))
        step_ms = stages[DENOISE] * whole
        finish_ms = (stages.get(DECODE, 0) + stages.get(TRANSFER, 0)) * whole
        return _Part(
            steps=steps,
            finishes=finishes,
            step_ms=step_ms,
            finish_ms=finish_ms,
            begin_ms=max(0.0, took_ms - step_ms - finish_ms),
        )
    slowness = took_ms / (steps * expected.step_ms + finishes * expected.finish_ms)
    return _Part(
        steps=steps,
        finishes=finishes,
        step_ms=slowness * steps * expected.step_ms,
        finish_ms=slowness * finishes * expected.finish_ms,
        begin_ms=0.0,
    )


def _reckoned(receipt: KeptReceipt) -> _Part | None:
    """Return the step for which a lease's limit was too small, as its worker reckoned it."""
    if not receipt.next_step_gpu_ms:
        return None
    return _Part(
        steps=1, finishes=0, step_ms=receipt.next_step_gpu_ms, finish_ms=0, begin_ms=0, leases=0
    )


def _spread(told: Sequence[_Part], pace: Pace, plan: RenderPlan) -> float:
    whole = sum(part.steps for part in told) / plan.steps
    sure = sqrt(max(min(whole, 2 * len(told)), (UNSURE / (PRIOR_SPREAD - 1)) ** 2))
    widest = max(part.total_ms / pace.work_ms(round(part.steps), part.finishes) for part in told)
    return max(MIN_SPREAD, 1 + UNSURE / sure, min(widest, MOST_SPREAD))
