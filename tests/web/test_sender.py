"""The courier against a real receiver: signed, sent again, and never lost by a killed process."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
import standardwebhooks

from orchestrator.farm import Farm, webhook_queue
from orchestrator.model import Delivery, Webhook
from orchestrator.settings import networks
from orchestrator.states import DeliveryState
from orchestrator.store import open_store
from orchestrator.webhooks.addresses import Rules
from orchestrator.webhooks.safe_http import Door
from orchestrator.webhooks.sender import Courier
from orchestrator.wiring import now_ms
from tests.factories import account_id, make_farm, submit
from tests.receiver import Received, Receiver, receiving

HERE = Rules(http=True, networks=networks("127.0.0.1/32"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A plain HTTP server."""
    with receiving() as server:
        yield server


@pytest.fixture
def real(sqlite_url: str) -> Iterator[Farm]:
    """A farm by the clock on the wall, since signatures have a time."""
    store = open_store(sqlite_url)
    yield make_farm(store, now_ms)  # type: ignore[arg-type]
    store.close()


@pytest.fixture
def courier(real: Farm) -> Courier:
    """A courier that a test lets look."""
    door = Door(rules=HERE, timeout_seconds=5)
    return Courier(real, door, leads=lambda: True, stopped=threading.Event())


def hook_of(farm: Farm, url: str, *kinds: str) -> Webhook:
    """Register an endpoint."""
    asked = kinds or ("job.queued",)
    return webhook_queue.create(farm, account_id=account_id(farm), url=url, kinds=asked)


def look(courier: Courier) -> None:
    """Send what is due, to the end."""
    for sender in courier.look():
        sender.join(20)


def only(farm: Farm, webhook: Webhook) -> Delivery:
    """Return the one message of an endpoint."""
    (message,) = webhook_queue.deliveries(farm, None, webhook.id).items
    return message


def test_a_message_verifies_with_the_old_and_the_new_secret(
    real: Farm, courier: Courier, receiver: Receiver
) -> None:
    """Standard Webhooks' own library verifies what arrives, also during a rotation."""
    old = hook_of(real, receiver.url)
    new = webhook_queue.rotate(real, None, old.id)
    job = submit(real)
    look(courier)
    (got,) = receiver.got
    for secret in (old.secret, new.secret):
        payload = standardwebhooks.Webhook(secret).verify(got.body, got.headers)
        assert payload["data"]["id"] == job.id
    message = only(real, new)
    assert message.state is DeliveryState.DELIVERED
    assert got.headers["webhook-id"] == message.id
    assert got.body.decode() == message.body


def test_every_try_is_logged(real: Farm, courier: Courier, receiver: Receiver) -> None:
    """A refused and a broken try are in the log, with what was said and how long it took."""
    webhook = hook_of(real, receiver.url)
    submit(real)
    receiver.says = lambda *_: 503
    look(courier)
    (tried,) = only(real, webhook).tries
    assert (tried.status, tried.error) == (503, "")
    assert only(real, webhook).next_at_ms > now_ms()


@pytest.mark.parametrize(
    "url", ["http://127.0.0.2:9/", "http://169.254.169.254/latest", "https://127.0.0.1:1/"]
)
def test_an_address_that_is_refused_or_dead_is_a_failed_try(
    real: Farm, courier: Courier, url: str
) -> None:
    """The guard is asked at every try, whatever was checked when the URL was given."""
    webhook = hook_of(real, url)
    submit(real)
    look(courier)
    (tried,) = only(real, webhook).tries
    assert tried.status is None
    assert tried.error


def test_a_slow_receiver_does_not_hold_the_others(
    real: Farm, courier: Courier, receiver: Receiver
) -> None:
    """While one endpoint keeps its message waiting, another one gets its own."""
    let_go = threading.Event()
    with receiving() as slow:
        slow.says = lambda *_: (let_go.wait(10), 200)[1]
        stuck, quick = hook_of(real, slow.url), hook_of(real, receiver.url)
        submit(real)
        submit(real)
        senders = courier.look()
        _until(lambda: len(receiver.got) == 1)
        _until(lambda: webhook_queue.due(real, {stuck.id: stuck.account_id}, 9) != [])
        _until(lambda: courier.look() != [])
        _until(lambda: len(receiver.got) == 2)
        let_go.set()
        for sender in senders:
            sender.join(20)
    assert len(webhook_queue.deliveries(real, None, quick.id).items) == 2
    assert len(slow.got) == 1


@pytest.mark.slow(10)
def test_a_killed_dispatcher_sends_again_under_the_same_id(
    real: Farm, receiver: Receiver, tmp_path: Path
) -> None:
    """kill -9 after the message arrived and before that was noted: it comes again, same id."""
    webhook = hook_of(real, receiver.url)
    running: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        running.append(
            subprocess.Popen(
                [sys.executable, "-m", "orchestrator.dispatcher"],
                env=dict(os.environ)  # noqa: TID251 - a child's
                | {
                    "FARM_HOME": str(tmp_path),
                    "FARM_DATABASE_URL": str(real.store.engine.url),  # type: ignore[attr-defined]
                    "FARM_BROKER_URL": "redis://127.0.0.1:1/0",
                    "FARM_WEBHOOK_HTTP": "1",
                    "FARM_WEBHOOK_NETWORKS": "127.0.0.1/32",
                },
            )
        )

    def says(_: Received, handler: BaseHTTPRequestHandler) -> int:
        if len(receiver.got) == 1:
            running[0].send_signal(signal.SIGKILL)
            running[0].wait(10)
        return 200

    receiver.says = says
    submit(real)
    start()
    try:
        _until(lambda: len(receiver.got) == 1)
        assert running[0].wait(10) == -signal.SIGKILL
        assert only(real, webhook).tries == ()
        start()
        _until(lambda: only(real, webhook).state is DeliveryState.DELIVERED)
    finally:
        for process in running:
            process.terminate()
            process.wait(20)
    first, second = receiver.got
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert first.body == second.body


def _until(ready: Callable[[], bool], seconds: float = 30) -> None:
    limit = time.monotonic() + seconds
    while not ready():
        assert time.monotonic() < limit, "it did not come about"
        time.sleep(0.05)
