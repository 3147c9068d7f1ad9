"""Models, workers, queues, usage, keys: what operators and curious clients ask."""

from collections.abc import Mapping

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.device_classes import ANY
from orchestrator.errors import NotFound
from orchestrator.farm.accounts import allowances, keys
from orchestrator.farm.accounts.keys import Bounds
from orchestrator.farm.books import calibration, economics
from orchestrator.farm.jobs import sharing
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.leases import fleet
from orchestrator.model import Allowance, AuditEntry, Json, Key
from orchestrator.remedies import Listing, LookAt
from orchestrator.states import KeyKind
from web.api import bills, views
from web.api.bodies import AllowanceBody, FreezeBody, KeyBody, RotateBody, gpu_ms
from web.api.described import REFUSALS, operation_id, sheet_of, tag
from web.api.parameters import (
    AuditQuery,
    CalibrationQuery,
    EconomicsQuery,
    KeyPath,
    ModelPath,
    OnceHeader,
    UsageQuery,
    WorkerPath,
    idempotency,
)
from web.api.responses import (
    SECURITY,
    AuditLog,
    CalibrationView,
    ChecksView,
    EconomicsView,
    FreezeView,
    KeyList,
    KeyView,
    ModelList,
    ModelView,
    QueueList,
    RateCardList,
    UsageList,
    WorkerList,
    WorkerView,
)
from web.auth import account_scope, clients, current_key, own_account
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "operators",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
    operation_id_callback=operation_id,
)
bp.before_request(clients)


@bp.get("/models", responses={200: ModelList}, tags=[tag("models")], operation_id="models_list")
def models() -> Response:
    """List the models on offer."""
    return jsonify(data=[views.model(card) for card in farm().catalog.cards.values()])


@bp.get(
    "/models/<model_id>",
    responses={200: ModelView},
    tags=[tag("models")],
    operation_id="models_show",
)
def model(path: ModelPath) -> Response:
    """Show a model: its limits, its words, its scores."""
    card = farm().catalog.cards.get(path.model_id)
    if card is None:
        raise NotFound(
            "There is no such model.", LookAt(Listing.MODELS, "See the models there are.")
        )
    return jsonify(views.model(card))


@bp.get("/workers", responses={200: WorkerList}, tags=[tag("workers")], operation_id="workers_list")
def workers() -> Response:
    """List the workers, newest first."""
    return jsonify(data=[views.worker(row) for row in in_thread(fleet.workers, farm())])


@bp.post(
    "/workers/<worker_id>/drain",
    responses={200: WorkerView},
    tags=[tag("workers")],
    operation_id="workers_drain",
)
def drain(path: WorkerPath) -> Response:
    """Give a worker nothing new."""
    return jsonify(views.worker(in_thread(fleet.drain, farm(), path.worker_id)))


@bp.post(
    "/workers/<worker_id>/admit",
    responses={200: WorkerView},
    tags=[tag("workers")],
    operation_id="workers_admit",
)
def admit(path: WorkerPath) -> Response:
    """Let a worker work again."""
    return jsonify(views.worker(in_thread(fleet.admit, farm(), path.worker_id)))


@bp.get("/queues", responses={200: QueueList}, tags=[tag("workers")], operation_id="queues_list")
def queues() -> Response:
    """List the queues and the devices idle beside them."""
    return jsonify(data=[views.queue(depth) for depth in in_thread(fleet.queues, farm())])


@bp.get("/freeze", responses={200: FreezeView}, tags=[tag("workers")], operation_id="freeze_show")
def show_freeze() -> Response:
    """Say whether all spending is stopped."""
    return jsonify(frozen=in_thread(fleet.is_frozen, farm()))


@bp.put("/freeze", responses={200: FreezeView}, tags=[tag("workers")], operation_id="freeze_set")
def set_freeze(body: FreezeBody) -> Response:
    """Stop all spending at once (running units pause), or let it go on."""
    in_thread(fleet.freeze, farm(), frozen=body.frozen)
    return jsonify(frozen=body.frozen)


@bp.get("/checks", responses={200: ChecksView}, tags=[tag("audit")], operation_id="checks_show")
def show_checks() -> Response:
    """Say when the whole store was last looked at, and what did not hold then."""
    seen = in_thread(fleet.looked, farm())
    return jsonify(at=views.when(seen["at_ms"]), faults=seen["faults"], first=seen["first"])


@bp.get("/audit", responses={200: AuditLog}, tags=[tag("audit")], operation_id="audit_list")
def audit(query: AuditQuery) -> Response:
    """List what was done by administrators, newest first: who, what, when, from where."""
    page = in_thread(
        audit_log.listing, farm(), limit=query.limit, after=query.after, kind=query.verb
    )
    return jsonify(views.listed(page, _audit_entry))


@bp.get("/rates", responses={200: RateCardList}, tags=[tag("usage")], operation_id="rates_list")
def rate_cards() -> Response:
    """List the rate cards, newest first: what a GPU-second costs by device class, from when."""
    now = farm().rates.at(farm().clock())
    cards = reversed(farm().rates.cards)
    return jsonify(data=[bills.rate_card(card, holds=card is now) for card in cards])


@bp.get("/usage", responses=sheet_of(UsageList), tags=[tag("usage")], operation_id="usage_show")
def usage(query: UsageQuery) -> Response:
    """Sum what was settled, and what was lost, since a while ago."""
    since = farm().clock() - round(query.since_seconds * 1000)
    rows = in_thread(fleet.usage, farm(), account_scope(), query.by, since)
    shown = [bills.usage(row) for row in rows]
    if bills.csv_wanted():
        return bills.csv_answer("usage", bills.USAGE, shown, key=query.by)
    return jsonify(data=shown)


