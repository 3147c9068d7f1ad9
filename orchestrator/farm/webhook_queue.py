"""Webhooks: what an endpoint is told, when it is told again, and what was sent so far.

A message is a row, written in the transaction of what it tells of; the dispatcher sends it
outside of any (`orchestrator.webhooks.sender`). It is sent at least once, always under the same
id and with the same bytes. Signatures and the times of the tries follow https://www.standardwebhooks.com.
"""

import base64
import json
import secrets
import zlib
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final
from urllib.parse import urlsplit

from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.farm.kernel import Farm, Idempotency, Page, audit_log
from orchestrator.farm.kernel.idempotency import answered, remember
from orchestrator.farm.kernel.paging import page, part
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import WebhookMatch
from orchestrator.model import Account, Delivery, Job, Json, Try, Webhook
from orchestrator.remedies import EnableWebhook, Listing, LookAt, RegisterWebhook
from orchestrator.states import DeliveryState, JobState, WebhookState

JOB_EVENTS: Final = tuple(f"job.{state}" for state in JobState)
"""Kinds that a job's own `webhook_url` may be told of."""
EVENTS: Final = (
    *JOB_EVENTS,
    "budget.threshold",
    "worker.gone",
    "worker.quarantined",
    "webhook.test",
)
"""Kinds that an endpoint may ask for; `job.*` and `*` stand for several."""
_GROUPS: Final = frozenset({"*", *(f"{kind.partition('.')[0]}.*" for kind in EVENTS)})

