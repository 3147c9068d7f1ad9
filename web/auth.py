"""Authentication: a key in the Authorization header, or a browser that signed in.

The APIs take keys alone and no cookie, so that no page of another site can use them. Pages
take the cookie alone, and their forms carry a CSRF token.
"""

from collections.abc import Mapping
from typing import Final, cast

from flask import Flask, Response, g, redirect, request, url_for
from flask_login import LoginManager, UserMixin, current_user
from flask_wtf import CSRFProtect

from orchestrator.errors import FarmError, NotAllowed, NotFound, Unauthorized
from orchestrator.farm import Farm
from orchestrator.farm.accounts import accounts, keys, people
from orchestrator.farm.accounts.keys import CLIENTS
from orchestrator.model import Job, Json, Key, Person
from orchestrator.remedies import Listing, LookAt
from orchestrator.states import SCOPES, KeyKind, Scope
from web.context import farm
from web.threads import in_thread

csrf = CSRFProtect()


class Visitor(UserMixin):  # type: ignore[misc]  # flask_login has no types
    """A browser that signed in for an account: by a link, by a key, or as a person.

    What it signed in by stands in its cookie, so that the browser is signed out with the link's or
    the key's end, or with the person's next password.
    """

    def __init__(self, account_id: str, *, by: str) -> None:
        self.account_id = account_id
        self.by = by

    def get_id(self) -> str:
        """Return what the cookie carries."""
        return f"{self.by} {self.account_id}"

    @property
    def operates(self) -> bool:
        """Tell whether it is the operator's: it came by an admin key, or by a link of `farm up`.

        Nothing but `farm up` makes a link, and it prints it where the admin key can be read, too.
        """
        return self.by.partition(" ")[0] in OPERATORS


API: Final = "api"
"""Way in of a reader that shows its key with every request."""
OPERATORS: Final = frozenset({"link", KeyKind.ADMIN})
"""Ways to sign in that only an operator has; persons and user keys are an account's."""


def by_key(key: Key) -> str:
    """Return how a browser signed in that showed a key: a key's kind never changes."""
    return f"{key.kind} {key.id}"


def by_person(person: Person) -> str:
    """Return how a browser signed in that knew a person's password."""
    return f"person {person.id}@{person.password_at_ms}"


def by_link(link: Key) -> str:
    """Return how a browser signed in that had a one-time link."""
    return f"link {link.id}"


def init_app(app: Flask) -> None:
    """Set up sign-in and CSRF protection for the pages."""
    csrf.init_app(app)
    manager = LoginManager(app)
    manager.user_loader(_visitor)
    manager.unauthorized_handler(_to_the_door)


def _visitor(cookie: str) -> Visitor | None:
    how, _, rest = cookie.partition(" ")
    proof, _, account_id = rest.partition(" ")
    return in_thread(_checked, how, proof, account_id)


def _checked(how: str, proof: str, account_id: str) -> Visitor | None:
    """Return the visitor whose cookie says this, while it holds. Blocking: SQL."""
    try:
        accounts.get(farm(), account_id)
        if how == "person":
            person = people.get(farm(), proof.partition("@")[0])
            holds = by_person(person) == f"person {proof}" and person.account_id == account_id
        else:
            known = {"link": keys.still_opens, "admin": keys.is_live, "user": keys.is_live}.get(how)
            holds = known is not None and known(farm(), proof)
    except NotFound:
        return None
    return Visitor(account_id, by=f"{how} {proof}") if holds else None


def _to_the_door() -> Response:
    return cast(Response, redirect(url_for("pages.door", next=request.path), 303))


def current_key() -> Key:
    """Return the live key of this request.

    Raises:
        Unauthorized: there is none.
    """
    if "key" not in g:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token.strip():
            raise Unauthorized
        g.key = in_thread(keys.resolve, farm(), token.strip())
    return cast(Key, g.key)


def asker() -> str:
    """Return whom this request counts for: its account, however many keys and browsers that has."""
    if "key" in g:
        return current_key().account_id or current_key().id
    return str(current_user.account_id)


def reader() -> str:
    """Return who reads this answer, for `live_among`: this request's key, or its browser."""
    return f"{API} {current_key().id} -" if "key" in g else str(current_user.get_id())


def live_among(this_farm: Farm, readers: set[str]) -> frozenset[str]:
    """Return those of these readers whose key, or browser, is as good as ever. Blocking: SQL."""
    parts = {each: each.split(" ") for each in readers}
    who = {each: proof.partition("@")[0] for each, (_, proof, _) in parts.items()}
    of_people = {each for each, (how, *_) in parts.items() if how == "person"}
    by_key = readers - of_people
    opened = keys.live_among(this_farm, {who[each] for each in by_key}) if by_key else frozenset()
    there = {by_person(each): each for each in people.among(this_farm, {who[e] for e in of_people})}
    found = {each for each in by_key if who[each] in opened}
    for each in of_people:
        _, proof, account_id = parts[each]
        person = there.get(f"person {proof}")
        if person and person.account_id == account_id:
            found.add(each)
    return frozenset(found)


