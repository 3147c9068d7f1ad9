"""The process that owns the device: engines, FFmpeg, one unit at a time.

The parent (`workers.agent`) speaks HTTP and beats; this child computes. They share a pipe and
one integer, the order to stop. A child that hangs is killed with everything it started.
"""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.sharedctypes import RawValue
from pathlib import Path
from typing import Any, Final

import psutil
import structlog

from orchestrator import logs
from orchestrator.catalog import Catalog, ModelCard
from orchestrator.device_classes import CPU
from orchestrator.model import Size
from orchestrator.settings import settings
from orchestrator.states import Outcome, Verdict
from orchestrator.wire import CHECKPOINT, EncodeWork, Order, PaceReport, ParseWork, RenderWork
from workers import checkpoint, devices
from workers.encode import encode
from workers.engines import Engine, engine_for, timer_for
from workers.ffmpeg import SegmentWriter
from workers.meter import LOAD, CpuTimer, HostTimer, Meter, Timer
from workers.pace import Paces, pace_of, take_paces
from workers.parse import parse
from workers.render import render
from workers.result import Result, cause_of, message_of, with_host

log = structlog.get_logger(__name__)

STOPS: Final = (None, Verdict.PAUSE, Verdict.CANCEL, Verdict.GONE)
"""Meanings of the shared integer."""
MEMORY_SHARE: Final = 0.8
"""Of the device's memory, for weights of warm models; the rest is for the work."""
SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
PARENT_CHECK_SECONDS: Final = 1.0
_PR_SET_PDEATHSIG: Final = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Setup:
    """Facts that a child needs for its whole life."""

    device: devices.Device
    threads: int
    catalog: Catalog
    warm: str | None = None
    """The model to load before the first order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Assignment:
    """One order, with what the parent has fetched for it."""

    order: Order
    inputs: Mapping[str, Path]
    """Artifact key -> local file."""
    folder: Path
    """For its files; the parent's to remove."""
    sent_at: float = 0.0
    """By the monotonic clock, which both processes share; 0: nobody looked."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of the unit."""

    gpu_ms: int
    frames_done: int
    steps_done: int = 0
    worked_ms: int = 0
    """By the host's clock, to the last of these steps."""


@dataclass(frozen=True, slots=True)
class TakenUp:
    """A model was loaded, and its paces as far as it could be timed."""

    paces: tuple[PaceReport, ...]


class ChildDied(Exception):  # the parent's to report as the machine's fault
    """The child process has ended without a result."""


# --- the parent's side --------------------------------------------------------------------


