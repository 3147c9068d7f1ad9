"""The farm's own few facts, by name: what no row of a job, a session or a worker says."""

from typing import Final

from orchestrator.farm.kernel.ports import Transaction

FROZEN: Final = "frozen"
"""Tell whether an operator has stopped all spending."""
TRIED: Final = "month"
"""For which month all that waited for budget was tried, or why to try again."""


def epoch(tx: Transaction) -> int:
    """Return the farm's epoch, which grows when its database is restored."""
    value = tx.fact("epoch", int)
    assert value is not None, "the first start writes it"
    return value


def is_frozen(tx: Transaction) -> bool:
    """Tell whether an operator has frozen all spending."""
    return bool(tx.fact(FROZEN, bool))


def ask_again(tx: Transaction, why: str) -> None:
    """Have the dispatcher try soon what waits for budget, as when a month begins.

    `why`: what gave budget back, an id; the jobs it helps may be in sessions that are not locked.
    """
    tx.set_fact(TRIED, why)
