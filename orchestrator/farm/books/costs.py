"""Lessons of this farm's own receipts for its quotes."""

from orchestrator.catalog import ModelCard
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import JobSample, Sample
from orchestrator.money import pricing
from orchestrator.states import UnitKind


def cost_model(farm: Farm, tx: Transaction, card: ModelCard) -> pricing.CostModel:
    """Fit the model's costs to this farm's own receipts, at the prices of now."""
    most = pricing.NEWEST
    samples = [
        sample
        for kind in UnitKind
        for sample in tx.find(Sample, order="-id", limit=most, model=card.id, kind=kind)
    ]
    jobs = tx.find(JobSample, order="-id", limit=most, model=card.id)
    return pricing.CostModel.fit(
        samples,
        card,
        farm.rates.at(farm.clock()),
        jobs=jobs,
        present=tx.turns.classes_at_work(card.id),
    )
