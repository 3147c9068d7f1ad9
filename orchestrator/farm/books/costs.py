"""What this farm's own receipts teach its quotes."""

from orchestrator import pricing
from orchestrator.catalog import ModelCard
from orchestrator.farm import Farm
from orchestrator.farm.case import Case
from orchestrator.farm.ports import Transaction
from orchestrator.model import JobSample, Lease, Sample, Unit, Worker
from orchestrator.states import UnitKind


def cost_model(farm: Farm, tx: Transaction, card: ModelCard) -> pricing.CostModel:
    """Fit the model's costs to this farm's own receipts, at the prices of now."""
    samples = [s for kind in UnitKind for s in tx.newest_samples(card.id, kind, pricing.NEWEST)]
    jobs = tx.find(JobSample, order="-id", limit=pricing.NEWEST, model=card.id)
    return pricing.CostModel.fit(
        samples,
        card,
        farm.rates.at(farm.clock()),
        jobs=jobs,
        present=tx.classes_at_work(card.id),
    )


def sample(case: Case, unit: Unit, lease: Lease, worker: Worker) -> None:
    """Remember what a done unit cost, for the next quotes: at most the time the farm saw.

    One report of a thousand seconds after one would else make everybody's next job too dear.
    """
    receipt = lease.receipt or {}
    seen_ms = (lease.resolved_at_ms or lease.granted_at_ms) - lease.granted_at_ms
    gpu_ms = min(receipt.get("gpu_ms", 0), seen_ms)
    work = pricing.work_of(unit.kind, case.plan, unit.frames)
    whole = unit.checkpoint is None and not receipt.get("checkpoint_step")
    if whole and work > 0 and gpu_ms > 0:
        case.tx.add(
            Sample(
                id=case.farm.new_id("smp", case.now_ms),
                model=case.job.model,
                device_class=worker.device_class,
                kind=unit.kind,
                gpu_ms=gpu_ms,
                work=work,
                steps=case.job.steps if unit.kind is UnitKind.RENDER else 0,
                load_gpu_ms=receipt.get("load_gpu_ms", 0),
                at_ms=case.now_ms,
            )
        )