WAITS_SECONDS: Final = (5, 300, 1800, 7200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""After each failed try: ten tries over 75 hours, as Standard Webhooks proposes."""
JITTER: Final = 0.1
"""A wait is up to this much shorter or longer, so that a crowd does not come back as one."""
ROTATION_MS: Final = 24 * 3_600_000
"""Time for which the old secret signs beside the new one."""
MOST_HOOKS: Final = 20
MOST_JOB_HOOKS: Final = 1000
TRIES_KEPT: Final = 50
SHARE: Final = 4
"""Endpoints of one account that are sent to at once: its hanging ones delay nobody else."""
GONE: Final = 410


def create(
    farm: Farm,
    *,
    account_id: str,
    url: str,
    kinds: tuple[str, ...] = ("*",),
    operator: bool = False,
    idempotency: Idempotency | None = None,
) -> Webhook:
    """Register an endpoint; the caller has checked the URL (`orchestrator.webhooks.addresses`).

    Raises:
        BadRequest: there is no event of such a kind.
        Conflict: the account has as many as it may.
    """
    _check(kinds, EVENTS, _GROUPS, "events")
    now = farm.clock()
    with farm.store.write() as tx:
        tx.get(Account, account_id, lock=True)  # the same request beside this one waits here
        if earlier := answered(tx, account_id, idempotency):
            return _own(tx, account_id, earlier)
        there = tx.find(Webhook, account_id=account_id, for_jobs=False, state=_KEPT)
        if len(there) >= MOST_HOOKS:
            raise Conflict(
                f"An account has at most {MOST_HOOKS} webhooks.",
                LookAt(Listing.WEBHOOKS, "Delete one of those there are."),
            )
        webhook = _new(farm, account_id, url, now, kinds=kinds, operator=operator)
        tx.add(webhook)
        remember(tx, account_id, idempotency, webhook.id, now)
        audit_log.note(farm, tx, "webhook.create", webhook.id, account_id, host=_host(url))
    return webhook


def check_job_events(kinds: tuple[str, ...]) -> None:
    """Refuse kinds of events that no job's own webhook is told of.

    Raises:
        BadRequest: one is unknown; the message lists those there are.
    """
    _check(kinds, JOB_EVENTS, frozenset({"job.*"}), "webhook_events")


def for_url(
    farm: Farm, tx: Transaction, account_id: str, url: str, now_ms: int
) -> tuple[Webhook, bool]:
    """Return the endpoint that jobs with this `webhook_url` tell, and whether it is new."""
    there = tx.find(Webhook, account_id=account_id, for_jobs=True, state=_KEPT)
    for webhook in there:
        if webhook.url == url:
            return tx.save(webhook, replace(webhook, state=WebhookState.ACTIVE, why="")), False
    if len(there) >= MOST_JOB_HOOKS:
        raise Conflict(
            f"The jobs of this account named {MOST_JOB_HOOKS} different webhook URLs.",
            RegisterWebhook(),
        )
    webhook = _new(farm, account_id, url, now_ms, kinds=("job.*",), for_jobs=True)
    tx.add(webhook)
    return webhook, True


def get(farm: Farm, account_id: str | None, webhook_id: str) -> Webhook:
    """Return an endpoint."""
    with farm.store.read() as tx:
        return _own(tx, account_id, webhook_id)


def listing(
    farm: Farm, account_id: str | None, *, limit: int = 50, after: str | None = None
) -> Page[Webhook]:
    """Return endpoints, newest first."""
    where: WebhookMatch = {"state": _KEPT}
    if account_id is not None:
        where["account_id"] = account_id
    with farm.store.read() as tx:
        return page(tx.find(Webhook, **where, **part(limit, after)), limit)


def rotate(farm: Farm, account_id: str | None, webhook_id: str) -> Webhook:
    """Give an endpoint a new secret; the old one signs beside it for a day."""
    with farm.store.write() as tx:
        webhook = _own(tx, account_id, webhook_id, lock=True)
        audit_log.note(farm, tx, "webhook.rotate", webhook.id, webhook.account_id)
        rotated = replace(
            webhook,
            secret=_secret(),
            old_secret=webhook.secret,
            old_until_ms=farm.clock() + ROTATION_MS,
        )
        return tx.save(webhook, rotated)


def enable(farm: Farm, account_id: str | None, webhook_id: str) -> Webhook:
    """Send to a disabled endpoint again; what failed meanwhile can be replayed."""
    with farm.store.write() as tx:
        webhook = _own(tx, account_id, webhook_id, lock=True)
        audit_log.note(farm, tx, "webhook.enable", webhook.id, webhook.account_id)
        return tx.save(webhook, replace(webhook, state=WebhookState.ACTIVE, why=""))


def delete(farm: Farm, account_id: str | None, webhook_id: str) -> None:
    """Send nothing more to an endpoint, and forget its secrets."""
    now = farm.clock()
    with farm.store.write() as tx:
        webhook = _own(tx, account_id, webhook_id, lock=True)
        audit_log.note(
            farm, tx, "webhook.delete", webhook.id, webhook.account_id, host=_host(webhook.url)
        )
        forgotten = replace(webhook, secret="", old_secret=None, old_until_ms=None)
        tx.save(webhook, replace(forgotten, state=WebhookState.DELETED))
        _drop(tx, webhook, now)


def test(farm: Farm, account_id: str | None, webhook_id: str) -> Delivery:
    """Send an endpoint a message that tells of nothing."""
    now = farm.clock()
    with farm.store.write() as tx:
        webhook = _own(tx, account_id, webhook_id, lock=True)
        if webhook.state is not WebhookState.ACTIVE:
            raise Conflict("The webhook is disabled.", EnableWebhook(webhook.id))
        message = _message(farm, webhook, "webhook.test", {"webhook_id": webhook.id}, now)
        tx.add(message)
        audit_log.of_operator(farm, tx, account_id, "webhook.test", webhook.id, webhook.account_id)
    return message


# --- what happened -----------------------------------------------------------------------


def tell(
    farm: Farm,
    tx: Transaction,
    account_id: str,
    kind: str,
    data: Json,
    now_ms: int,
    *,
    job: Job | None = None,
) -> None:
    """Write a message to every endpoint of an account that asked for events of this kind.

    `job`: whose event it is; its own webhook is told of what the job's request named.
    """
    found = tx.find(Webhook, account_id=account_id, for_jobs=False, state=WebhookState.ACTIVE)
    wanting = [webhook for webhook in found if _wants(webhook.kinds, kind)]
    named = tx.get(Webhook, job.webhook_id) if job and job.webhook_id else None
    if job and named and named.state is WebhookState.ACTIVE:
        wanting += [named] if _wants(job.webhook_events or named.kinds, kind) else []
    tx.add(*(_message(farm, webhook, kind, data, now_ms) for webhook in wanting))


def tell_of_job(farm: Farm, tx: Transaction, job: Job, state: str, now_ms: int) -> None:
    """Tell a job's owner of its new state."""
    data = {
        "id": job.id,
        "object": "job",
        "state": state,
        "pause_reason": job.pause_reason,
        "error": job.error.as_json() if job.error else None,
        "session_id": job.session_id,
        "model": job.model,
        "frames_total": job.frames_total,
        "frames_done": job.frames_done,
        "usage": {"gpu_ms": job.spent_gpu_ms, "held_gpu_ms": job.held_gpu_ms},
        "tags": list(job.tags),
        "metadata": dict(job.metadata),
    }
    tell(farm, tx, job.account_id, f"job.{state}", data, now_ms, job=job)


def tell_operators(farm: Farm, tx: Transaction, kind: str, data: Json, now_ms: int) -> None:
    """Tell every endpoint that an operator made: of what belongs to no account."""
    found = tx.find(Webhook, operator=True, state=WebhookState.ACTIVE)
    tx.add(
        *(
            _message(farm, webhook, kind, data, now_ms)
            for webhook in found
            if _wants(webhook.kinds, kind)
        )
    )


# --- what is sent ------------------------------------------------------------------------


def due(farm: Farm, busy: Mapping[str, str], limit: int) -> list[tuple[Webhook, Delivery]]:
    """Return what is to be sent now: the oldest of each endpoint that is not busy.

    `busy` says whose each busy endpoint is: of one account only so many are sent to at once.
    """
    under_way = Counter(busy.values())
    full = tuple(account for account, count in under_way.items() if count >= SHARE)
    chosen = []
    with farm.store.read() as tx:
        messages = tx.deliveries.due(farm.clock(), tuple(busy), full, SHARE, limit)
        webhooks = {
            webhook.id: webhook
            for webhook in tx.find(Webhook, id=tuple(m.webhook_id for m in messages))
        }
    for message in messages:
        webhook = webhooks[message.webhook_id]
        if under_way[webhook.account_id] < SHARE:
            under_way[webhook.account_id] += 1
            chosen.append((webhook, message))
    return chosen


def signing_secrets(webhook: Webhook, now_ms: int) -> tuple[str, ...]:
    """Return the secrets that sign now: two for a time after a rotation."""
    if webhook.old_secret and (webhook.old_until_ms or 0) > now_ms:
        return webhook.secret, webhook.old_secret
    return (webhook.secret,)


def tried(
    farm: Farm, delivery_id: str, *, status: int | None, error: str, milliseconds: int
) -> Delivery | None:
    """Note a try: 2xx ends it, 410 disables the endpoint, anything else is tried again later."""
    now = farm.clock()
    with farm.store.write() as tx:
        message = tx.get(Delivery, delivery_id)
        if message is None:
            return None
        webhook = tx.get(Webhook, message.webhook_id, lock=True)
        message = tx.get(Delivery, delivery_id, lock=True)
        if webhook is None or message is None or message.state is not DeliveryState.PENDING:
            return message
        note = Try(at_ms=now, status=status, error=error[:300], milliseconds=milliseconds)
        attempts = message.attempts + 1
        tries = (*message.tries, note)[-TRIES_KEPT:]
        after = replace(message, attempts=attempts, tries=tries)
        if status is not None and 200 <= status < 300:
            after = replace(after, state=DeliveryState.DELIVERED, ended_at_ms=now)
        elif status == GONE or attempts > len(WAITS_SECONDS):
            after = replace(after, state=DeliveryState.FAILED, ended_at_ms=now)
        else:
            after = replace(after, next_at_ms=now + wait_ms(message.id, attempts))
        tx.save(message, after)
        if status == GONE and webhook.state is WebhookState.ACTIVE:
            why = "It answered 410 Gone."
            tx.save(webhook, replace(webhook, state=WebhookState.DISABLED, why=why))
            _drop(tx, webhook, now)
    return after


def wait_ms(delivery_id: str, attempts: int) -> int:
    """Return the wait after so many failed tries; its jitter comes from the id."""
    part = zlib.crc32(f"{delivery_id}/{attempts}".encode()) / 2**32
    return round(WAITS_SECONDS[attempts - 1] * 1000 * (1 - JITTER + 2 * JITTER * part))


def deliveries(
    farm: Farm,
    account_id: str | None,
    webhook_id: str,
    *,
    limit: int = 50,
    after: str | None = None,
) -> Page[Delivery]:
    """Return what an endpoint was sent, newest first."""
    with farm.store.read() as tx:
        webhook = _own(tx, account_id, webhook_id)
        return page(tx.find(Delivery, webhook_id=webhook.id, **part(limit, after)), limit)


def replay(farm: Farm, account_id: str | None, webhook_id: str, delivery_id: str) -> Delivery:
    """Send a message again, under the same id."""
    with farm.store.write() as tx:
        webhook = _own(tx, account_id, webhook_id, lock=True)
        message = tx.get(Delivery, delivery_id, lock=True)
        if message is None or message.webhook_id != webhook.id:
            raise NotFound(
                f"There is no delivery {delivery_id}.",
                LookAt(Listing.DELIVERIES, "See what was sent.", webhook.id),
            )
        if webhook.state is not WebhookState.ACTIVE:
            raise Conflict("The webhook is disabled.", EnableWebhook(webhook.id))
        audit_log.of_operator(
            farm, tx, account_id, "webhook.replay", message.id, webhook.account_id
        )
        again = replace(
            message,
            state=DeliveryState.PENDING,
            attempts=0,
            next_at_ms=farm.clock(),
            ended_at_ms=None,
        )
        return tx.save(message, again)


# --- inside -------------------------------------------------------------------------------

_KEPT: Final = (WebhookState.ACTIVE, WebhookState.DISABLED)


def _check(
    kinds: tuple[str, ...], known: tuple[str, ...], groups: frozenset[str], field: str
) -> None:
    for kind in kinds:
        if kind not in known and kind not in groups:
            there = " ".join((*known, *sorted(groups)))
            raise BadRequest(
                f"{field}: there is no such event; there are: {there}.",
                errors=[{"field": field, "fault": "no such event"}],
            )


def _own(
    tx: Transaction, account_id: str | None, webhook_id: str, *, lock: bool = False
) -> Webhook:
    webhook = tx.get(Webhook, webhook_id, lock=lock)
    if (
        webhook is None
        or webhook.state is WebhookState.DELETED
        or account_id not in (None, webhook.account_id)
    ):
        raise NotFound(
            f"There is no webhook {webhook_id}.",
            LookAt(Listing.WEBHOOKS, "See the webhooks you have."),
        )
    return webhook


def _new(farm: Farm, account_id: str, url: str, now_ms: int, **facts: Any) -> Webhook:
    return Webhook(
        id=farm.new_id("hok", now_ms),
        account_id=account_id,
        url=url,
        secret=_secret(),
        created_at_ms=now_ms,
        **facts,
    )


def _host(url: str) -> str | None:
    """Return what of a URL may stand in a log for ever: its path may be a password."""
    return urlsplit(url).hostname


def _secret() -> str:
    return f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"


def _wants(kinds: Collection[str], kind: str) -> bool:
    return not {"*", kind, f"{kind.partition('.')[0]}.*"}.isdisjoint(kinds)


def _message(farm: Farm, webhook: Webhook, kind: str, data: Json, now_ms: int) -> Delivery:
    at = datetime.fromtimestamp(now_ms / 1000, UTC).isoformat(timespec="milliseconds")
    return Delivery(
        id=farm.new_id("msg", now_ms),
        webhook_id=webhook.id,
        kind=kind,
        body=json.dumps(
            {"type": kind, "timestamp": at, "data": _in_seconds(data)}, separators=(",", ":")
        ),
        next_at_ms=now_ms,
        created_at_ms=now_ms,
    )


def _in_seconds(value: object) -> object:
    """Return data as the API shows it: every GPU-ms as GPU-seconds; metadata is its owner's."""
    if not isinstance(value, dict):
        return value
    return {
        name.replace("gpu_ms", "gpu_seconds"): each
        if name == "metadata"
        else _in_seconds(each / 1000 if name.endswith("gpu_ms") and isinstance(each, int) else each)
        for name, each in value.items()
    }


def _drop(tx: Transaction, webhook: Webhook, now_ms: int) -> None:
    for message in tx.find(Delivery, webhook_id=webhook.id, state=DeliveryState.PENDING, lock=True):
        tx.save(message, replace(message, state=DeliveryState.FAILED, ended_at_ms=now_ms))
