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
from orchestrator.farm.accounts import keys, sign_ins
from orchestrator.farm.accounts.keys import CLIENTS
from orchestrator.farm.jobs import sharing
from orchestrator.model import Job, Json, Key, SignIn
from orchestrator.remedies import Listing, LookAt
from orchestrator.states import SCOPES, KeyKind, Scope, WayIn
from web.context import farm
from web.threads import in_thread

csrf = CSRFProtect()


class Visitor(UserMixin):  # type: ignore[misc]  # flask_login has no types
    """A browser that signed in for an account: by a link, by a key, or as a person.

    Its cookie carries the id of its sign-in, which the farm keeps: signed out, a copy of the cookie
    is worth nothing either.
    """

    def __init__(self, sign_in: SignIn) -> None:
        self.sign_in = sign_in
        self.account_id = sign_in.account_id

    def get_id(self) -> str:
        """Return what the cookie carries."""
        return self.sign_in.id

    @property
    def operates(self) -> bool:
        """Tell whether it is the operator's: it came by an admin key, or by a link of `farm up`.

        Nothing but `farm up` makes a link, and it prints it where the admin key can be read, too.
        """
        return self.sign_in.way in OPERATORS


OPERATORS: Final = frozenset({WayIn.LINK, WayIn.ADMIN})
"""Ways to sign in that only an operator has; persons and user keys are an account's."""


def init_app(app: Flask) -> None:
    """Set up sign-in and CSRF protection for the pages."""
    csrf.init_app(app)
    manager = LoginManager(app)
    manager.user_loader(_visitor)
    manager.unauthorized_handler(_to_the_door)


def _visitor(sign_in_id: str) -> Visitor | None:
    found = in_thread(sign_ins.living, farm(), {sign_in_id}).get(sign_in_id)
    return Visitor(found) if found else None


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
    """Return who reads this answer, for `live_among`: the id of its key, or of its sign-in."""
    return current_key().id if "key" in g else str(current_user.get_id())


def maker() -> sharing.Maker:
    """Return who makes a share link by this request."""
    if "key" in g:
        return sharing.Maker(key_id=current_key().id)
    row: SignIn = current_user.sign_in
    if row.way is WayIn.PERSON:
        return sharing.Maker(person_id=row.holder_id)
    return sharing.Maker(key_id=row.holder_id)


def live_among(this_farm: Farm, readers: set[str]) -> frozenset[str]:
    """Return those of these readers whose key, or sign-in, is as good as ever. Blocking: SQL."""
    by_key = {each for each in readers if each.startswith("key_")}
    browsers = readers - by_key
    found = keys.live_among(this_farm, by_key) if by_key else frozenset()
    return found | (sign_ins.living(this_farm, browsers).keys() if browsers else frozenset())


READERS: Final = (Scope.READ,)
PAYERS: Final = (Scope.PAY,)
CONFIGURERS: Final = (Scope.CONFIGURE,)
STEERERS: Final = (Scope.STEER,)
OPERATORS_ALONE: Final = (Scope.ADMIN,)
ASKED: Final[Mapping[str, tuple[Scope, ...]]] = {
    "accounts.create": OPERATORS_ALONE,
    "accounts.listing": OPERATORS_ALONE,
    "accounts.set_alerts": OPERATORS_ALONE,
    "accounts.set_plan": OPERATORS_ALONE,
    "accounts.show": OPERATORS_ALONE,
    "files.delete_character": STEERERS,
    "files.delete_file": STEERERS,
    "links.create": READERS,
    "links.revoke": (Scope.READ, Scope.STEER, Scope.CONFIGURE),
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
    "references.delete_file": STEERERS,
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
    + ". Looking asks for `read`; jobs for `spend`, and for `steer` where another key sent them, "
    "or to delete files and characters; a share link is ended by the key that made it, or by "
    "`steer` or `configure`; sessions and allowances ask for `pay`; webhooks, alerts and keys for "
    "`configure`; the farm for `admin`. A bound key has `read` and `spend` at most. To a key "
    "without `read` answers have no words and no files of a job."
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


def own_line(*scopes: Scope) -> str | None:
    """Return the line of keys whose things alone who asks may end; None with one of the scopes."""
    return None if any(may(scope) for scope in scopes) else current_key().first_id


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
