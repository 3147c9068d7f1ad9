"""Browsers that are signed in: a row each, so that what signs one out holds for any copy of it.

A cookie carries no more than the row's id, signed. A row holds as long as the person, the key or
the one-time link that the browser came by does.
"""

from collections.abc import Collection
from typing import Final

from orchestrator.farm.accounts import keys
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import SignInMatch
from orchestrator.model import Key, Person, SignIn
from orchestrator.states import KeyKind, WayIn

LASTS_MS: Final = 31 * 86_400_000
"""After which a browser signs in again."""
WAYS: Final = {
    KeyKind.SIGNIN: WayIn.LINK,
    KeyKind.ADMIN: WayIn.ADMIN,
    KeyKind.USER: WayIn.USER,
}
"""The kinds of keys that sign a browser in."""


def begin(farm: Farm, holder: Person | Key) -> SignIn:
    """Sign a browser in by a person who proved who they are, or by a key or link that was shown."""
    assert holder.account_id, "what signs in belongs to an account"
    now = farm.clock()
    is_person = isinstance(holder, Person)
    row = SignIn(
        id=farm.new_id("sgn", now),
        account_id=holder.account_id,
        way=WayIn.PERSON if isinstance(holder, Person) else WAYS[holder.kind],
        holder_id=holder.id,
        password_at_ms=holder.password_at_ms if isinstance(holder, Person) else None,
        created_at_ms=now,
    )
    with farm.store.write() as tx:
        tx.add(row)
        if not is_person:
            audit_log.note(farm, tx, "sign_in.begin", row.id, row.account_id, key=holder.id)
    return row


def living(farm: Farm, sign_in_ids: Collection[str]) -> dict[str, SignIn]:
    """Return those of these sign-ins that still hold, by id."""
    now = farm.clock()
    with farm.store.read() as tx:
        rows = tx.find(SignIn, id=tuple(sign_in_ids))
        by_person = {row.holder_id for row in rows if row.way is WayIn.PERSON}
        by_key = {row.holder_id for row in rows} - by_person
        people = tx.find(Person, id=tuple(by_person)) if by_person else []
        holders = tx.find(Key, id=tuple(by_key)) if by_key else []
    passwords = {person.id: person.password_at_ms for person in people}
    live = {key.id for key in holders if keys.keeps_signed_in(key, now)}
    return {
        row.id: row
        for row in rows
        if row.created_at_ms + LASTS_MS > now
        and (
            passwords.get(row.holder_id) == row.password_at_ms
            if row.way is WayIn.PERSON
            else row.holder_id in live
        )
    }


def end(farm: Farm, sign_in_id: str) -> None:
    """Sign one browser out; one that is out already is fine. A link that it came by ends too."""
    with farm.store.write() as tx:
        row = tx.get(SignIn, sign_in_id, lock=True)
        if row is not None:
            _end(farm, tx, row)


def end_everywhere(farm: Farm, sign_in_id: str) -> frozenset[str]:
    """Sign out every browser of the same person or key, or that came by a link to the account.

    Return the ids of those that were signed out.
    """
    with farm.store.write() as tx:
        row = tx.get(SignIn, sign_in_id)
        if row is None:
            return frozenset()
        by_link = row.way is WayIn.LINK
        same: SignInMatch = {"way": row.way, "account_id": row.account_id}
        if not by_link:
            same["holder_id"] = row.holder_id
        found = tx.find(SignIn, lock=True, **same)
        for each in found:
            _end(farm, tx, each)
    return frozenset(each.id for each in found)


def _end(farm: Farm, tx: Transaction, row: SignIn) -> None:
    tx.remove(row)
    audit_log.note(farm, tx, "sign_in.end", row.id, row.account_id, by=row.holder_id)
    link = tx.get(Key, row.holder_id, lock=True) if row.way is WayIn.LINK else None
    if link is not None and link.revoked_at_ms is None:
        keys.end(farm, tx, link)
