"""The courier: sends webhook messages, in threads of the dispatcher, outside of any transaction.

What is sent and what came of it are two transactions with the request between them. A courier
that is killed there has noted nothing, so the next one sends the message again, under its id.
"""

import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import standardwebhooks
import structlog

from orchestrator.errors import FarmError
from orchestrator.farm import Farm, webhook_queue
from orchestrator.model import Delivery, Webhook
from orchestrator.webhooks.safe_http import Door

log = structlog.get_logger()

LOOK_SECONDS: Final = 0.5
SENDERS: Final = 16
"""Messages under way at once, each to another endpoint: a slow one keeps only itself waiting."""


class Courier(threading.Thread):
    """Looks for what is due while this dispatcher leads, and sends it."""

    def __init__(
        self, farm: Farm, door: Door, *, leads: Callable[[], bool], stopped: threading.Event
    ) -> None:
        super().__init__(name="courier", daemon=True)
        self.farm, self.door, self.leads, self.stopped = farm, door, leads, stopped
        self._busy: dict[str, str] = {}
        """Endpoints with a message under way -> whose they are."""

    def run(self) -> None:
        """Send until `stopped` is set. An error is logged and the loop goes on."""
        while not self.stopped.wait(LOOK_SECONDS):
            try:
                if self.leads():
                    self.look()
            except Exception:
                log.exception("courier failed")
                self.stopped.wait(5.0)

    def look(self) -> list[threading.Thread]:
        """Start to send what is due; return the threads that do."""
        busy = dict(self._busy)
        room = SENDERS - len(busy)
        senders = []
        for webhook, message in webhook_queue.due(self.farm, busy, room) if room else ():
            self._busy[webhook.id] = webhook.account_id
            sender = threading.Thread(target=self._send, args=(webhook, message), daemon=True)
            sender.start()
            senders.append(sender)
        return senders

    def _send(self, webhook: Webhook, message: Delivery) -> None:
        """Send one message and note the try; the boundary of a unit, which outlives any error."""
        try:
            self._try(webhook, message)
        except Exception:
            log.exception("message not sent", message=message.id, webhook=webhook.id)
            self.stopped.wait(5.0)
        finally:
            self._busy.pop(webhook.id, None)

    def _try(self, webhook: Webhook, message: Delivery) -> None:
        status, error, milliseconds = None, "", 0
        try:
            answer = self.door.post(
                webhook.url, message.body.encode(), headers(webhook, message, self.farm.clock())
            )
            status, milliseconds = answer.status, answer.milliseconds
        except FarmError as refused:
            error = refused.message
        after = webhook_queue.tried(
            self.farm, message.id, status=status, error=error, milliseconds=milliseconds
        )
        log.info(
            "webhook tried",
            message=message.id,
            webhook=webhook.id,
            status=status,
            error=error,
            state=after and after.state.value,
        )


def headers(webhook: Webhook, message: Delivery, now_ms: int) -> dict[str, str]:
    """Return the headers of a message sent now: its id, the time, and its signatures."""
    now = datetime.fromtimestamp(now_ms // 1000, UTC)
    signatures = [
        standardwebhooks.Webhook(secret).sign(message.id, now, message.body)
        for secret in webhook_queue.signing_secrets(webhook, now_ms)
    ]
    return {
        "Content-Type": "application/json",
        "webhook-id": message.id,
        "webhook-timestamp": str(now_ms // 1000),
        "webhook-signature": " ".join(signatures),
    }
