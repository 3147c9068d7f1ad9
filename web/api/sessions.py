"""Sessions: open, look, top up, read the ledger."""

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm import audit, sessions
from orchestrator.model import Json, Session
from web.api import bills, sheets, views
from web.api.amounts import gpu_ms
from web.api.bodies import (
    HeadQuery,
    LedgerQuery,
    LimitBody,
    PageQuery,
    SessionBody,
    SessionPath,
    TopUpBody,
)
from web.api.described import REFUSALS, sheet_of
from web.api.promises import idempotency
from web.api.responses import SECURITY, AuditView, Listed, SessionView
from web.auth import account_scope, clients, own_account
from web.context import farm
from web.hub import off_hub

bp = APIBlueprint(
    "sessions",
    __name__,
    url_prefix=f"{views.BASE}/sessions",
    abp_security=SECURITY,
    abp_responses=REFUSALS,
)
bp.before_request(clients)


@bp.post("", responses={201: SessionView})
def create(body: SessionBody) -> tuple[Json, int]:
    """Open a session with a budget."""
    made = off_hub(
        sessions.create,
        farm(),
        account_id=own_account(),
        name=body.name,
        budget_gpu_ms=None if body.budget_gpu_seconds is None else gpu_ms(body.budget_gpu_seconds),
        idempotency=idempotency(),
    )
    return views.session(made), 201


@bp.get("", responses={200: Listed})
def listing(query: PageQuery) -> Response:
    """List sessions, newest first."""
    page = off_hub(sessions.listing, farm(), account_scope(), limit=query.limit, after=query.after)
    return jsonify(views.listed(page, views.session))


@bp.get("/<session_id>", responses={200: SessionView})
def show(path: SessionPath) -> Response:
    """Show a session by id or name."""
    return jsonify(views.session(_look(path)))


@bp.post("/<session_id>/top-ups", responses={201: SessionView})
def top_up(path: SessionPath, body: TopUpBody) -> tuple[Json, int]:
    """Raise a session's budget; jobs that were paused for budget go on."""
    found = _look(path)
    session = off_hub(
        sessions.top_up,
        farm(),
        account_scope(),
        found.id,
        gpu_ms(body.gpu_seconds),
        idempotency(),
    )
    return views.session(session), 201


@bp.put("/<session_id>/limit", responses={200: SessionView})
def lower(path: SessionPath, body: LimitBody) -> Response:
    """Lower a session's budget: at once by what is available, then as holds release."""
    found = _look(path)
    amount = gpu_ms(body.gpu_seconds)
    return jsonify(
        views.session(off_hub(sessions.lower, farm(), account_scope(), found.id, amount))
    )


@bp.post("/<session_id>/close", responses={200: SessionView})
def close(path: SessionPath) -> Response:
    """Take no more jobs in a session; what runs finishes within its hold."""
    found = _look(path)
    return jsonify(views.session(off_hub(sessions.close, farm(), account_scope(), found.id)))


@bp.get("/<session_id>/ledger", responses=sheet_of(Listed))
def ledger(path: SessionPath, query: LedgerQuery) -> Response:
    """List a session's entries, newest first; as CSV all of them."""
    found = _look(path)
    if sheets.wanted():
        rows = off_hub(sessions.entries, farm(), account_scope(), found.id)
        return sheets.answer("ledger", sheets.ENTRY, map(bills.entry, rows))
    page = off_hub(
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
    told = off_hub(audit.verify_ledger, farm(), account_scope(), found.id, query.head)
    return jsonify(bills.audit(told))


def _look(path: SessionPath) -> Session:
    return off_hub(sessions.look, farm(), own_account(), account_scope(), path.session_id)
