"""Heartbeats: a thread that keeps leases alive and hears what the farm wants of them."""

import threading
from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic
from typing import Final

import structlog

from orchestrator.errors import FarmError, Unavailable
from orchestrator.states import Verdict
from orchestrator.wire import HeartbeatRequest, LeaseUse, Order
from workers.client import Client, Refused

log = structlog.get_logger(__name__)

IDLE_BEATS: Final = 5
"""A worker without leases is heard of at every fifth beat: it is alive and may be rung."""


@dataclass(slots=True)
class HeldOrder:
    """A lease in hand. The agent writes the use, the heartbeats the rest."""

    order: Order
    deadline: float
    """By this host's monotonic clock, counted from when the granting request was sent."""
    since: float = 0.0
    """When it was granted, by the same clock."""
    begun: float | None = None
    """When the child was given it, by the same clock."""
    gpu_ms: int = 0
    frames_done: int = 0
    steps_done: int = 0
    worked_ms: int = 0
    verdict: Verdict = Verdict.GO
    _sequence: int = 0

    @property
    def taken_ms(self) -> int:
        """Milliseconds for which it has had the device; at least what the child has told."""
        since = 0.0 if self.begun is None else monotonic() - self.begun
        return max(self.gpu_ms, round(1000 * since))

    def use(self) -> LeaseUse:
        """Return the next report of how far it is."""
        self._sequence += 1
        return LeaseUse(
            lease_id=self.order.lease_id,
            fence=self.order.fence,
            sequence=self._sequence,
            gpu_ms=self.gpu_ms,
            frames_done=self.frames_done,
            steps_done=self.steps_done,
            worked_ms=self.worked_ms,
        )


class Heartbeats:
    """Beats for every held lease, in a thread of its own, so that no long call starves them."""

    def __init__(
        self, client: Client, beat_seconds: float, on_refused: Callable[[Refused], None]
    ) -> None:
        self._client, self._beat_seconds, self._on_refused = client, beat_seconds, on_refused
        self._held: dict[str, HeldOrder] = {}
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeats", daemon=True)

    def start(self) -> None:
        """Start beating."""
        self._thread.start()

    def stop(self) -> None:
        """Beat no more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()

    def hold(self, order: Order, asked_at: float) -> HeldOrder:
        """Keep a lease alive that was granted to a request sent at `asked_at`."""
        held = HeldOrder(order, asked_at + order.expires_in_ms / 1000, since=monotonic())
        with self._lock:
            self._held[order.lease_id] = held
        return held

    def drop(self, held: HeldOrder) -> None:
        """Let a lease be."""
        with self._lock:
            self._held.pop(held.order.lease_id, None)

    def beat(self) -> None:
        """Report all leases once and note the verdicts.

        Raises:
            Unavailable: no answer; deadlines stay what they were.
        """
        with self._lock:
            held = list(self._held.values())
            request = HeartbeatRequest(leases=tuple(each.use() for each in held))
        asked_at = monotonic()
        answer = self._client.heartbeat(request)
        verdicts = {each.lease_id: each for each in answer.leases}
        for each in held:
            heard = verdicts.get(each.order.lease_id)
            verdict = heard.verdict if heard else Verdict.GONE
            if heard and verdict is not Verdict.GONE:
                each.deadline = asked_at + heard.expires_in_ms / 1000
            if verdict is not each.verdict:
                log.info("verdict heard", lease=each.order.lease_id, verdict=verdict)
            each.verdict = verdict

    def _run(self) -> None:
        waited = 0
        while not self._ended.wait(self._beat_seconds):
            waited += 1
            if not self._held and waited < IDLE_BEATS:
                continue
            waited = 0
            try:
                self.beat()
            except Refused as refused:
                self._on_refused(refused)
                return
            except Unavailable as error:
                log.warning("heartbeat not answered", error=error.message)
            except FarmError as error:
                log.error("heartbeat not understood", error=error.message)  # noqa: TRY400 - no trace needed
