"""Watching the child while it has a unit: verdicts, the end of the lease, and silence."""

import threading
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

import structlog

from orchestrator.errors import Unavailable
from orchestrator.states import Outcome, Verdict
from orchestrator.wire import EncodeWork, Order
from workers.child import Child, ChildDied, Progress
from workers.heart import Held
from workers.result import Result

log = structlog.get_logger(__name__)

LISTEN_SECONDS: Final = 0.1
"""How long to listen to the child before looking at verdicts and clocks."""
LOAD_SECONDS: Final = 900.0
"""How long a child may say nothing before its first word: it may be loading a model."""
ENCODE_SECONDS: Final = 180.0
"""How long an encode may take beyond its limit; FFmpeg has timeouts of its own below that."""
LEAVE_SECONDS: Final = 6.0
"""How long a worker that is to go waits for its unit to stop at the next step."""
MARGIN: Final = 0.2
"""Of a lease: unanswered for longer than the rest, a unit is stopped while it can be reported."""


class Leaving(Exception):
    """The worker is to go and its unit did not stop in time: it is to be handed back."""


@dataclass(frozen=True, slots=True)
class Watch:
    """What the parent keeps an eye on."""

    child: Child
    lease_seconds: float
    grace_seconds: float
    leaving: threading.Event

    def result(self, held: Held) -> Result | None:
        """Listen until the child has a result; None where nobody wants one any more.

        Raises:
            ChildDied: it ended, or hung and was killed.
            Leaving: the worker was told to go.
            Unavailable: the lease ended while the farm did not answer.
        """
        patience = LOAD_SECONDS
        heard_at = monotonic()
        stopped_at: float | None = None
        leaving_at: float | None = None
        while True:
            message = self.child.receive(LISTEN_SECONDS)
            now = monotonic()
            if isinstance(message, Result):
                return _wanted(
                    held, message, leaving=leaving_at is not None, stopped=bool(stopped_at)
                )
            if isinstance(message, Progress):
                held.gpu_ms, held.frames_done = message.gpu_ms, message.frames_done
                heard_at, patience = now, self._patience(held.order)
            if self.leaving.is_set():
                leaving_at = leaving_at or now
                if now - leaving_at > LEAVE_SECONDS:
                    self.child.kill()
                    raise Leaving
            if stopped_at is None and (verdict := self._stop_for(held, now)):
                self.child.stop(verdict)
                stopped_at = now
            if now > held.deadline + self.grace_seconds:
                self.child.kill()
                raise Unavailable("The lease ended while the farm did not answer.")
            limit = self.lease_seconds + self.grace_seconds
            if now - heard_at > patience or (stopped_at and now - stopped_at > limit):
                self.child.kill()
                if held.verdict is Verdict.GONE:
                    return None
                raise ChildDied(f"The engine said nothing for {now - heard_at:.0f} s: killed.")

    def _stop_for(self, held: Held, now: float) -> Verdict | None:
        """Return why the child should stop: the farm says so, is silent, or the worker goes."""
        if held.verdict is not Verdict.GO:
            return held.verdict
        if self.leaving.is_set():
            return Verdict.PAUSE
        if now > held.deadline - MARGIN * self.lease_seconds:
            log.warning("lease about to end", lease=held.order.lease_id)
            return Verdict.PAUSE
        return None

    def _patience(self, order: Order) -> float:
        """Return for how many seconds a running child may say nothing."""
        extra = ENCODE_SECONDS if isinstance(order.work, EncodeWork) else 0.0
        return order.gpu_ms_limit / 1000 + self.lease_seconds + extra


def _wanted(held: Held, result: Result, *, leaving: bool, stopped: bool) -> Result | None:
    if held.verdict is Verdict.GONE:
        return None
    if stopped and held.verdict is Verdict.GO and result.outcome is Outcome.STOPPED:
        why = "The worker had to go." if leaving else "The farm did not answer in time."
        return replace(result, message=why)
    return result
