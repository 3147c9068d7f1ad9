"""The account's page: its sessions, closed and opened here, and its keys with their allowances."""

from flask import redirect, render_template, request, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from orchestrator.farm.accounts import allowances, keys, sessions
from orchestrator.model import Json
from web.context import farm
from web.pages.blueprint import bp
from web.pages.budget import amount
from web.pages.page_data import me
from web.pages.signing import own_path
from web.threads import in_thread

CHANGES = {
    "reopen": sessions.reopen,
    "default": sessions.make_default,
    "close": sessions.close,
}


@bp.get("/account")
@login_required
def account() -> str:
    """Show the sessions and the keys of the account that is signed in."""
    return render_template("account.html", **in_thread(_account, me()))


@bp.post("/sessions")
@login_required
def change_session() -> Response:
    """Reopen an own session, close it, or make it the one of requests that name none.

    The field that says which names the session. Then show the page one was on.
    """
    verb = next((name for name in CHANGES if name in request.form), "default")
    in_thread(CHANGES[verb], farm(), me(), request.form.get(verb, ""))
    return redirect(own_path(request.form.get("next", "")) or "/", 303)


@bp.post("/keys/<key_id>/limit")
@login_required
def set_allowance(key_id: str) -> Response:
    """Give an own key another allowance; jobs that were paused because it was too low go on."""
    given = amount(request.form.get("gpu_seconds", ""))
    in_thread(allowances.change, farm(), me(), key_id, given)
    return redirect(url_for("pages.account", _anchor=key_id), 303)


def _account(account_id: str) -> Json:
    """Return everything that the page shows. Blocking: SQL."""
    rows = keys.listing(farm(), account_id)
    own = sessions.listing(farm(), account_id, limit=200).items
    return {
        "keys": [row for row in rows if row.kind in keys.CLIENTS and row.revoked_at_ms is None],
        "allowances": allowances.of(farm(), rows),
        "names": {session.id: session.name for session in own},
        "sessions": own,
        "defaults": sessions.defaults_of(farm(), own),
        "now_ms": farm().clock(),
    }