READERS: Final = (Scope.READ,)
PAYERS: Final = (Scope.PAY,)
CONFIGURERS: Final = (Scope.CONFIGURE,)
OPERATORS_ALONE: Final = (Scope.ADMIN,)
ASKED: Final[Mapping[str, tuple[Scope, ...]]] = {
    "accounts.create": OPERATORS_ALONE,
    "accounts.listing": OPERATORS_ALONE,
    "accounts.set_alerts": OPERATORS_ALONE,
    "accounts.set_plan": OPERATORS_ALONE,
    "accounts.show": OPERATORS_ALONE,
    "operators.audit": OPERATORS_ALONE,
    "operators.books": OPERATORS_ALONE,
    "operators.create_key": OPERATORS_ALONE,
    "operators.list_keys": (Scope.READ, Scope.PAY, Scope.CONFIGURE),
    "operators.revoke_key": CONFIGURERS,
    "operators.rotate_key": CONFIGURERS,
    "operators.set_freeze": OPERATORS_ALONE,
    "operators.set_allowance": PAYERS,
    "operators.show_checks": OPERATORS_ALONE,
    "operators.admit": OPERATORS_ALONE,
    "operators.drain": OPERATORS_ALONE,
    "people.add": OPERATORS_ALONE,
    "people.listing": OPERATORS_ALONE,
    "people.remove": OPERATORS_ALONE,
    "people.set_password": OPERATORS_ALONE,
    "sessions.close": PAYERS,
    "sessions.create": PAYERS,
    "sessions.listing": (Scope.READ, Scope.PAY),
    "sessions.lower": PAYERS,
    "sessions.make_default": PAYERS,
    "sessions.reopen": PAYERS,
    "sessions.set_alerts": CONFIGURERS,
    "sessions.show": (Scope.READ, Scope.PAY),
    "sessions.top_up": PAYERS,
    "webhooks.create": CONFIGURERS,
    "webhooks.delete": CONFIGURERS,
    "webhooks.deliveries": (Scope.READ, Scope.CONFIGURE),
    "webhooks.enable": CONFIGURERS,
    "webhooks.listing": (Scope.READ, Scope.CONFIGURE),
    "webhooks.replay": CONFIGURERS,
    "webhooks.rotate": CONFIGURERS,
    "webhooks.show": (Scope.READ, Scope.CONFIGURE),
    "webhooks.test": CONFIGURERS,
}
"""The views that ask for another scope than their method says, or for any of several."""


IN_WORDS: Final = (
    "A key, whose kind is its scopes: "
    + "; ".join(
        f"`{kind}` has {', '.join(f'`{scope}`' for scope in sorted(SCOPES[kind]))}"
        for kind in (*sorted(CLIENTS), KeyKind.ADMIN)
    )
    + ". Looking asks for `read`; jobs for `spend`, and for `steer` where another key sent them; "
    "sessions and allowances for `pay`; webhooks, alerts and keys for `configure`; the farm for "
    "`admin`. A bound key has `read` and `spend` at most. To a key without `read` answers have no "
    "words and no files of a job."
)
"""Words about keys in the API's description."""


def clients() -> None:
    """For a blueprint's before_request: a key is refused before a word of its request is read.

    Looking asks for one scope and everything else for another, but where the table says more.
    """
    usual = Scope.READ if request.method in ("GET", "HEAD") else Scope.SPEND
    needs(*ASKED.get(request.endpoint or "", (usual,)))


def needs(*scopes: Scope) -> None:
    """Refuse a key that has none of these scopes.

    Raises:
        NotAllowed: it has not.
    """
    key = current_key()
    if key.scopes.isdisjoint(scopes):
        asked = " or ".join(scopes)
        bound = ", which is bound," if key.is_bound else ""
        raise NotAllowed(f"This asks for the scope {asked}; this {key.kind} key{bound} has it not.")


def may(scope: Scope) -> bool:
    """Tell whether who asks may do this: a key with the scope, or a browser that signed in."""
    return "key" not in g or scope in current_key().scopes


def within_reach(job: Job, scope: Scope = Scope.STEER) -> Job:
    """Return a job that who asks may touch: any with this scope, else those its key submitted.

    Raises:
        NotFound: it is another's, which is to this key as if it were not there.
    """
    if may(scope) or job.key_id == current_key().first_id:
        return job
    raise NotFound(
        f"There is no job {job.id} that this key submitted.",
        LookAt(Listing.KEYS, f"Use a key with the scope {scope}."),
    )


def told(error: FarmError) -> Json:
    """Return what an error says to who asks: of other jobs nothing without the scope `read`."""
    hidden = () if may(Scope.READ) else ("held_by", "open_jobs")
    return {name: value for name, value in error.data.items() if name not in hidden}


def account_scope() -> str | None:
    """Return the account whose things this key may see; None for an admin key: all."""
    key = current_key()
    return None if key.kind is KeyKind.ADMIN else own_account()


def own_account() -> str:
    """Return the account that this key acts for."""
    account = current_key().account_id
    if account is None:
        raise NotAllowed("This key belongs to no account.")
    return account
