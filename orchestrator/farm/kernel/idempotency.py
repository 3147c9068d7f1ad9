"""The same key and body is the same request: its first answer is its only effect."""

from orchestrator.errors import IdempotencyMismatch
from orchestrator.farm.kernel import Promise, Repeat, repeats
from orchestrator.farm.kernel.ports import Transaction


def answered(tx: Transaction, account_id: str, idempotency: Promise | None) -> str | None:
    """Return the id that this request led to before, if it was made before.

    Raises:
        IdempotencyMismatch: the key was used with another body.
    """
    if idempotency is None:
        return None
    if isinstance(idempotency, Repeat):
        return repeats.answered(tx, account_id, idempotency)
    known = tx.remembered(account_id, idempotency.key)
    if known is None:
        return None
    body, result_id = known
    if body != idempotency.body_sha256:
        raise IdempotencyMismatch
    return result_id


def remember(
    tx: Transaction,
    account_id: str,
    idempotency: Promise | None,
    result_id: str,
    now_ms: int,
) -> None:
    """Keep what this request led to."""
    if isinstance(idempotency, Repeat):
        repeats.remember(tx, account_id, idempotency, result_id, now_ms)
    elif idempotency:
        tx.remember(account_id, idempotency.key, idempotency.body_sha256, result_id, now_ms)
