"""The allowances of keys: what is spent and held of them, and how they are raised."""

from collections.abc import Sequence
from dataclasses import replace

from orchestrator.errors import BadRequest, Conflict
from orchestrator.farm.accounts import accounts, keys
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.model import Allowance, Key
from orchestrator.remedies import Say


def of(farm: Farm, rows: Sequence[Key]) -> dict[str, Allowance]:
    """Return the allowances that these keys have, by its id."""
    wanted = tuple({row.allowance_id for row in rows if row.allowance_id})
    if not wanted:
        return {}
    with farm.store.read() as tx:
        return {row.id: row for row in tx.find(Allowance, id=wanted)}


def change(farm: Farm, account_id: str | None, key_id: str, gpu_ms: int) -> Key:
    """Give a key another allowance; jobs that were paused because it was too low go on.

    The jobs of a key that has ended go on, too: they count against its allowance as before.

    Raises:
        BadRequest: that is no allowance, or less than its jobs hold and were charged.
        Conflict: the key has no allowance.
    """
    keys.check_allowance(gpu_ms)
    with farm.store.write() as tx:
        key = keys.own_key(tx, account_id, key_id)
        allowance = tx.get(Allowance, key.allowance_id, lock=True)
        if allowance is None:
            raise Conflict("This key has no allowance.", Say("Make a key that has one."))
        used = allowance.held_gpu_ms + allowance.spent_gpu_ms
        if gpu_ms < used:
            raise BadRequest(
                f"Its jobs hold and were charged {used / 1000:.3f} GPU-seconds: give no less.",
                Say("Give a higher allowance, or cancel some of its jobs first."),
            )
        tx.save(allowance, replace(allowance, limit_gpu_ms=gpu_ms))
        audit_log.note(farm, tx, "key.limit", key.id, key.account_id, gpu_ms=gpu_ms)
    accounts.go_on(farm, allowance.account_id, allowance_id=allowance.id)
    return key
