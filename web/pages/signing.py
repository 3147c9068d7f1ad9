"""Signing in by the one-time link that `farm up` prints, and out again."""

from urllib.parse import urlsplit

from flask import redirect, render_template, request, url_for
from flask_login import current_user, login_required, login_user, logout_user
from werkzeug.wrappers import Response

from orchestrator.errors import Unauthorized
from orchestrator.farm import accounts, keys
from orchestrator.model import Account
from orchestrator.states import KeyKind
from web.auth import Visitor
from web.context import farm
from web.hub import off_hub
from web.pages import bp

SIGNIN = f"farm_{KeyKind.SIGNIN}_"
Answer = Response | tuple[str, int]


@bp.get("/sign-in/<token>")
def redeem(token: str) -> Answer:
    """Use up a one-time link. A browser that only looks ahead (prefetch) uses up nothing."""
    if request.method == "HEAD" or "prefetch" in request.headers.get("Sec-Purpose", ""):
        return Response(status=204)
    try:
        account = off_hub(keys.redeem_signin, farm(), token)
    except Unauthorized as error:
        if current_user.is_authenticated:
            return redirect(url_for("pages.home"), 303)
        return _door(error, status=401)
    return _enter(account, "")


@bp.get("/sign-in")
def door() -> Answer:
    """Ask for a link or a key."""
    if current_user.is_authenticated:
        return redirect(url_for("pages.home"), 303)
    return _door(None, status=200)


@bp.post("/sign-in")
def sign_in() -> Answer:
    """Sign in by a pasted link or by an API key."""
    token = request.form.get("token", "").strip().rstrip("/").rpartition("/")[2]
    try:
        account = off_hub(_account, token)
    except Unauthorized as error:
        return _door(error, status=401)
    return _enter(account, request.form.get("next", ""))


@bp.post("/sign-out")
@login_required
def sign_out() -> Response:
    """Forget this browser."""
    logout_user()
    return redirect(url_for("pages.door"), 303)


def _account(token: str) -> Account:
    if token.startswith(SIGNIN):
        return keys.redeem_signin(farm(), token)
    key = keys.resolve(farm(), token)
    if key.kind not in (KeyKind.ADMIN, KeyKind.USER) or key.account_id is None:
        raise Unauthorized(
            "This key is for machines.", next="Use the sign-in link that `farm up` prints."
        )
    return accounts.get(farm(), key.account_id)


def _enter(account: Account, next_url: str) -> Response:
    login_user(Visitor(account.id))
    return redirect(_own_path(next_url) or url_for("pages.home"), 303)


def _own_path(url: str) -> str:
    """Return a path of this site, or nothing where the address leads away from it."""
    parts = urlsplit(url)
    leads_away = parts.scheme or parts.netloc or "\\" in url or not url.startswith("/")
    return "" if leads_away or url.startswith("//") else url


def _door(error: Unauthorized | None, *, status: int) -> tuple[str, int]:
    trouble = error and {"title": "Not signed in", "what": error.message, "next": error.next}
    page = render_template("sign_in.html", trouble=trouble, next_url=request.values.get("next", ""))
    return page, status
