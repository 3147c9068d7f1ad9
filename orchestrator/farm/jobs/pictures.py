"""Reference pictures among the artifacts: which of them lie there, and when one may go.

A picture's row is locked by whoever brings it, needs it for a new job, or removes it, so that no
job starts from a picture that is going just then. What is removed stays as a row with the name
that it had, for the job that is asked for again.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import TypeAlias

from orchestrator.errors import NotFound
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Picture, Reference
from orchestrator.remedies import Say

RemoveFile: TypeAlias = Callable[[str], object]
"""Removes a file among the artifacts, by its key."""
StoreFile: TypeAlias = Callable[[], object]
"""Stores the file in question, where it is not there."""


def keep(farm: Farm, key: str, size_bytes: int, store: StoreFile) -> None:
    """Note a picture that was stored; where it was removed meanwhile, `store` brings it back."""
    with farm.store.write() as tx:
        note(farm, tx, key, size_bytes, store)


def note(farm: Farm, tx: Transaction, key: str, size_bytes: int, store: StoreFile) -> None:
    """Do what `keep` does within an open transaction."""
    tx.keep_picture(key, size_bytes, farm.clock())  # who removes it beside us is waited for
    store()


def check(tx: Transaction, key: str | None) -> None:
    """Refuse a job whose reference picture is not there; it stays until we commit.

    Raises:
        NotFound: it is not; names it.
    """
    if key is not None:
        _refuse_gone(tx.get(Picture, key, lock=True))


def check_known(tx: Transaction, key: str | None) -> None:
    """Refuse to quote a job whose picture was removed; one that is only looked at is fine.

    Raises:
        NotFound: it was removed; names it.
    """
    known = tx.get(Picture, key)
    if known is not None:
        _refuse_gone(known)


def check_there(farm: Farm, key: str) -> None:
    """Refuse to start from a picture that is not there.

    Raises:
        NotFound: it is not; names it.
    """
    with farm.store.read() as tx:
        _refuse_gone(tx.get(Picture, key))


def drop(farm: Farm, key: str, remove: RemoveFile) -> bool:
    """Remove a picture that no job, file or character has any more; tell whether it was."""
    with farm.store.write() as tx:
        known = tx.get(Picture, key, lock=True)
        if known is None:  # of an upload that was refused: whoever brings it too waits for us
            tx.keep_picture(key, 0, farm.clock())
        if tx.jobs_from_picture(key) or tx.find(Reference, image=key, limit=1):
            return False
        go(farm, tx, key, "", remove)
    return True


def go(farm: Farm, tx: Transaction, key: str, name: str, remove: RemoveFile) -> None:
    """Remove a picture's file within an open transaction, and keep the name that it had."""
    known = tx.get(Picture, key, lock=True)
    remove(key)
    if known is not None:
        tx.save(known, replace(known, removed_at_ms=farm.clock(), removed_name=name))


def _refuse_gone(picture: Picture | None) -> None:
    if picture is not None and picture.removed_at_ms is None:
        return
    name = f" {picture.removed_name!r}" if picture and picture.removed_name else ""
    raise NotFound(
        f"The reference picture{name} that this starts from is not here any more: it was deleted "
        "or has expired.",
        Say("Send the picture again, with the rest of the request; nothing was charged."),
    )
