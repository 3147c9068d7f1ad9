"""Sessions: open, look, top up, read the ledger."""

from collections.abc import Collection, Iterable

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm.accounts import sessions
from orchestrator.farm.books import verification
from orchestrator.model import Alert, Json, Session
from orchestrator.states import Scope
from web.api import bills, views
from web.api.bodies import AlertsBody, LimitBody, SessionBody, TopUpBody, alerts_of, gpu_ms
from web.api.described import REFUSALS, operation_id, sheet_of, tag
from web.api.parameters import (
    HeadQuery,
    LedgerQuery,
    OnceHeader,
    PageQuery,
    SessionPath,
    idempotency,
)
from web.api.responses import SECURITY, AuditView, EntryList, SessionList, SessionView
from web.auth import account_scope, clients, needs, own_account
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "sessions",
    __name__,
    url_prefix=f"{views.BASE}/sessions",
    abp_security=SECURITY,
    abp_responses=REFUSALS,
    abp_tags=[tag("sessions")],
    operation_id_callback=operation_id,
)
bp.before_request(clients)


@bp.post("", responses={201: SessionView})
def create(header: OnceHeader, body: SessionBody) -> tuple[Json, int]:
    """Open a session with a budget; alerts of its own ask for the scope `configure`, too."""
    if body.alerts is not None:
        needs(Scope.CONFIGURE)
    made = in_thread(
        sessions.create,
        farm(),
        account_id=own_account(),
        name=body.name,
        budget_gpu_ms=None if body.budget_gpu_seconds is None else gpu_ms(body.budget_gpu_seconds),
        own_alerts=alerts_of(body.alerts),
        idempotency=idempotency(),
    )
    return _shown(made), 201


@bp.get("", responses={200: SessionList}, operation_id="sessions_list")
def listing(query: PageQuery) -> Response:
    """List sessions, newest first."""
    page = in_thread(
        sessions.listing, farm(), account_scope(), limit=query.limit, after=query.after
    )
    alerts = in_thread(sessions.alerts_of, farm(), page.items)
    defaults = in_thread(sessions.defaults_of, farm(), page.items)
    return jsonify(views.listed(page, lambda row: _session(row, alerts[row.id], defaults)))


@bp.get("/<session_id>", responses={200: SessionView})
def show(path: SessionPath) -> Response:
    """Show a session by id or name."""
    return jsonify(_shown(_look(path)))


@bp.post("/<session_id>/top-ups", responses={201: SessionView})
def top_up(header: OnceHeader, path: SessionPath, body: TopUpBody) -> tuple[Json, int]:
    """Raise a session's budget; jobs that were paused for budget go on."""
    found = _look(path)
    session = in_thread(
        sessions.top_up,
        farm(),
        account_scope(),
        found.id,
        gpu_ms(body.gpu_seconds),
        idempotency(),
    )
    return _shown(session), 201


@bp.put("/<session_id>/limit", responses={200: SessionView})
def lower(path: SessionPath, body: LimitBody) -> Response:
    """Lower a session's budget: at once by what is available, then as holds release."""
    found = _look(path)
    amount = gpu_ms(body.gpu_seconds)
    return jsonify(_shown(in_thread(sessions.lower, farm(), account_scope(), found.id, amount)))


@bp.post("/<session_id>/close", responses={200: SessionView})
def close(path: SessionPath) -> Response:
    """Take no more jobs in a session until it is reopened; what runs finishes within its hold.

    While a closed session is the account's default (`is_default`), requests without `session_id`
    are refused.
    """
    found = _look(path)
    return jsonify(_shown(in_thread(sessions.close, farm(), account_scope(), found.id)))


@bp.post("/<session_id>/reopen", responses={200: SessionView})
def reopen(path: SessionPath) -> Response:
    """Take jobs in a closed session again; what waits in it for budget goes on."""
    found = _look(path)
    return jsonify(_shown(in_thread(sessions.reopen, farm(), account_scope(), found.id)))


@bp.post("/<session_id>/default", responses={200: SessionView})
def make_default(path: SessionPath) -> Response:
    """Make an open session the one of its account's requests without `session_id`."""
    found = _look(path)
    return jsonify(_shown(in_thread(sessions.make_default, farm(), account_scope(), found.id)))


@bp.put("/<session_id>/alerts", responses={200: SessionView})
def set_alerts(path: SessionPath, body: AlertsBody) -> Response:
    """Give a session alerts of its own instead of its plan's; they hold at once."""
    found, wanted = _look(path), alerts_of(body.alerts)
    changed = in_thread(sessions.set_alerts, farm(), account_scope(), found.id, wanted)
    return jsonify(_shown(changed))


@bp.get("/<session_id>/ledger", responses=sheet_of(EntryList))
def ledger(path: SessionPath, query: LedgerQuery) -> Response:
    """List a session's entries, newest first; as CSV all of them."""
    found = _look(path)
    if bills.csv_wanted():
        rows = in_thread(sessions.entries, farm(), account_scope(), found.id)
        return bills.csv_answer("ledger", bills.ENTRY, map(bills.entry, rows))
    page = in_thread(
        sessions.ledger_page,
        farm(),
        account_scope(),
        found.id,
        limit=query.limit,
        after=query.after,
    )
    return jsonify(views.listed(page, bills.entry))


@bp.get("/<session_id>/ledger/audit", responses={200: AuditView})
def verify(path: SessionPath, query: HeadQuery) -> Response:
    """Compute the whole chain anew; with `head`, look for a digest that was kept elsewhere."""
    found = _look(path)
    told = in_thread(verification.verify_ledger, farm(), account_scope(), found.id, query.head)
    return jsonify(bills.audit(told))


def _look(path: SessionPath) -> Session:
    return in_thread(sessions.look, farm(), own_account(), account_scope(), path.session_id)


def _shown(row: Session) -> Json:
    holds = in_thread(sessions.alerts_of, farm(), (row,))[row.id]
    return _session(row, holds, in_thread(sessions.defaults_of, farm(), (row,)))


def _session(row: Session, holds: Iterable[Alert], defaults: Collection[str]) -> Json:
    """Return a session, its balances and the alerts that hold for it."""
    return {
        "id": row.id,
        "object": "session",
        "name": row.name,
        "state": row.state.value,
        "is_default": row.id in defaults,
        "budget_gpu_seconds": views.seconds(row.limit_gpu_ms),
        "held_gpu_seconds": views.seconds(row.held_gpu_ms),
        "spent_gpu_seconds": views.seconds(row.spent_gpu_ms),
        "available_gpu_seconds": views.seconds(row.available_gpu_ms),
        "alerts": views.alerts(holds),
        "alerts_by": "plan" if row.alerts is None else "session",
        "entries": row.entries,
        "head_sha256": row.head_sha256 or None,
        "created_at": views.when(row.created_at_ms),
    }
