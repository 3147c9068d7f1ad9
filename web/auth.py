"""Authentication: a key in the Authorization header, or a browser that signed in.

The APIs take keys alone and no cookie, so that no page of another site can use them. Pages
take the cookie alone, and their forms carry a CSRF token.
"""

from collections.abc import Mapping
from typing import Final, cast

from flask import Flask, Response, g, redirect, request, url_for
from flask_login import LoginManager, UserMixin, current_user
from flask_wtf import CSRFProtect

from orchestrator.errors import NotAllowed, Unauthorized
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys, sign_ins
from orchestrator.farm.jobs import sharing
from orchestrator.model import Key, SignIn
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


ASKED: Final[Mapping[str, tuple[Scope, ...]]] = {
    "accounts.create": (Scope.ADMIN,),
    "accounts.listing": (Scope.ADMIN,),
    "accounts.set_alerts": (Scope.ADMIN,),
    "accounts.set_plan": (Scope.ADMIN,),
    "accounts.show": (Scope.ADMIN,),
    "links.create": (Scope.READ,),
    "operators.audit": (Scope.ADMIN,),
    "operators.books": (Scope.ADMIN,),
    "operators.create_key": (Scope.ADMIN,),
    "operators.revoke_key": (Scope.READ, Scope.SUBMIT),
    "operators.rotate_key": (Scope.READ, Scope.SUBMIT),
    "operators.set_freeze": (Scope.ADMIN,),
    "operators.show_checks": (Scope.ADMIN,),
    "operators.set_worker": (Scope.ADMIN,),
    "people.add": (Scope.ADMIN,),
    "people.listing": (Scope.ADMIN,),
    "people.remove": (Scope.ADMIN,),
    "people.set_password": (Scope.ADMIN,),
}
"""The views that ask for other scopes than their method says, and for all of these."""


def clients() -> None:
    """For a blueprint's before_request: a key is refused before a word of its request is read.

    Reading asks for one scope and everything else for another, but where the table says more.
    """
    usual = Scope.READ if request.method in ("GET", "HEAD") else Scope.SUBMIT
    for scope in ASKED.get(request.endpoint or "", (usual,)):
        needs(scope)


def needs(*scopes: Scope) -> None:
    """Refuse a key that has none of these scopes.

    Raises:
        NotAllowed: it has not.
    """
    kind = current_key().kind
    if SCOPES[kind].isdisjoint(scopes):
        asked = " or ".join(scopes)
        raise NotAllowed(f"This asks for a key with the scope {asked}; a {kind} key has it not.")


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
