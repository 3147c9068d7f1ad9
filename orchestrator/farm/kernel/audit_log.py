"""The audit log: every administrative action, written in the transaction that does it."""

from orchestrator.farm.kernel import Farm, Page
from orchestrator.farm.kernel.paging import page, part
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import AuditEntryMatch
from orchestrator.model import AuditEntry


def note(
    farm: Farm, tx: Transaction, verb: str, target: str, account_id: str | None, **data: object
) -> None:
    """Write down that the farm's actor did this: `verb` as `key.create`, to what, whose."""
    now = farm.clock()
    tx.add(
        AuditEntry(
            id=farm.new_id("ded", now),
            at_ms=now,
            verb=verb,
            target=target,
            account_id=account_id,
            key_id=farm.actor.key_id,
            source=farm.actor.source[:100],
            data=data,
        )
    )


def of_operator(
    farm: Farm, tx: Transaction, scope: str | None, verb: str, target: str, account_id: str
) -> None:
    """Write down what clients do to their own things daily, when an operator's key did it.

    `scope` None: by a key that may do it to everybody's.
    """
    if scope is None:
        note(farm, tx, verb, target, account_id)


def listing(
    farm: Farm, *, limit: int = 50, after: str | None = None, kind: str | None = None
) -> Page[AuditEntry]:
    """Return entries of the audit log, newest first; `kind`: with that verb alone."""
    where: AuditEntryMatch = {}
    if kind is not None:
        where["verb"] = kind
    with farm.store.read() as tx:
        return page(tx.find(AuditEntry, **where, **part(limit, after)), limit)
