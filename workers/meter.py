"""Device time under one lease: what was used, by which stage, and whether the next step may run.

A meter does no I/O. The denoise loop asks it before every step; the answer is arithmetic on
what was measured so far. Milliseconds are floats inside and become integers once, at the end,
so that the stages of a receipt always sum to its total.
"""

import math
import resource
import sys
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter, process_time
from typing import Any, Final, Literal, Protocol

from orchestrator.receipt import DECODE, DENOISE, TRANSFER, Receipt
from orchestrator.states import Cause, Outcome, Verdict
from workers.checkpoint import Checkpoint

LOAD: Final = "load"
"""Model load and warm-up, making and taking up checkpoints: measured, never charged, not part
of the limit."""
TEXT_ENCODE: Final = "text_encode"
IMAGE_ENCODE: Final = "image_encode"
WAITED: Final = "wait"
"""Time of the host in which other programs had the device's cores: nobody is charged for it."""

StopReason = Literal["limit", "pause", "cancel", "gone"]
_REASONS: Final[dict[Verdict, StopReason]] = {
    Verdict.PAUSE: "pause",
    Verdict.CANCEL: "cancel",
    Verdict.GONE: "gone",
}


class Stopped(Exception):
    """The denoise loop was ended before its last step."""

    def __init__(self, reason: StopReason) -> None:
        self.reason: StopReason = reason
        self.checkpoint: Checkpoint | None = None
        """Checkpoint of the micro-batch, if it was begun and the engine knows how to go on."""
        super().__init__(reason)


class Timer(Protocol):
    """The clock of a device."""

    ahead: int
    """Stretches that may stay queued on the device while the host goes on."""

    def mark(self) -> object:
        """Return a point in the device's work, after all that was queued so far."""

    def ms_between(self, start: Any, end: Any) -> float:
        """Return the device time between two marks; waits until `end` is reached."""

    def waited_ms(self, start: Any, end: Any) -> float:
        """Return the time between two marks in which other programs had the device."""


class HostTimer:
    """The host's monotonic clock: what a device took that nobody else uses meanwhile."""

    ahead = 0

    def mark(self) -> float:
        """Return the time now, in seconds."""
        return perf_counter()

    def ms_between(self, start: float, end: float) -> float:
        """Return the milliseconds between two marks."""
        return (end - start) * 1000

    def waited_ms(self, start: float, end: float) -> float:
        """Return nothing: nobody else has it."""
        return 0.0


class CpuTimer:
    """The device time of a CPU: what its threads computed, over how many of them there are.

    A neighbour that takes turns on the same cores makes the work last longer, and no dearer: it
    is never more than the clock says. What was waited for is told apart.
    """

    ahead = 0

    def __init__(self, threads: int, *, children: bool = False) -> None:
        self._threads = threads
        self._children = children
        """Programs that it started and that have ended count too."""

    def mark(self) -> tuple[float, float]:
        """Return the time now and the time computed so far, in seconds."""
        computed = process_time()
        if self._children:
            ended = resource.getrusage(resource.RUSAGE_CHILDREN)
            computed += ended.ru_utime + ended.ru_stime
        return perf_counter(), computed

    def ms_between(self, start: tuple[float, float], end: tuple[float, float]) -> float:
        """Return the milliseconds of all threads together, over their number."""
        passed, computed = end[0] - start[0], end[1] - start[1]
        return 1000 * min(passed, computed / self._threads)

    def waited_ms(self, start: tuple[float, float], end: tuple[float, float]) -> float:
        """Return the milliseconds of the clock beyond those."""
        return 1000 * (end[0] - start[0]) - self.ms_between(start, end)


