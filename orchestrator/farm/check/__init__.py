"""The invariants of the farm, checked over its whole store by one function.

Tests, `farm doctor` and the dispatcher's periodic look all call it. The numbers are those of
docs/ledger.md. Nothing here asks the verbs it judges: it is arithmetic over rows, which may say
anything, since somebody with the database's password may have written them.
"""

from orchestrator.farm.check import balances, leases, money, reports, usage, work
from orchestrator.farm.check.snapshot import look
from orchestrator.farm.kernel import Farm


def violations(farm: Farm) -> list[str]:
    """Return a sentence for every invariant that does not hold; an empty list is health."""
    with farm.store.read() as tx:
        snapshot = look(tx)
        reported = [*reports.faults(snapshot, tx.books.receipts())]
        sums = tx.books.usage_sums()
        gone = tx.books.missing_triggers()
    return [
        *(f"I6: the trigger {name} is gone or off" for name in gone),
        *balances.faults(snapshot),
        *balances.months(snapshot),
        *balances.allowances(snapshot),
        *snapshot.faults,
        *leases.faults(snapshot),
        *leases.devices(snapshot),
        *reported,
        *work.faults(snapshot),
        *usage.faults(snapshot, sums),
        *money.faults(farm.rates, snapshot.till, snapshot.jobs.values(), snapshot.leases.values()),
    ]
