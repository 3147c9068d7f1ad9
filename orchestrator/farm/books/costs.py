"""Lessons of this farm's own receipts for its quotes."""

from orchestrator.catalog import ModelCard
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import JobSample, Sample
from orchestrator.money import pricing
from orchestrator.states import UnitKind


def cost_model(farm: Farm, tx: Transaction, card: ModelCard) -> pricing.CostModel:
    """Return the model's costs, fitted to this farm's own receipts, at the prices of now.

    One fit serves all who ask within `look_seconds`: it reads 800 rows, which takes as long as
    a submission.
    """
    now = farm.clock()
    at_ms, kept = farm.fits.get(card.id, (0, None))
    fresh = kept and kept.card == card and kept.rates == farm.rates.at(now)
    if kept and fresh and 0 <= now - at_ms < farm.terms.look_ms:
        return kept
    fitted = _fit(farm, tx, card)
    farm.fits[card.id] = (now, fitted)
    return fitted


def _fit(farm: Farm, tx: Transaction, card: ModelCard) -> pricing.CostModel:
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
