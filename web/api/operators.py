"""Models, workers, queues, usage, keys: what operators and curious clients ask."""

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.device_classes import ANY
from orchestrator.errors import NotFound
from orchestrator.farm.accounts import keys
from orchestrator.farm.books import calibration, economics
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.leases import fleet
from orchestrator.model import AuditEntry, Json, Key
from orchestrator.remedies import Listing, LookAt
from orchestrator.states import SCOPES, KeyKind
from web.api import bills, views
from web.api.bodies import FreezeBody, KeyBody, RotateBody
from web.api.described import REFUSALS, sheet_of
from web.api.parameters import (
    AuditQuery,
    CalibrationQuery,
    EconomicsQuery,
    KeyPath,
    ModelPath,
    UsageQuery,
    WorkerPath,
    idempotency,
)
from web.api.responses import (
    SECURITY,
    CalibrationView,
    EconomicsView,
    KeyView,
    Listed,
    ModelView,
    View,
    WorkerView,
)
from web.auth import account_scope, clients, own_account
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "operators",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
)
bp.before_request(clients)

VERBS = {"drain": fleet.drain, "admit": fleet.admit}


@bp.get("/models", responses={200: Listed})
def models() -> Response:
    """List the models on offer."""
    return jsonify(data=[views.model(card) for card in farm().catalog.cards.values()])


@bp.get("/models/<model_id>", responses={200: ModelView})
def model(path: ModelPath) -> Response:
    """Show a model: its limits, its words, its scores."""
    card = farm().catalog.cards.get(path.model_id)
    if card is None:
        raise NotFound(
            "There is no such model.", LookAt(Listing.MODELS, "See the models there are.")
        )
    return jsonify(views.model(card))


@bp.get("/workers", responses={200: Listed})
def workers() -> Response:
    """List the workers, newest first."""
    return jsonify(data=[views.worker(row) for row in in_thread(fleet.workers, farm())])


@bp.post("/workers/<worker_id>/<any(drain, admit):verb>", responses={200: WorkerView})
def set_worker(path: WorkerPath) -> Response:
    """Give a worker nothing new, or let it work again."""
    return jsonify(views.worker(in_thread(VERBS[path.verb], farm(), path.worker_id)))


@bp.get("/queues", responses={200: Listed})
def queues() -> Response:
    """List the queues and the devices idle beside them."""
    return jsonify(data=[views.queue(depth) for depth in in_thread(fleet.queues, farm())])


@bp.get("/freeze", responses={200: View})
def show_freeze() -> Response:
    """Say whether all spending is stopped."""
    return jsonify(frozen=in_thread(fleet.is_frozen, farm()))


@bp.put("/freeze", responses={200: View})
def set_freeze(body: FreezeBody) -> Response:
    """Stop all spending at once (running units pause), or let it go on."""
    in_thread(fleet.freeze, farm(), frozen=body.frozen)
    return jsonify(frozen=body.frozen)


@bp.get("/checks", responses={200: View})
def show_checks() -> Response:
    """Say when the whole store was last looked at, and what did not hold then."""
    seen = in_thread(fleet.looked, farm())
    return jsonify(at=views.when(seen["at_ms"]), faults=seen["faults"], first=seen["first"])


@bp.get("/audit", responses={200: Listed})
def audit(query: AuditQuery) -> Response:
    """List what was done by administrators, newest first: who, what, when, from where."""
    page = in_thread(
        audit_log.listing, farm(), limit=query.limit, after=query.after, kind=query.verb
    )
    return jsonify(views.listed(page, _audit_entry))


@bp.get("/rates", responses={200: Listed})
def rate_cards() -> Response:
    """List the rate cards, newest first: what a GPU-second costs by device class, from when."""
    now = farm().rates.at(farm().clock())
    cards = reversed(farm().rates.cards)
    return jsonify(data=[bills.rate_card(card, holds=card is now) for card in cards])


