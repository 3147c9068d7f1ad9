"""Webhooks: register endpoints, rotate their secrets, read what was sent, send it again."""

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm import webhook_queue
from orchestrator.model import Delivery, Json, Try, Webhook
from orchestrator.states import KeyKind
from web.api import views
from web.api.bodies import WebhookBody, webhook_url
from web.api.described import REFUSALS, operation_id, tag
from web.api.parameters import DeliveryPath, OnceHeader, PageQuery, WebhookPath, idempotency
from web.api.responses import SECURITY, DeliveryList, DeliveryView, WebhookList, WebhookView
from web.auth import account_scope, clients, current_key, own_account
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "webhooks",
    __name__,
    url_prefix=f"{views.BASE}/webhooks",
    abp_security=SECURITY,
    abp_responses=REFUSALS,
    abp_tags=[tag("webhooks")],
    operation_id_callback=operation_id,
)
bp.before_request(clients)


@bp.post("", responses={201: WebhookView})
def create(header: OnceHeader, body: WebhookBody) -> tuple[Json, int]:
    """Register an endpoint; its secret is shown this once. An admin's hears of workers too."""
    made = in_thread(
        webhook_queue.create,
        farm(),
        account_id=own_account(),
        url=webhook_url(body.url) or "",
        kinds=tuple(dict.fromkeys(body.events)),
        operator=current_key().kind is KeyKind.ADMIN,
        idempotency=idempotency(),
    )
    return _view(made) | {"secret": made.secret}, 201


@bp.get("", responses={200: WebhookList}, operation_id="webhooks_list")
def listing(query: PageQuery) -> Response:
    """List endpoints, newest first, without their secrets."""
    page = in_thread(
        webhook_queue.listing, farm(), account_scope(), limit=query.limit, after=query.after
    )
    return jsonify(views.listed(page, _view))


@bp.get("/<webhook_id>", responses={200: WebhookView})
def show(path: WebhookPath) -> Response:
    """Show an endpoint."""
    return jsonify(_view(in_thread(webhook_queue.get, farm(), account_scope(), path.webhook_id)))


@bp.delete("/<webhook_id>", responses={204: None})
def delete(path: WebhookPath) -> tuple[str, int]:
    """Send nothing more to an endpoint."""
    in_thread(webhook_queue.delete, farm(), account_scope(), path.webhook_id)
    return "", 204


@bp.post("/<webhook_id>/rotate", responses={200: WebhookView})
def rotate(path: WebhookPath) -> Response:
    """Give an endpoint a new secret, shown this once; the old one signs beside it for a day."""
    rotated = in_thread(webhook_queue.rotate, farm(), account_scope(), path.webhook_id)
    return jsonify(_view(rotated) | {"secret": rotated.secret})


@bp.post("/<webhook_id>/enable", responses={200: WebhookView})
def enable(path: WebhookPath) -> Response:
    """Send to an endpoint again that had answered 410."""
    return jsonify(_view(in_thread(webhook_queue.enable, farm(), account_scope(), path.webhook_id)))


@bp.post("/<webhook_id>/test", responses={202: DeliveryView})
def test(path: WebhookPath) -> tuple[Json, int]:
    """Send an endpoint a message of the kind `webhook.test`."""
    return _sent(in_thread(webhook_queue.test, farm(), account_scope(), path.webhook_id)), 202


@bp.get("/<webhook_id>/deliveries", responses={200: DeliveryList})
def deliveries(path: WebhookPath, query: PageQuery) -> Response:
    """List what an endpoint was sent and every try, newest first."""
    page = in_thread(
        webhook_queue.deliveries,
        farm(),
        account_scope(),
        path.webhook_id,
        limit=query.limit,
        after=query.after,
    )
    return jsonify(views.listed(page, _sent))


@bp.post("/<webhook_id>/deliveries/<delivery_id>/replay", responses={202: DeliveryView})
def replay(path: DeliveryPath) -> tuple[Json, int]:
    """Send a message again, under the same id."""
    again = in_thread(
        webhook_queue.replay, farm(), account_scope(), path.webhook_id, path.delivery_id
    )
    return _sent(again), 202


def _view(row: Webhook) -> Json:
    return {
        "id": row.id,
        "object": "webhook",
        "url": row.url,
        "events": list(row.kinds),
        "for_jobs": row.for_jobs,
        "hears_workers": row.operator,
        "state": row.state.value,
        "why": row.why,
        "old_secret_until": views.when(row.old_until_ms),
        "created_at": views.when(row.created_at_ms),
    }


def _sent(row: Delivery) -> Json:
    pending = row.ended_at_ms is None
    return {
        "id": row.id,
        "object": "delivery",
        "webhook_id": row.webhook_id,
        "type": row.kind,
        "state": row.state.value,
        "body": row.body,
        "tries": [_try(each) for each in row.tries],
        "next_try_at": views.when(row.next_at_ms) if pending else None,
        "created_at": views.when(row.created_at_ms),
        "ended_at": views.when(row.ended_at_ms),
    }


def _try(note: Try) -> Json:
    return {
        "at": views.when(note.at_ms),
        "status": note.status,
        "error": note.error,
        "milliseconds": note.milliseconds,
    }
