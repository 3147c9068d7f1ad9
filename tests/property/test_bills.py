"""Bills and books after histories in which everything went wrong: they add up to the ledger."""

from collections import Counter
from pathlib import Path

import pytest

from orchestrator.farm.accounts import sessions
from orchestrator.farm.books import calibration, economics, receipts, verification
from orchestrator.model import Entry, Lease
from tests.property.simulation import Simulation, all_jobs

EVENTS = 150
LOSS = "farm_loss"


@pytest.fixture(params=range(1, 9))
def history(request: pytest.FixtureRequest, sqlite_template: Path) -> Simulation:
    """A farm with a seeded history behind it; the seed is in the test's name."""
    simulation = Simulation(request.param, sqlite_template)
    simulation.run(EVENTS)
    return simulation


@pytest.mark.slow
def test_every_bill_is_computed_anew(history: Simulation) -> None:
    """Each job's receipt is what its entries say, whatever became of it; so is their sum."""
    farm = history.farm
    spent: Counter[str] = Counter()
    for job in all_jobs(history.farm):
        told = verification.verify(farm, None, job.id)
        assert told["ok"], told["fault"]
        shown = receipts.receipt(farm, None, job.id)
        assert shown["gpu_ms"] == told["checked"]["gpu_ms"]
        assert shown["gpu_ms"] == sum(line["gpu_ms"] for line in shown["lines"])
        assert shown["price_microusd"] == told["checked"]["price_microusd"]
        spent[job.session_id] += shown["gpu_ms"]
    for session in sessions.listing(farm, None).items:
        assert session.spent_gpu_ms == spent[session.id]


@pytest.mark.slow
def test_the_books_are_the_ledger(history: Simulation) -> None:
    """Charged, lost and earned are the same in the books, on the bills and in the ledger."""
    farm = history.farm
    bills = [receipts.receipt(farm, None, job.id) for job in all_jobs(history.farm)]
    with farm.store.read() as tx:
        moved = tx.find(Entry)
        leases = tx.find(Lease)
    lost = sum(e.gpu_ms * ((e.credit == LOSS) - (e.debit == LOSS)) for e in moved)
    for by in economics.BY:
        total = economics.economics(farm, by, 0)["total"]
        assert total["gpu_ms"] == sum(bill["gpu_ms"] for bill in bills)
        assert total["rate_card_microusd"] == sum(bill["price_microusd"] for bill in bills)
        assert total["lost_gpu_ms"] == sum(bill["lost_gpu_ms"] for bill in bills)
        refunded = sum(bill["refunded_gpu_ms"] for bill in bills)
        assert total["lost_gpu_ms"] == lost + refunded
        assert total["units"] == sum(lease.settled_gpu_ms > 0 for lease in leases)
    whole = (job for job in all_jobs(history.farm) if not job.truncated)
    ended = sum(job.state == "succeeded" for job in whole)
    assert calibration.calibration(farm, newest=1000)["jobs"] >= ended
