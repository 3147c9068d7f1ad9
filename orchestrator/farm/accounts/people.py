"""People of an account, who sign in to the pages with a name and a password (Argon2id)."""

from dataclasses import replace
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

from orchestrator import safe_text
from orchestrator.errors import BadRequest, Conflict, NotFound, Unauthorized
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.model import Account, Person
from orchestrator.remedies import Listing, LookAt, Say

MIN_PASSWORD_CHARS: Final = 12
MAX_PASSWORD_CHARS: Final = 200
NAME_CHARS: Final = 100
HASHER: Final = PasswordHasher()
"""Argon2id with the first recommendation of RFC 9106 for little memory: 64 MiB, three passes."""

NOBODY: Final = (
    "$argon2id$v=19$m=65536,t=3,p=4$bm9ib2R5J3Mgc2FsdCE$AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
)
"""No password's hash: to check one against takes as long as against somebody's."""


def add(farm: Farm, *, account_id: str, name: str, password: str | None) -> Person:
    """Let somebody sign in for an account; without a password, at the identity provider alone.

    Raises:
        BadRequest: the name is none, or the password is short.
        NotFound: there is no such account.
        Conflict: the name is taken.
    """
    called = plain_name(name)
    hashed = "" if password is None else _hashed(password)
    now = farm.clock()
    with farm.store.write() as tx:
        if tx.get(Account, account_id) is None:
            raise NotFound(
                f"There is no account {account_id[:80]!r}.",
                LookAt(Listing.ACCOUNTS, "See the accounts there are."),
            )
        if tx.find(Person, name=called):
            raise Conflict(
                f"There is somebody called {called} already.", Say("Choose another name.")
            )
        person = Person(
            id=farm.new_id("per", now),
            account_id=account_id,
            name=called,
            password_hash=hashed,
            created_at_ms=now,
            password_at_ms=now,
        )
        tx.add(person)
        audit_log.note(farm, tx, "person.add", person.id, account_id, name=called)
    return person


def sign_in(farm: Farm, name: str, password: str) -> Person:
    """Return who this is.

    Raises:
        Unauthorized: nobody, or it is not the password; which of the two is not said.
    """
    with farm.store.read() as tx:
        found = tx.find(Person, name=safe_text.normal(name).lower()[:NAME_CHARS])
    known = found[0].password_hash if found else ""
    if not _fits(known or NOBODY, password[:MAX_PASSWORD_CHARS]) or not known:
        raise Unauthorized(
            "This name and password do not go together.",
            Say("Try again, or ask an operator for a new password."),
        )
    with farm.store.write() as tx:
        audit_log.note(farm, tx, "person.sign_in", found[0].id, found[0].account_id)
    return found[0]


def get(farm: Farm, person_id: str) -> Person:
    """Return somebody."""
    with farm.store.read() as tx:
        person = tx.get(Person, person_id)
    if person is None:
        raise NotFound(
            f"There is no person {person_id}.", LookAt(Listing.PEOPLE, "See the people there are.")
        )
    return person


def set_password(farm: Farm, person_id: str, password: str) -> Person:
    """Give somebody another password; every browser of theirs is signed out."""
    hashed = _hashed(password)
    person = get(farm, person_id)
    with farm.store.write() as tx:
        old = tx.get(Person, person.id, lock=True)
        if old is None:
            raise NotFound(f"There is no person {person_id}.")
        audit_log.note(farm, tx, "person.password", old.id, old.account_id)
        changed = replace(old, password_hash=hashed, password_at_ms=farm.clock())
        return tx.save(old, changed)


def remove(farm: Farm, person_id: str) -> None:
    """Let somebody sign in no more; every browser of theirs is signed out."""
    person = get(farm, person_id)
    with farm.store.write() as tx:
        audit_log.note(farm, tx, "person.remove", person.id, person.account_id, name=person.name)
        tx.remove(person)


def listing(farm: Farm) -> list[Person]:
    """Return everybody, newest first."""
    with farm.store.read() as tx:
        return tx.find(Person, order="-id")


def plain_name(name: str) -> str:
    """Return a person's name as it is kept.

    Raises:
        BadRequest: it is none.
    """
    try:
        found = safe_text.label(name).lower()
    except ValueError:
        found = ""
    if not found or len(found) > NAME_CHARS:
        raise BadRequest(f"A name has 1 to {NAME_CHARS} characters, such as an e-mail address.")
    return found


def _hashed(password: str) -> str:
    if not MIN_PASSWORD_CHARS <= len(password) <= MAX_PASSWORD_CHARS:
        raise BadRequest(
            f"A password has {MIN_PASSWORD_CHARS} to {MAX_PASSWORD_CHARS} characters.",
            Say("Take a sentence, or let a password manager make one."),
        )
    return HASHER.hash(password)


def _fits(known: str, password: str) -> bool:
    try:
        return HASHER.verify(known, password)
    except (VerificationError, InvalidHashError):
        return False