class Child:
    """The parent's hold on the process; started again when it has died.

    Used by the main thread alone: on Linux a child dies with the thread that started it.
    """

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._context = multiprocessing.get_context("spawn")
        self._stop: Any = RawValue(ctypes.c_int, 0)
        self._process: Any = None
        self._pipe: connection.Connection[Any, Any] | None = None
        self._paces: list[PaceReport] = []
        self.ready = setup.warm is None
        """It has taken up the model to load before its first order, or has failed to."""

    @property
    def pid(self) -> int | None:
        """Process id while it lives."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process where there is none."""
        if self._process is not None:
            return
        self._pipe, theirs = self._context.Pipe()
        self._process = self._context.Process(
            target=main, args=(theirs, self._stop, self._setup, os.getpid()), daemon=True
        )
        # Blocked until the child ignores them: Ctrl-C reaches it while it imports, too.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        try:
            self._process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        log.info("engine started", pid=self._process.pid)

    def begin(self, assignment: Assignment) -> None:
        """Give it a unit."""
        self.start()
        assert self._pipe is not None
        self._stop.value = 0
        with suppress(BrokenPipeError):  # `receive` tells
            self._pipe.send(assignment)

    def stop(self, verdict: Verdict) -> None:
        """Tell it to end the unit before its next step."""
        self._stop.value = STOPS.index(verdict)

    def receive(self, seconds: float) -> Progress | Result | None:
        """Return its next message, None when there was none for `seconds`.

        Raises:
            ChildDied: it has ended.
        """
        assert self._pipe is not None, "begin comes first"
        try:
            while self._pipe.poll(seconds):
                message: Progress | Result | TakenUp = self._pipe.recv()
                if not isinstance(message, TakenUp):
                    return message
                self.ready = True
                self._paces += message.paces
        except (EOFError, ConnectionResetError):
            raise ChildDied(self._last_words()) from None
        return None

    def take_paces(self) -> tuple[PaceReport, ...]:
        """Return what it told of its models' paces since the last call."""
        told, self._paces = tuple(self._paces), []
        return told

    def take_up(self, seconds: float) -> bool:
        """Listen until it has taken up its first model; tell whether that is so.

        Raises:
            ChildDied: it has ended.
        """
        if not self.ready:
            self.receive(seconds)
        return self.ready

    def processor_seconds(self) -> float:
        """Return the processor time of it and of everything it started, ended ones too."""
        total = 0.0
        with suppress(psutil.NoSuchProcess):
            root = psutil.Process(self.pid)
            for process in [root, *root.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    total += sum(process.cpu_times()[:4])  # user, system, and ended children's
        return total

    def kill(self) -> None:
        """End it and everything it started, at once."""
        if self._process is None:
            return
        kill_tree(self._process.pid)
        self._process.join()
        self._process.close()
        if self._pipe is not None:
            self._pipe.close()
        self._process = self._pipe = None

    def _last_words(self) -> str:
        self._process.join(5)
        code = self._process.exitcode
        self.kill()
        if code is not None and code < 0:
            name = signal.Signals(-code).name
            memory = " (out of memory?)" if name == "SIGKILL" else ""
            return f"The engine process was ended by {name}{memory}."
        return f"The engine process ended with exit code {code}."


def kill_tree(pid: int) -> None:
    """Kill a process and its descendants; those that are gone already are no matter."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [*root.children(recursive=True), root]:
            with suppress(psutil.NoSuchProcess):
                process.kill()


# --- the child's side ---------------------------------------------------------------------


def main(pipe: Any, stop: Any, setup: Setup, parent: int) -> None:
    """Do assignments until the parent closes the pipe or dies."""
    # As NVML counts, by which the parent chose the device; torch is not loaded yet.
    os.environ["CUDA_DEVICE_ORDER"] = "PCI_BUS_ID"  # noqa: TID251 - CUDA looks there
    for number in SIGNALS:  # they reach the whole group; what they mean is the parent's to say
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
    _die_with(parent)
    logs.configure(settings())
    crew = Crew(setup)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        if setup.warm:
            pipe.send(TakenUp(crew.warm_up(setup.warm)))
        while True:
            assignment = pipe.recv()
            start_ms = round(1000 * (time.monotonic() - assignment.sent_at))
            result = crew.run(assignment, lambda: STOPS[stop.value], pipe.send)
            if crew.paced:  # before the result, with which it is heard
                pipe.send(TakenUp((crew.paced,)))
                crew.paced = None
            pipe.send(with_host(result, {"start": start_ms}))
    crew.unload()


class Crew:
    """The warm engines of a device and how each kind of unit is done."""

    def __init__(self, setup: Setup) -> None:
        self._setup = setup
        self._engines: OrderedDict[str, Engine] = OrderedDict()
        self._paces = Paces()
        self._taken_up: set[str] = set()
        self.paced: PaceReport | None = None
        """Pace of the model that the last unit was the first of."""

    def run(
        self,
        assignment: Assignment,
        stop: Callable[[], Verdict | None],
        tell: Callable[[Progress], None],
    ) -> Result:
        """Do one unit; whatever goes wrong is a failed result."""
        order, work = assignment.order, assignment.order.work
        meter = Meter(limit_gpu_ms=order.gpu_ms_limit, stop=stop, timer=self._host_timer())
        try:
            match work:
                case ParseWork():
                    return parse(work, self._setup.catalog, meter)
                case EncodeWork():
                    return encode(work, assignment.inputs, assignment.folder, meter)
                case RenderWork():
                    return self._render(assignment, work, stop, tell)
        except Exception as error:  # the unit boundary: loading a model may fail in any way
            cause = cause_of(error)
            log.warning("unit failed", unit=order.unit_id, cause=cause, exc_info=error)
            return Result(
                outcome=Outcome.FAILED,
                cause=cause,
                message=message_of(error),
                receipt=meter.receipt(Outcome.FAILED, cause),
            )

    def _host_timer(self) -> Timer:
        """Return the clock of units without an engine, which may start programs of their own."""
        setup = self._setup
        if setup.device.device_class != CPU:
            return HostTimer()
        return CpuTimer(devices.cpu_threads(setup.threads), children=True)

    def warm_up(self, model: str) -> tuple[PaceReport, ...]:
        """Load a model ahead of its first order and time it; nothing where that failed.

        A failure is told again by that order.
        """
        try:
            started = time.monotonic()
            card = self._setup.catalog.card(model)
            loading = Meter.unlimited()
            engine = self._engine(card, loading)
            paces = take_paces(card, engine, lambda: Meter.unlimited(self._timer(card)))
            took = round(time.monotonic() - started, 1)
            log.info("model warmed up", model=model, seconds=took, paces=len(paces))
        except Exception as error:  # as in `run`
            log.warning("model not warmed up", model=model, exc_info=error)
            return ()
        self._taken_up.add(model)
        load = {"load_ms": loading.load_gpu_ms}
        return tuple(pace.model_copy(update=load) for pace in paces)

    def _timer(self, card: ModelCard) -> Timer:
        setup = self._setup
        return timer_for(setup.device.name, devices.cpu_threads(setup.threads), card.engine)

    def unload(self) -> None:
        """Give all memory of the device back."""
        while self._engines:
            self._engines.popitem(last=False)[1].unload()

    def _render(
        self,
        assignment: Assignment,
        work: RenderWork,
        stop: Callable[[], Verdict | None],
        tell: Callable[[Progress], None],
    ) -> Result:
        setup = self._setup
        card = setup.catalog.cards.get(work.model)
        if card is None or card.version != work.model_version:
            raise OSError(f"This worker does not have {work.model} {work.model_version}.")
        step_ms, decode_ms = self._paces.before(work)
        meter = Meter(
            limit_gpu_ms=assignment.order.gpu_ms_limit,
            step_prior_ms=step_ms,
            decode_prior_ms=decode_ms,
            stop=stop,
            timer=self._timer(card),
        )
        engine = self._engine(card, meter)
        fingerprint = setup.device.fingerprint(setup.threads)
        resume = None
        if work.checkpoint:
            with meter.stage(LOAD):
                file = assignment.inputs[work.checkpoint.key]
                resume = checkpoint.load(file, checkpoint.identity(work, fingerprint))
        tell(Progress(0, 0))
        writer = SegmentWriter(
            assignment.folder,
            native=Size(width=work.width, height=work.height),
            output=Size(width=work.output_width, height=work.output_height),
            fps=work.fps,
            frames=len(work.frames),
            watermark=work.watermark,
        )
        result = render(
            work,
            engine=engine,
            meter=meter,
            writer=writer,
            image=assignment.inputs[work.image] if work.image else None,
            resume=resume,
            save=lambda point, kept: checkpoint.save(
                point,
                assignment.folder / CHECKPOINT,
                checkpoint.identity(_rest(work, kept), fingerprint),
            ),
            progress=lambda gpu_ms, frames: tell(
                Progress(gpu_ms, frames, meter.steps_done, meter.worked_ms)
            ),
            energy=devices.energy_counter(setup.device),
            fingerprint=fingerprint,
        )
        self._paces.after(work, meter)
        if result.outcome is Outcome.DONE and work.model not in self._taken_up:
            self._taken_up.add(work.model)
            self.paced = pace_of(work, meter)
        return result

    def _engine(self, card: ModelCard, meter: Meter) -> Engine:
        """Return the warm engine of a model, after making room for it and loading it."""
        if card.id in self._engines:
            self._engines.move_to_end(card.id)
            return self._engines[card.id]
        room = self._setup.device.memory_mb * MEMORY_SHARE
        while self._engines and self._used_mb() + card.memory_mb > room:
            model, oldest = self._engines.popitem(last=False)
            oldest.unload()
            log.info("model unloaded", model=model)
        with meter.stage(LOAD):
            engine = engine_for(card)
            engine.load(self._setup.device.name, self._setup.threads)
        self._engines[card.id] = engine
        return engine

    def _used_mb(self) -> int:
        return sum(engine.card.memory_mb for engine in self._engines.values())


def _rest(work: RenderWork, kept: int) -> RenderWork:
    return work.model_copy(update={"frames": work.frames[kept:]})


def _die_with(parent: int) -> None:
    """End this process when its parent ends, however that ends."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_SECONDS)
        os.kill(os.getpid(), signal.SIGKILL)

    if os.getppid() != parent:  # it died before the call above
        os.kill(os.getpid(), signal.SIGKILL)
    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