@bp.get("/usage", responses=sheet_of(Listed))
def usage(query: UsageQuery) -> Response:
    """Sum what was settled, and what was lost, since a while ago."""
    since = farm().clock() - round(query.since_seconds * 1000)
    rows = in_thread(fleet.usage, farm(), account_scope(), query.by, since)
    shown = [bills.usage(row) for row in rows]
    if bills.csv_wanted():
        return bills.csv_answer("usage", bills.USAGE, shown, key=query.by)
    return jsonify(data=shown)


@bp.get("/usage/economics", responses=sheet_of(EconomicsView))
def books(query: EconomicsQuery) -> Response:
    """Show cost, revenue, margin and caps that were hit; idle and lost device time too."""
    since = farm().clock() - round(query.since_seconds * 1000)
    told = bills.economics(in_thread(economics.economics, farm(), query.by, since))
    return bills.economics_csv(told) if bills.csv_wanted() else jsonify(told)


@bp.get("/usage/calibration", responses=sheet_of(CalibrationView))
def quote_accuracy(query: CalibrationQuery) -> Response:
    """Say how many of the newest ended jobs, of all accounts, came in under their p90."""
    told = in_thread(calibration.calibration, farm(), query.jobs)
    if bills.csv_wanted():
        return bills.csv_answer("calibration", bills.CALIBRATION, told["rows"])
    return jsonify(told)


@bp.get("/keys", responses={200: Listed})
def list_keys() -> Response:
    """List keys; their secrets are not kept."""
    return jsonify(data=[_key(row) for row in in_thread(keys.listing, farm(), account_scope())])


@bp.post("/keys", responses={201: KeyView})
def create_key(body: KeyBody) -> tuple[Json, int]:
    """Make a key; its token is shown this once, and a repeated request is answered without it.

    A join key lets in one worker unless `uses` says otherwise, and devices of its `device_classes`
    alone.
    """
    kind = KeyKind(body.kind)
    uses = 1 if body.uses is None and kind is KeyKind.JOIN else body.uses
    row, token = in_thread(
        keys.create_once,
        farm(),
        idempotency(),
        account_id=body.account_id or own_account(),
        kind=kind,
        name=body.name,
        ttl_seconds=body.ttl_seconds,
        enrols=keys.enrolling(kind, body.device_classes, None if uses == ANY else uses),
    )
    return _key(row, token), 201


@bp.delete("/keys/<key_id>", responses={200: KeyView})
def revoke_key(path: KeyPath) -> Response:
    """End a key at once. A user key ends no operator's key, and none of another account."""
    return jsonify(_key(in_thread(keys.revoke, farm(), account_scope(), path.key_id)))


@bp.post("/keys/<key_id>/rotate", responses={201: KeyView})
def rotate_key(path: KeyPath, body: RotateBody) -> tuple[Json, int]:
    """Make the key that takes this one's place; both live for a while. Its token is shown once."""
    scope, keep = account_scope(), body.keep_seconds
    row, token = in_thread(keys.rotate, farm(), scope, path.key_id, keep_seconds=keep)
    return _key(row, token), 201


# --- as JSON ------------------------------------------------------------------------------


def _key(row: Key, token: str | None = None) -> Json:
    """Return a key; `token` only when it was just made: it is not kept."""
    shown = {
        "id": row.id,
        "object": "key",
        "kind": row.kind.value,
        "scopes": sorted(SCOPES[row.kind]),
        "name": row.name,
        "account_id": row.account_id,
        "successor_id": row.successor_id,
        "device_classes": None if row.device_classes is None else list(row.device_classes),
        "uses": row.uses,
        "times_used": row.times_used,
        "created_at": views.when(row.created_at_ms),
        "expires_at": views.when(row.expires_at_ms),
        "revoked_at": views.when(row.revoked_at_ms),
        "used_at": views.when(row.used_at_ms),
    }
    return shown | {"token": token} if token else shown


def _audit_entry(row: AuditEntry) -> Json:
    """Return a line of the audit log."""
    return {
        "id": row.id,
        "object": "audit_entry",
        "at": views.when(row.at_ms),
        "verb": row.verb,
        "target": row.target,
        "account_id": row.account_id,
        "key_id": row.key_id,
        "source": row.source,
        "data": views.problem_data(row.data),
    }