@bp.get(
    "/usage/economics",
    responses=sheet_of(EconomicsView),
    tags=[tag("usage")],
    operation_id="usage_economics",
)
def books(query: EconomicsQuery) -> Response:
    """Show cost, revenue, margin and caps that were hit; idle and lost device time too."""
    since = farm().clock() - round(query.since_seconds * 1000)
    told = bills.economics(in_thread(economics.economics, farm(), query.by, since))
    return bills.economics_csv(told) if bills.csv_wanted() else jsonify(told)


@bp.get(
    "/usage/calibration",
    responses=sheet_of(CalibrationView),
    tags=[tag("usage")],
    operation_id="usage_calibration",
)
def quote_accuracy(query: CalibrationQuery) -> Response:
    """Say how many of the newest ended jobs, of all accounts, came in under their p90."""
    told = in_thread(calibration.calibration, farm(), query.jobs)
    if bills.csv_wanted():
        return bills.csv_answer("calibration", bills.CALIBRATION, told["rows"])
    return jsonify(told)


@bp.get("/keys", responses={200: KeyList}, tags=[tag("keys")], operation_id="keys_list")
def list_keys() -> Response:
    """List keys with their bounds; their secrets are not kept."""
    rows = in_thread(keys.listing, farm(), account_scope())
    known = in_thread(allowances.of, farm(), rows)
    return jsonify(data=[_key(row, known) for row in rows])


@bp.post("/keys", responses={201: KeyView}, tags=[tag("keys")], operation_id="keys_create")
def create_key(header: OnceHeader, body: KeyBody) -> tuple[Json, int]:
    """Make a key; its token is shown this once, and a repeated request is answered without it.

    One that is bound to a session or to an allowance has the scopes `read` and `spend` at most. A
    join key lets in one worker unless `uses` says otherwise, and devices of its `device_classes`
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
        bounds=Bounds(
            session=body.session_id,
            gpu_ms=None if body.gpu_seconds is None else gpu_ms(body.gpu_seconds),
        ),
        enrols=keys.enrolling(kind, body.device_classes, None if uses == ANY else uses),
    )
    return _shown(row, token), 201


@bp.put(
    "/keys/<key_id>/limit",
    responses={200: KeyView},
    tags=[tag("keys")],
    operation_id="keys_limit",
)
def set_allowance(path: KeyPath, body: AllowanceBody) -> Response:
    """Give a key another allowance; jobs of its that were paused because it was too low go on."""
    amount = gpu_ms(body.gpu_seconds)
    return jsonify(
        _shown(in_thread(allowances.change, farm(), account_scope(), path.key_id, amount))
    )


@bp.delete(
    "/keys/<key_id>", responses={200: KeyView}, tags=[tag("keys")], operation_id="keys_revoke"
)
def revoke_key(path: KeyPath) -> Response:
    """End a key at once. A user key ends no operator's key, and none of another account.

    `links_left_open` says how many share links it made that do not end with it.
    """
    row = in_thread(keys.revoke, farm(), account_scope(), path.key_id)
    return jsonify(_shown(row) | {"links_left_open": in_thread(sharing.left_open, farm(), row.id)})


@bp.post(
    "/keys/<key_id>/rotate",
    responses={201: KeyView},
    tags=[tag("keys")],
    operation_id="keys_rotate",
)
def rotate_key(path: KeyPath, body: RotateBody) -> tuple[Json, int]:
    """Make the key that takes this one's place; both live for a while, and have one allowance.

    Its token is shown once, to a key that may do all that this one may.
    """
    row, token = in_thread(
        keys.rotate,
        farm(),
        account_scope(),
        path.key_id,
        keep_seconds=body.keep_seconds,
        within=current_key().scopes,
    )
    return _shown(row, token), 201


# --- as JSON ------------------------------------------------------------------------------


def _shown(row: Key, token: str | None = None) -> Json:
    """Return a key; `token` only when it was just made: it is not kept."""
    shown = _key(row, in_thread(allowances.of, farm(), (row,)))
    return shown | {"token": token} if token else shown


def _key(row: Key, known: Mapping[str, Allowance]) -> Json:
    given = known.get(row.allowance_id or "")
    return {
        "id": row.id,
        "object": "key",
        "kind": row.kind.value,
        "scopes": sorted(row.scopes),
        "name": row.name,
        "account_id": row.account_id,
        "session_id": row.session_id,
        "allowance": given and _allowance(given),
        "successor_id": row.successor_id,
        "device_classes": None if row.device_classes is None else list(row.device_classes),
        "uses": row.uses,
        "times_used": row.times_used,
        "created_at": views.when(row.created_at_ms),
        "expires_at": views.when(row.expires_at_ms),
        "revoked_at": views.when(row.revoked_at_ms),
        "used_at": views.when(row.used_at_ms),
    }


def _allowance(row: Allowance) -> Json:
    return {
        "limit_gpu_seconds": views.seconds(row.limit_gpu_ms),
        "held_gpu_seconds": views.seconds(row.held_gpu_ms),
        "spent_gpu_seconds": views.seconds(row.spent_gpu_ms),
        "available_gpu_seconds": views.seconds(row.available_gpu_ms),
    }


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
