"""Lessons of this farm's own receipts for its quotes."""

from orchestrator.catalog import ModelCard
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import JobSample
from orchestrator.money import pricing
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
