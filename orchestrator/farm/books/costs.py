"""Lessons of this farm's own receipts for its quotes."""

from collections import defaultdict
from statistics import median

from orchestrator.catalog import ModelCard
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import JobSample, Pace, Sample
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
    present = tx.turns.at_work(card.id)
    return pricing.CostModel.fit(
        samples,
        card,
        farm.rates.at(farm.clock()),
        jobs=jobs,
        present=present,
        paces=tx.find(Pace, order="-at_ms", limit=most, model=card.id),
        speeds={} if set(present) <= set(card.priors) else _speeds(farm, tx),
    )


def _speeds(farm: Farm, tx: Transaction) -> dict[str, float]:
    """Return how many times as fast as its card says of a CPU each class was at what it ran."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for pace in tx.find(Pace, order="-at_ms", limit=pricing.NEWEST):
        if card := farm.catalog.cards.get(pace.model):
            said = pricing.prior_law(card).step_ms(pace.megapixels)
            found[pace.device_class].append(said / pace.step_gpu_ms)
    return {name: median(some) for name, some in found.items()}