class Meter:
    """Measures one lease and keeps it within its limit.

    The next step may run while `spent + slowest step + decode reserve <= limit`. Both
    estimates are the caller's priors until one was measured, then the slowest seen. The
    first step of a lease counts only until there is a second one: it may include one-time
    work of the device.
    """

    def __init__(
        self,
        *,
        limit_gpu_ms: int,
        step_prior_ms: float = 0,
        decode_prior_ms: float = 0,
        stop: Callable[[], Verdict | None] = lambda: None,
        timer: Timer | None = None,
    ) -> None:
        self.on_step: Callable[[], None] | None = None
        """Called after every step; a reporter of progress hangs here."""
        self._limit_ms = limit_gpu_ms
        self._step_ms = step_prior_ms
        self._reserve_ms = decode_prior_ms
        self._stop = stop
        self._timer: Timer = timer or HostTimer()
        self._stage: str | None = None
        self._since: object = None
        self._queued: deque[tuple[str, bool, object, object]] = deque()
        self._stages_ms: dict[str, float] = {}
        self._spent_ms = self._load_ms = self._waited_ms = 0.0
        self.steps_done, self.worked_ms = 0, 0
        """Steps measured, kept or not; the host's time from the beginning to what was last."""
        self._began_at = math.inf
        self._kept_ms = 0.0
        self._kept_batches = 0
        self._kept_finish_ms = 0.0

    @classmethod
    def unlimited(cls, timer: Timer | None = None) -> "Meter":
        """Return a meter that refuses nothing, for work on nobody's bill."""
        return cls(limit_gpu_ms=sys.maxsize, timer=timer)

    # --- the gate ---

    def refusal(self) -> StopReason | None:
        """Return why the next step must not run, None where it may."""
        verdict = self._stop()
        reason = _REASONS.get(verdict) if verdict else None
        steps_ms = self._step_ms * (1 + len(self._queued))
        over = self._spent_ms + steps_ms + self._reserve_ms > self._limit_ms
        # The farm pauses whoever is over the limit, and learns from this word that it was too low.
        return "limit" if over and reason in (None, "pause") else reason

    def before_step(self) -> None:
        """Pass when one more step, and what finishes its frames, fits the limit.

        Raises:
            Stopped: it may not.
        """
        if reason := self.refusal():
            raise Stopped(reason)

    def before_batch(self) -> None:
        """Pass when a micro-batch is worth its start: at the mean pace so far it can be finished.

        Raises:
            Stopped: it would be thrown away unfinished, or its first step may not run.
        """
        self.before_step()
        if (
            self._kept_batches
            and self._spent_ms + self._kept_ms / self._kept_batches > self._limit_ms
        ):
            raise Stopped("limit")

    # --- the clock ---

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the device time of the block under `name`; stages do not nest."""
        assert self._stage is None, f"{name} inside {self._stage}"
        self._stage, self._since = name, self._timer.mark()
        if name != LOAD:
            self._began_at = min(self._began_at, perf_counter())
        try:
            yield
        finally:
            self._lap()
            self._settle(0)
            self._stage = None

    def switch(self, name: str) -> None:
        """End the running stage and go on as stage `name`, inside the same block."""
        self._lap()
        self._stage = name

    def step_done(self) -> None:
        """One denoising step of the running stage has ended."""
        self._lap(step=True)
        self._settle(self._timer.ahead)
        if self.on_step:
            self.on_step()

    def keep(self) -> None:
        """A micro-batch is finished: what was spent until now is worth its price."""
        finish_ms = self._stages_ms.get(DECODE, 0.0) + self._stages_ms.get(TRANSFER, 0.0)
        batch_finish_ms = finish_ms - self._kept_finish_ms
        self._reserve_ms = (
            max(self._reserve_ms, batch_finish_ms) if self._kept_batches else batch_finish_ms
        )
        self._kept_finish_ms = finish_ms
        self._kept_ms = self._spent_ms
        self._kept_batches += 1

    def keep_steps(self) -> int:
        """Everything spent is worth its price: a checkpoint has it. Return what was added."""
        before = self.kept_gpu_ms
        self._kept_ms = self._spent_ms
        return self.kept_gpu_ms - before

    def _lap(self, *, step: bool = False) -> None:
        assert self._stage is not None, "no stage is running"
        now = self._timer.mark()
        self.worked_ms = round(1000 * max(0.0, perf_counter() - self._began_at))
        self._queued.append((self._stage, step, self._since, now))
        self._since = now

    def _settle(self, ahead: int) -> None:
        while len(self._queued) > ahead:
            stage, step, start, end = self._queued.popleft()
            ms = self._timer.ms_between(start, end)
            self._waited_ms += self._timer.waited_ms(start, end)
            if stage == LOAD:
                self._load_ms += ms
                continue
            self._stages_ms[stage] = self._stages_ms.get(stage, 0.0) + ms
            self._spent_ms += ms
            if step:
                self.steps_done += 1
                self._step_ms = ms if self.steps_done <= 2 else max(self._step_ms, ms)

    @property
    def pace(self) -> tuple[float, float]:
        """Mean milliseconds of a step and of the finish of a micro-batch; 0: none was measured."""
        step_ms = self._stages_ms.get(DENOISE, 0.0) / self.steps_done if self.steps_done else 0.0
        return step_ms, self._kept_finish_ms / max(1, self._kept_batches)

    @property
    def slowest(self) -> tuple[float, float]:
        """Milliseconds of the slowest step and finish of a micro-batch; 0: none was measured."""
        step_ms = self._step_ms if self.steps_done else 0.0
        return step_ms, self._reserve_ms if self._kept_batches else 0.0

    # --- the bill ---

    @property
    def spent_gpu_ms(self) -> int:
        """All device time so far but load, rounded up."""
        return math.ceil(self._spent_ms)

    @property
    def kept_gpu_ms(self) -> int:
        """Device time of the finished micro-batches and kept steps, at most the limit."""
        return min(math.ceil(self._kept_ms), self._limit_ms)

    @property
    def load_gpu_ms(self) -> int:
        """Time of model load and warm-up, rounded up."""
        return math.ceil(self._load_ms)

    @property
    def by_stage(self) -> dict[str, int]:
        """Whole milliseconds by stage that sum to `spent_gpu_ms` (largest remainders go up)."""
        return _whole(self._stages_ms, self.spent_gpu_ms)

    def receipt(self, outcome: Outcome, cause: Cause | None = None, **facts: Any) -> Receipt:
        """Return what was measured, with what the session may be charged for `outcome`.

        Done, or failed by the request: everything up to the limit. Stopped: what was kept.
        Failed by the worker or the farm: nothing.
        """
        if outcome is Outcome.STOPPED:
            charged = self.kept_gpu_ms
        elif outcome is Outcome.DONE or cause is Cause.REQUEST:
            charged = min(self.spent_gpu_ms, self._limit_ms)
        else:
            charged = 0
        waited_ms = math.floor(self._waited_ms)
        host_ms = facts.pop("host_ms", {}) | ({WAITED: waited_ms} if waited_ms else {})
        return Receipt(
            gpu_ms=charged,
            wasted_gpu_ms=self.spent_gpu_ms - charged,
            by_stage=self.by_stage,
            load_gpu_ms=self.load_gpu_ms,
            steps_done=self.steps_done,
            next_step_gpu_ms=math.ceil(self._step_ms) if outcome is Outcome.STOPPED else 0,
            host_ms=host_ms,
            **facts,
        )


def _whole(stages_ms: dict[str, float], together: int) -> dict[str, int]:
    """Return whole milliseconds with this sum; the largest remainders go up."""
    whole = {stage: math.floor(ms) for stage, ms in stages_ms.items()}
    by_remainder = sorted(whole, key=lambda stage: whole[stage] - stages_ms[stage])
    for stage in by_remainder[: together - sum(whole.values())]:
        whole[stage] += 1
    return whole
