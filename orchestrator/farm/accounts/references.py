"""Reference pictures that an account keeps by name (a character) or as a file."""

from typing import Literal

from orchestrator.errors import NotFound
from orchestrator.farm.kernel import Farm
from orchestrator.model import Reference
from orchestrator.remedies import Say

Kind = Literal["character", "file"]
PREFIX: dict[Kind, str] = {"character": "char", "file": "file"}


def keep(
    farm: Farm, *, account_id: str, kind: Kind, name: str, image: str, size_bytes: int
) -> Reference:
    """Keep a stored picture under a name; the same picture under the same name is one."""
    now = farm.clock()
    with farm.store.write() as tx:
        known = tx.find(Reference, account_id=account_id, kind=kind, name=name, image=image)
        if known:
            return known[0]
        made = Reference(
            id=farm.new_id(PREFIX[kind], now),
            account_id=account_id,
            kind=kind,
            name=name,
            image=image,
            bytes=size_bytes,
            created_at_ms=now,
        )
        tx.add(made)
        return made


def get(farm: Farm, account_id: str | None, kind: Kind, reference_id: str) -> Reference:
    """Return a kept picture.

    Raises:
        NotFound: the account has none by this id.
    """
    with farm.store.read() as tx:
        found = tx.get(Reference, reference_id)
    if found is None or found.kind != kind or account_id not in (None, found.account_id):
        raise NotFound(f"There is no such {kind}.", Say(f"Create the {kind} first."))
    return found
