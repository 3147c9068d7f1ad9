"""I13: the money of the books against its receipts: what was earned, what each session owes."""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.model import Entry, Job, Lease
from orchestrator.money import ledger
from orchestrator.money.rates import Rates
from orchestrator.states import EntryKind

_SIGN = {EntryKind.SETTLE: 1, EntryKind.REFUND: -1}


@dataclass(slots=True)
class Till:
    """Sums of the entries' money, added up while they are read."""

    balances: Counter[str] = field(default_factory=Counter)
    """Micro-USD by ledger account."""
    rates: dict[str, str] = field(default_factory=dict)
    """Rate card of each lease that was settled."""
    prices: Counter[str | None] = field(default_factory=Counter)
    """Micro-USD by lease: of its settlement less a refund."""
    refunded: Counter[str | None] = field(default_factory=Counter)
    """GPU-ms given back, by job."""
    odd: list[str] = field(default_factory=list)
    """Entries with a price that none of their kind has."""

    def add(self, entry: Entry) -> None:
        """Count an entry in."""
        if entry.price_microusd * _SIGN.get(entry.kind, 0) < abs(entry.price_microusd):
            self.odd.append(entry.id)
        if moved := ledger.money(entry):
            self.balances[moved.credit] += moved.microusd
            self.balances[moved.debit] -= moved.microusd
        if entry.kind is EntryKind.SETTLE and entry.lease_id:
            self.rates[entry.lease_id] = entry.rates
        if entry.kind is EntryKind.REFUND:
            self.refunded[entry.job_id] += entry.gpu_ms
        self.prices[entry.lease_id] += entry.price_microusd


def faults(rates: Rates, till: Till, jobs: Iterable[Job], leases: Iterable[Lease]) -> Iterator[str]:
    """Revenue is what the receipts cost, computed anew; receivables are the same, owed."""
    for entry_id in till.odd:
        yield f"I13: entry {entry_id} has a price that no entry of its kind has"
    refunded = set()
    for job in jobs:
        if job.refunded_gpu_ms:
            refunded.add(job.id)
        if job.refunded_gpu_ms != till.refunded[job.id]:
            yield f"I13: job {job.id} was refunded something else than its entries say"
    earned: Counter[str] = Counter()
    lost_cards = set()
    for lease in leases:
        card = rates.version(till.rates.get(lease.id, ""))
        if card is None:
            lost_cards |= {till.rates[lease.id]} if lease.id in till.rates else set()
            price = till.prices[lease.id]
        else:
            paid_ms = 0 if lease.job_id in refunded else lease.settled_gpu_ms
            price = card.price_microusd(paid_ms, lease.device_class)
        if price != till.prices[lease.id]:
            yield f"I13: lease {lease.id} has another price on its receipt than in its entries"
        earned[lease.session_id] += price
    for name in sorted(lost_cards):
        yield f"I13: there is no rate card {name!r} any more, by which entries were priced"
    yield from _balances(till, earned)


def _balances(till: Till, earned: Counter[str]) -> Iterator[str]:
    if till.balances["revenue"] != earned.total():
        yield "I13: revenue is not what the receipts cost together"
    for session_id, price in earned.items():
        if till.balances[f"receivable:{session_id}"] != -price:
            yield f"I13: session {session_id} owes something else than its receipts cost"
    if till.balances.total():
        yield "I13: the money of all accounts together is not 0"
