"""People who sign in at the operator's identity provider: who they are here."""

from dataclasses import dataclass, replace

from orchestrator.errors import NotAllowed, NotFound
from orchestrator.farm.accounts.people import plain_name
from orchestrator.farm.kernel import Farm, audit_log
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Account, Person
from orchestrator.remedies import AddPerson, Say


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Somebody, as a provider knows them."""

    issuer: str
    subject: str
    """The provider's own name for them, which stays when their address changes."""
    email: str
    email_verified: bool


def sign_in(
    farm: Farm, who: Identity, *, domains: frozenset[str], account_id: str | None
) -> Person:
    """Return the person that this is; from the second time on the provider's name decides alone.

    The first time their verified e-mail address must be the name of somebody whom an operator
    added and who has no identity yet, or of a domain in `domains`: then they become a person of
    the account, by default the farm's first one.

    Raises:
        NotAllowed: no operator said so.
        NotFound: the account that new people belong to is not there.
    """
    subject = f"{who.issuer} {who.subject}"
    with farm.store.write() as tx:
        known = tx.find(Person, subject=subject)
        person = known[0] if known else _first_time(farm, tx, who, subject, domains, account_id)
        audit_log.note(farm, tx, "person.sign_in", person.id, person.account_id, at=who.issuer)
    return person


def _first_time(
    farm: Farm,
    tx: Transaction,
    who: Identity,
    subject: str,
    domains: frozenset[str],
    account_id: str | None,
) -> Person:
    if not who.email_verified or "@" not in who.email:
        raise NotAllowed(
            "The provider has not verified your e-mail address.",
            Say("Verify it there, then sign in again."),
        )
    name = plain_name(who.email)
    account = tx.find(Account, limit=1) if account_id is None else tx.find(Account, id=account_id)
    if not account:
        raise NotFound("The account for new people is not there.", Say("Set FARM_OIDC_ACCOUNT."))
    tx.get(Account, account[0].id, lock=True)  # who comes twice at once waits here
    added = tx.find(Person, name=name, lock=True)
    if added and added[0].subject is None:
        audit_log.note(farm, tx, "person.bind", added[0].id, added[0].account_id, at=who.issuer)
        return tx.save(added[0], replace(added[0], subject=subject))
    if added or name.rpartition("@")[2] not in domains:
        raise NotAllowed(
            "Nobody with this e-mail address may sign in here by the provider.",
            AddPerson(name),
        )
    now = farm.clock()
    person = Person(
        id=farm.new_id("per", now),
        account_id=account[0].id,
        name=name,
        password_hash="",
        subject=subject,
        created_at_ms=now,
        password_at_ms=now,
    )
    tx.add(person)
    audit_log.note(farm, tx, "person.add", person.id, person.account_id, name=name, at=who.issuer)
    return person
