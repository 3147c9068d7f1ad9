"""Signing in by a one-time link, by name, by key or at a provider, and out again."""

from collections.abc import Mapping
from urllib.parse import urlsplit

from flask import abort, redirect, render_template, request, session, url_for
from flask_login import current_user, login_required, login_user, logout_user
from werkzeug.wrappers import Response

from orchestrator.errors import FarmError, NotAllowed, Unauthorized
from orchestrator.farm.accounts import identities, keys, people, sign_ins
from orchestrator.model import Key, Person
from orchestrator.remedies import GetLink
from orchestrator.states import KeyKind
from web import hosts, sso, streams
from web.auth import Visitor
from web.context import farm, settings
from web.pages.blueprint import bp
from web.threads import in_thread
from web.throttle import address, limiter, sign_in_limit

NEXT = "next"
"""In a browser's cookie: where it wanted to go before it was sent to the provider."""
SIGNIN = f"farm_{KeyKind.SIGNIN}_"
Answer = Response | tuple[str, int]


@bp.get("/sign-in/<token>")
def redeem(token: str) -> Answer:
    """Use up a one-time link. A browser that only looks ahead (prefetch) uses up nothing."""
    if request.method == "HEAD" or "prefetch" in request.headers.get("Sec-Purpose", ""):
        return Response(status=204)
    try:
        link = in_thread(keys.redeem_signin, farm(), token)
    except Unauthorized as error:
        if current_user.is_authenticated:
            return redirect(url_for("pages.home"), 303)
        return _door(error, status=401)
    return _enter(link, "")


@bp.get("/sign-in")
def door() -> Answer:
    """Ask for a link or a key."""
    if current_user.is_authenticated:
        return redirect(url_for("pages.home"), 303)
    return _door(None, status=200)


@bp.post("/sign-in")
@limiter.limit(sign_in_limit, key_func=address)
def sign_in() -> Answer:
    """Sign in by name and password, by a pasted link or by an API key."""
    try:
        holder = in_thread(_holder, request.form)
    except Unauthorized as error:
        return _door(error, status=401)
    return _enter(holder, request.form.get("next", ""))


@bp.get("/sign-in/provider")
@limiter.limit(sign_in_limit, key_func=address)
def provider() -> Answer:
    """Send a browser to the operator's identity provider."""
    if not sso.offered():
        abort(404)
    session[NEXT] = own_path(request.args.get("next", ""))
    try:
        return sso.begin(hosts.base() + url_for("pages.back"))
    except Unauthorized as error:
        return _door(error, status=502)


@bp.get("/sign-in/provider/back")
@limiter.limit(sign_in_limit, key_func=address)
def back() -> Answer:
    """Let in whom the provider sends back, if an operator said so."""
    if not sso.offered():
        abort(404)
    rules = settings()
    try:
        person = in_thread(
            identities.sign_in,
            farm(),
            sso.identity(),
            domains=rules.welcome_domains,
            account_id=rules.oidc_account or None,
        )
    except FarmError as error:
        return _door(error, status=403 if isinstance(error, NotAllowed) else 401)
    return _enter(person, session.get(NEXT, ""))


@bp.post("/sign-out")
@login_required
def sign_out() -> Response:
    """Sign this browser out, or with `everywhere` all that came in the same way.

    Copies of its cookie are worth nothing then, and its event streams end.
    """
    sign_in_id = str(current_user.get_id())
    ended = frozenset({sign_in_id})
    if request.form.get("everywhere") == "yes":
        ended = in_thread(sign_ins.end_everywhere, farm(), sign_in_id)
    else:
        in_thread(sign_ins.end, farm(), sign_in_id)
    streams.streams().end_of(ended)
    logout_user()
    return redirect(url_for("pages.door"), 303)


def _holder(form: Mapping[str, str]) -> Person | Key:
    """Return the person that the form proves, or its key or link. Blocking: SQL, and Argon2."""
    if name := form.get("name", "").strip():
        return people.sign_in(farm(), name, form.get("password", ""))
    token = form.get("token", "").strip().rstrip("/").rpartition("/")[2]
    if token.startswith(SIGNIN):
        return keys.redeem_signin(farm(), token)
    key = keys.resolve(farm(), token)
    alone = key.kind not in (KeyKind.ADMIN, KeyKind.USER) or key.is_bound
    if alone or key.account_id is None:  # pages steer, pay and configure
        raise Unauthorized("This key is for machines.", GetLink())
    return key


def _enter(holder: Person | Key, next_url: str) -> Response:
    visitor = Visitor(in_thread(sign_ins.begin, farm(), holder))
    session.clear()  # nothing that was in the browser before stays
    login_user(visitor)
    return redirect(own_path(next_url) or url_for("pages.home"), 303)


def own_path(url: str) -> str:
    """Return a path of this site, or nothing where the address leads away from it or is none."""
    if not url.isprintable():
        return ""
    parts = urlsplit(url)
    leads_away = parts.scheme or parts.netloc or "\\" in url or not url.startswith("/")
    return "" if leads_away or url.startswith("//") else url


def _door(error: FarmError | None, *, status: int) -> tuple[str, int]:
    trouble = error and {
        "title": "Not signed in",
        "what": error.message,
        "remedies": error.remedies,
    }
    page = render_template(
        "sign_in.html",
        trouble=trouble,
        next_url=request.values.get("next", ""),
        provider=settings().oidc_name if sso.offered() else "",
    )
    return page, status
