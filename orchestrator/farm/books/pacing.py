"""The pace that was seen on a job, and what the rest of it needs at that."""

from orchestrator.farm.books.costs import cost_model
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Job, Lease, Unit
from orchestrator.money import ledger, pace, pricing
from orchestrator.money.pace import Pace
from orchestrator.money.pricing import UnitCost
from orchestrator.states import LeaseState, UnitKind

LOOKED_AT = 2 * pace.NEWEST
"""Newest leases of a job among which there are those that tell of a pace."""


def seen(tx: Transaction, job: Job) -> Pace | None:
    """Return the pace of a job's newest leases; None: none of them tells of any."""
    leases = tx.find(
        Lease,
        job_id=job.id,
        kind=UnitKind.RENDER,
        state=LeaseState.COMPLETED,
        order="-id",
        limit=LOOKED_AT,
    )
    return pace.seen(job.quote, job.render_plan, leases)


def encoding(farm: Farm, tx: Transaction, job: Job, at: Pace | None) -> tuple[UnitCost, bool]:
    """Return what making the job's video is likely to cost, and whether this farm has measured it.

    By the encodes that it has measured; else its quote, at the pace that the job has against that:
    one that is faster than quoted still has its quote's p90.
    """
    card = farm.catalog.cards.get(job.model)
    if card:
        costs = cost_model(farm, tx, card)
        if costs.factor(UnitKind.ENCODE).samples:
            return pricing.unit_cost(costs, UnitKind.ENCODE, job.render_plan), True
    quoted = next(each for each in job.quote.stages if each.stage is UnitKind.ENCODE)
    slowness = at.slowness if at else 1.0
    cost = UnitCost(
        p50_gpu_ms=max(1, round(quoted.p50_gpu_ms * slowness)),
        p90_gpu_ms=round(quoted.p90_gpu_ms * max(1.0, slowness)),
        minimum_gpu_ms=max(1, job.encode_reserve_gpu_ms // 4),
    )
    return cost, False


def rest_gpu_ms(farm: Farm, tx: Transaction, job: Job, units: list[Unit]) -> int:
    """Return what the rest of a job needs at p90, by the pace that was seen on it."""
    encode, _ = encoding(farm, tx, job, seen(tx, job))
    return ledger.rest_gpu_ms(job, units, encode.p90_gpu_ms)
