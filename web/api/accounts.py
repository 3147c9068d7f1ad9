"""Accounts and plans: who pays, what a month may cost, and what is left of it."""

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm.accounts import accounts
from orchestrator.farm.accounts.accounts import Standing
from orchestrator.farm.books import alerts
from orchestrator.model import Json
from orchestrator.money.plans import Plan
from web.api import views
from web.api.bodies import AccountBody, AlertsBody, PlanBody, alerts_of
from web.api.described import REFUSALS, operation_id, tag
from web.api.parameters import AccountPath, OnceHeader, PageQuery, idempotency
from web.api.responses import SECURITY, AccountList, AccountView, PlanList
from web.auth import clients, own_account
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "accounts",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
    abp_tags=[tag("accounts")],
    operation_id_callback=operation_id,
)
bp.before_request(clients)


@bp.get("/plans", responses={200: PlanList}, operation_id="plans_list")
def plans() -> Response:
    """List the plans an account can have."""
    return jsonify(data=[_plan(plan) for plan in farm().plans.plans.values()])


@bp.get("/account", responses={200: AccountView})
def own() -> Response:
    """Show the account of this key, with its month."""
    return jsonify(_account(in_thread(accounts.look, farm(), own_account())))


@bp.get("/accounts", responses={200: AccountList}, operation_id="accounts_list")
def listing(query: PageQuery) -> Response:
    """List accounts, newest first."""
    page = in_thread(accounts.listing, farm(), limit=query.limit, after=query.after)
    return jsonify(views.listed(page, _account))


@bp.post("/accounts", responses={201: AccountView})
def create(header: OnceHeader, body: AccountBody) -> tuple[Json, int]:
    """Open an account on a plan."""
    made = in_thread(
        accounts.create,
        farm(),
        name=body.name,
        plan=body.plan,
        by=own_account(),
        idempotency=idempotency(),
    )
    return _account(made), 201


@bp.get("/accounts/<account_id>", responses={200: AccountView})
def show(path: AccountPath) -> Response:
    """Show an account, with its month."""
    return jsonify(_account(in_thread(accounts.look, farm(), path.account_id)))


@bp.put("/accounts/<account_id>/plan", responses={200: AccountView})
def set_plan(path: AccountPath, body: PlanBody) -> Response:
    """Give an account another plan, or `none`; it counts from the next lease on."""
    return jsonify(_account(in_thread(accounts.set_plan, farm(), path.account_id, body.plan)))


@bp.put("/accounts/<account_id>/alerts", responses={200: AccountView})
def set_alerts(path: AccountPath, body: AlertsBody) -> Response:
    """Give an account's months alerts of their own instead of its plan's; they hold at once."""
    wanted = alerts_of(body.alerts)
    return jsonify(_account(in_thread(accounts.set_alerts, farm(), path.account_id, wanted)))


# --- as JSON ------------------------------------------------------------------------------


def _account(row: Standing) -> Json:
    """Return an account and its month."""
    month = row.month
    return {
        "id": row.account.id,
        "object": "account",
        "name": row.account.name,
        "plan": row.account.plan or None,
        "default_session_id": row.account.default_session_id,
        "may_run": bool(month.plan),
        "month": {
            "name": month.id.rpartition(".")[2],
            "limit_gpu_seconds": views.seconds(month.limit_gpu_ms),
            "held_gpu_seconds": views.seconds(month.held_gpu_ms),
            "spent_gpu_seconds": views.seconds(month.spent_gpu_ms),
            "available_gpu_seconds": views.seconds(month.available_gpu_ms),
        },
        "storage": {
            "limit_bytes": row.storage.limit_bytes,
            "used_bytes": row.storage.used_bytes,
            "files": {"count": row.storage.files, "bytes": row.storage.file_bytes},
            "characters": {"count": row.storage.characters, "bytes": row.storage.character_bytes},
        },
        "alerts": views.alerts(alerts.of(farm(), month, month)),
        "alerts_by": "plan" if month.alerts is None else "account",
        "created_at": views.when(row.account.created_at_ms),
    }


def _plan(row: Plan) -> Json:
    """Return a plan that an account can have; without a price it is paid by the GPU-second."""
    price = row.price_month_microusd
    return {
        "name": row.name,
        "object": "plan",
        "month_gpu_seconds": views.seconds(row.month_gpu_ms),
        "session_gpu_seconds": views.seconds(row.session_gpu_ms),
        "most_session_gpu_seconds": views.seconds(row.most_session_gpu_ms),
        "open_jobs": row.open_jobs,
        "megapixels": row.pixels and row.pixels / 1e6,
        "seconds": row.seconds,
        "steps": row.steps,
        "models": list(row.models),
        "weight": row.weight,
        "floor": row.floor,
        "storage_bytes": row.storage_bytes,
        "file_days": row.file_days,
        "watermark": row.watermark or None,
        "price_month": None if price is None else views.price(price),
        "alerts": views.alerts(row.alerts),
    }
