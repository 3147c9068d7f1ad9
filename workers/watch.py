"""Watching the child: it takes up a model; and at a unit verdicts, the lease's end, silence."""

import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from time import monotonic
from typing import Final

import structlog

from orchestrator.errors import FarmError, Unavailable
from orchestrator.states import Outcome, Verdict
from orchestrator.wire import HeartbeatRequest, Order, PaceReport, RenderWork
from workers.child import Child, ChildDied, Progress
from workers.client import Client, Refused
from workers.heartbeat import HeldOrder
from workers.result import Result

log = structlog.get_logger(__name__)

LISTEN_SECONDS: Final = 0.1
"""Time to listen to the child before looking at verdicts and clocks."""
LOAD_SECONDS: Final = 900.0
"""Time that a render may say nothing before its first word: it may be loading a model."""
STEPS: Final = 5
"""Slowest steps for which a render may be silent; the margin of an unmeasured machine's quote."""
LOOK_SECONDS: Final = 1.0
"""Between two looks at the processor time of a plan or an encode."""
WORK_SECONDS: Final = 0.05
"""Processor time that shows them at work: an FFmpeg that was stopped or waits takes none."""
LEAVE_SECONDS: Final = 6.0
"""Time that a worker that is to go waits for its unit to stop at the next step."""
MARGIN: Final = 0.2
"""Of a lease: unanswered for longer than the rest, a unit is stopped while it can be reported."""


class Leaving(Exception):
    """The worker is to go and its unit did not stop in time: it is to be handed back."""


@dataclass(frozen=True, slots=True)
class Watch:
    """Facts that the parent keeps an eye on."""

    child: Child
    lease_seconds: float
    grace_seconds: float
    leaving: threading.Event

    def result(self, held: HeldOrder) -> Result | None:
        """Listen until the child has a result; None where nobody wants one any more.

        Raises:
            ChildDied: it ended, or hung and was killed.
            Leaving: the worker was told to go.
            Unavailable: the lease ended while the farm did not answer.
        """
        listener = Listener(held.order, self.lease_seconds, self.grace_seconds)
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
                held.steps_done, held.worked_ms = message.steps_done, message.worked_ms
            listener.listen(message, self.child, now)
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
            if listener.is_too_silent(now) or self._is_deaf(held, stopped_at, now):
                self.child.kill()
                if held.verdict is Verdict.GONE:
                    return None
                raise ChildDied(
                    f"The engine said nothing for {listener.silence(now):.0f} s: killed."
                )

    def _stop_for(self, held: HeldOrder, now: float) -> Verdict | None:
        """Return why the child should stop: the farm says so, is silent, or the worker goes."""
        if held.verdict is not Verdict.GO:
            return held.verdict
        if self.leaving.is_set():
            return Verdict.PAUSE
        if now > held.deadline - MARGIN * self.lease_seconds:
            log.warning("lease about to end", lease=held.order.lease_id)
            return Verdict.PAUSE
        return None

    def _is_deaf(self, held: HeldOrder, stopped_at: float | None, now: float) -> bool:
        """Tell whether a child did not stop within a lease and its grace.

        A plan or an encode whose job pauses may end what it is about: its files are wanted.
        """
        if stopped_at is None or now - stopped_at <= self.lease_seconds + self.grace_seconds:
            return False
        may_end = held.verdict not in (Verdict.CANCEL, Verdict.GONE)
        return isinstance(held.order.work, RenderWork) or not may_end


class Listener:
    """Silence of a child under an order, and the time for which it may be silent.

    A render speaks after every step. A plan or an encode is all processor time, its own and
    FFmpeg's, and that is looked at: whoever hangs takes none.
    """

    def __init__(self, order: Order, lease_seconds: float, grace_seconds: float) -> None:
        work = order.work
        self._lease_seconds, self._grace_seconds = lease_seconds, grace_seconds
        self._limit_seconds = order.gpu_ms_limit / 1000
        self._render = isinstance(work, RenderWork)
        self._slowest = 0.0
        if isinstance(work, RenderWork):
            self._slowest = max(work.step_gpu_ms_prior, work.decode_gpu_ms_prior) / 1000
        self._spoke = self._stepped = False
        self._heard_at = self._looked_at = monotonic()
        self._worked_seconds = 0.0

    def listen(self, message: Progress | Result | None, child: Child, now: float) -> None:
        """Note a sign of life, if there is one."""
        if isinstance(message, Progress):
            if self._spoke:
                self._slowest = max(self._slowest, now - self._heard_at)
            self._spoke, self._stepped = True, self._stepped or message.gpu_ms > 0
            self._heard_at = now
        elif not self._render and now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            worked = child.processor_seconds()
            if abs(worked - self._worked_seconds) >= WORK_SECONDS:
                self._worked_seconds, self._heard_at = worked, now

    def silence(self, now: float) -> float:
        """Return the seconds since the last sign of life."""
        return now - self._heard_at

    def is_too_silent(self, now: float) -> bool:
        """Tell whether it hangs."""
        return self.silence(now) > self._patience()

    def _patience(self) -> float:
        if self._render and not self._spoke:
            return LOAD_SECONDS
        # Before the first step all that is known of this device is what the whole unit may take.
        longest = STEPS * self._slowest if self._stepped else self._limit_seconds
        return max(longest if self._render else 0.0, self._lease_seconds) + self._grace_seconds


def _wanted(held: HeldOrder, result: Result, *, leaving: bool, stopped: bool) -> Result | None:
    if held.verdict is Verdict.GONE:
        return None
    if stopped and held.verdict is Verdict.GO and result.outcome is Outcome.STOPPED:
        why = "The worker had to go." if leaving else "The farm did not answer in time."
        return replace(result, message=why)
    return result


class TakingUp:
    """The paces that a child measures, on their way to the farm."""

    def __init__(
        self,
        client: Client,
        child: Child,
        leaving: threading.Event,
        refuse: Callable[[Refused], None],
    ) -> None:
        self._client, self._child = client, child
        self._leaving, self._refuse = leaving, refuse
        self._paces: list[PaceReport] = []

    def wait(self) -> None:
        """Wait until the child has loaded and timed its first model, and tell the farm how fast.

        A child that cannot is no matter: its first order says why.
        """
        until = monotonic() + LOAD_SECONDS
        try:
            while not self._leaving.is_set() and not self._child.take_up(LISTEN_SECONDS):
                if monotonic() > until:
                    log.warning("model not taken up", seconds=LOAD_SECONDS)
                    self._child.kill()
                    return
        except ChildDied as died:
            log.error("engine died", error=str(died))  # noqa: TRY400 - no trace needed
        self.tell()

    def tell(self) -> None:
        """Tell the farm what the child has measured since; what it refuses is said no more."""
        self._paces += self._child.take_paces()
        if not self._paces:
            return
        try:
            self._client.heartbeat(HeartbeatRequest(paces=tuple(self._paces)))
        except Unavailable as error:  # with the next one, then
            log.warning("pace not told", error=error.message)
            return
        except Refused as refused:
            self._refuse(refused)
        except FarmError as error:
            log.warning("pace refused", error=error.message)
        self._paces.clear()
