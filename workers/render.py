"""One render unit: frames from the engine, through the meter, into FFmpeg."""

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from time import monotonic
from typing import Final, Protocol

import structlog

from orchestrator.states import Outcome
from orchestrator.wire import RenderWork
from workers.checkpoint import Checkpoint
from workers.engines import Engine, Pixels
from workers.host_time import HostTime
from workers.meter import Meter, Stopped
from workers.result import Result, cause_of, message_of

log = structlog.get_logger(__name__)

Progress = Callable[[int, int], None]
"""Told (gpu_ms spent, frames done) as they grow."""

PROGRESS_SECONDS: Final = 0.1
QUEUED_BATCHES: Final = 2
"""Finished micro-batches that may wait for FFmpeg before the engine waits too."""


class Writer(Protocol):
    """The place that frames go to: `workers.ffmpeg.SegmentWriter`."""

    def write(self, frames: Pixels, /) -> None:
        """Take the next frames."""

    def finish(self) -> tuple[Path, ...]:
        """Close the files and return them."""

    def abort(self) -> None:
        """Leave nothing behind."""


def render(
    work: RenderWork,
    *,
    engine: Engine,
    meter: Meter,
    writer: Writer,
    image: Path | None = None,
    resume: Checkpoint | None = None,
    save: Callable[[Checkpoint, int], Path] | None = None,
    progress: Progress,
    energy: Callable[[], int | None] = lambda: None,
    fingerprint: str = "",
) -> Result:
    """Paint the frames of `work` with a loaded engine and return what became of them.

    Never raises for an error of the engine or of the files: that is a failed result.
    `resume`: where the first micro-batch goes on. `save` writes the checkpoint of a stopped
    unit, whose first micro-batch comes after so many kept frames, and returns its file.
    `energy` reads the device's millijoule counter.
    """
    energy_mj = _since_now(energy)

    def tell() -> None:
        progress(meter.spent_gpu_ms, film.frames)

    film = Film(writer, tell)
    meter.on_step = _every(PROGRESS_SECONDS, tell)
    outcome, message, left = Outcome.DONE, "", Left()
    try:
        try:
            for pixels in engine.paint(work, work.frames, meter, image, resume):
                film.add(pixels)
                meter.keep()
                tell()
        except Stopped as stopped:
            outcome, message = Outcome.STOPPED, stopped.reason
            left = _left(stopped, meter, film.frames, save)
        files = film.finish()
    except Exception as error:  # the unit boundary: whatever it is, it is reported
        film.abort()
        cause = cause_of(error)
        log.warning("render failed", cause=cause, exc_info=error)
        return Result(
            outcome=Outcome.FAILED,
            cause=cause,
            message=message_of(error),
            receipt=meter.receipt(
                Outcome.FAILED,
                cause,
                energy_mj=energy_mj(),
                fingerprint=fingerprint,
                host_ms=film.host.ms,
            ),
        )
    return Result(
        outcome=outcome,
        message=message,
        receipt=meter.receipt(
            outcome,
            frames_done=film.frames,
            frame_sha256=tuple(film.digests),
            energy_mj=energy_mj(),
            fingerprint=fingerprint,
            checkpoint_step=left.step,
            checkpoint_gpu_ms=left.gpu_ms,
            host_ms=film.host.ms,
        ),
        files=(*files, *left.files),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Left:
    """Return what a stop leaves of the micro-batch it interrupted."""

    step: int = 0
    gpu_ms: int = 0
    files: tuple[Path, ...] = ()


def _left(
    stopped: Stopped,
    meter: Meter,
    frames: int,
    save: Callable[[Checkpoint, int], Path] | None,
) -> Left:
    """Keep the steps of the interrupted micro-batch, where they can be continued.

    A cancelled unit keeps nothing, yet its owner pays for the steps that were done.
    """
    if stopped.reason == "cancel":
        meter.keep_steps()
        return Left()
    point = stopped.checkpoint
    if point is None or save is None or stopped.reason == "gone":
        return Left()
    try:
        file = save(point, frames)
    except OSError as error:
        log.warning("checkpoint not written", error=str(error))
        return Left()
    return Left(step=point.step, gpu_ms=meter.keep_steps(), files=(file,))


class Film:
    """Hashes frames and hands them to the writer on a second thread.

    So encoding overlaps the next denoise, and an error of the writer ends the engine's loop
    at the next micro-batch.
    """

    def __init__(self, writer: Writer, tell: Callable[[], None] = lambda: None) -> None:
        """`tell` is called for each micro-batch that the writer has taken and was waited for."""
        self._tell = tell
        self.frames = 0
        self.digests: list[str] = []
        self.host = HostTime()
        self._writer = writer
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="film")
        self._waiting: deque[Future[None]] = deque()

    def add(self, pixels: Pixels) -> None:
        """Take a finished micro-batch; waits while `QUEUED_BATCHES` are before it."""
        with self.host.span("write"):
            while len(self._waiting) >= QUEUED_BATCHES:
                self._taken()
        self._waiting.append(self._thread.submit(self._write, pixels))
        self.frames += len(pixels)

    def finish(self) -> tuple[Path, ...]:
        """Write what waits and return the files; no frames make no files."""
        with self.host.span("write"):
            while self._waiting:
                self._taken()
            self._thread.shutdown()
            if self.frames:
                return self._writer.finish()
            self._writer.abort()
            return ()

    def abort(self) -> None:
        """Drop what waits and leave no files."""
        self._thread.shutdown(wait=False, cancel_futures=True)
        self._writer.abort()
        self._thread.shutdown()

    def _taken(self) -> None:
        self._waiting.popleft().result()
        self._tell()

    def _write(self, pixels: Pixels) -> None:
        self._writer.write(pixels)
        self.digests += [sha256(frame).hexdigest() for frame in pixels]


def _since_now(counter: Callable[[], int | None]) -> Callable[[], int | None]:
    """Return a function that reads what a counter has gone up; None where there is none."""
    before = counter()

    def risen() -> int | None:
        now = counter()
        return None if before is None or now is None else now - before

    return risen


def _every(seconds: float, report: Callable[[], None]) -> Callable[[], None]:
    """Return `report`, quiet when it was called less than `seconds` ago."""
    last = -seconds

    def throttled() -> None:
        nonlocal last
        if monotonic() - last >= seconds:
            last = monotonic()
            report()

    return throttled
