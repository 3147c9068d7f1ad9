"""A render unit: frames in order into the writer, an exact receipt, and every way it can end."""

import errno
from hashlib import sha256
from pathlib import Path
from threading import Event
from typing import Any

import numpy as np
import pytest

from orchestrator.errors import Unavailable
from orchestrator.states import Cause, Outcome, Verdict
from orchestrator.wire import RenderWork
from tests.workers.pipelines import card, shot, work
from workers.checkpoint import Checkpoint
from workers.engines import Pixels, engine_for
from workers.engines.fake import MISHAPS, FakeEngine
from workers.meter import Meter
from workers.render import render
from workers.result import Result, cause_of


class Reel:
    """A writer that keeps the frames."""

    def __init__(self) -> None:
        self.frames: list[Pixels] = []
        self.ended = ""

    def write(self, frames: Pixels, /) -> None:
        """Keep the frames."""
        self.frames.extend(frames)

    def finish(self) -> tuple[Path, ...]:
        """Say that all is there."""
        self.ended = "finished"
        return (Path("segment.mp4"),)

    def abort(self) -> None:
        """Say that nothing is left."""
        self.ended = "aborted"


class FullDisk(Reel):
    """A writer that finds no room for its second micro-batch."""

    def write(self, frames: Pixels, /) -> None:
        """Take four frames, no more."""
        if self.frames:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(frames)


def run(
    asked: RenderWork,
    *,
    reel: Reel,
    meter: Meter | None = None,
    step_ms: float = 0,
    progress: Any = lambda gpu_ms, frames: None,
    **more: Any,
) -> Result:
    """Render with the fake engine."""
    engine = FakeEngine(card(engine="fake"), step_ms=step_ms)
    return render(
        asked,
        engine=engine,
        meter=meter or Meter.unlimited(),
        writer=reel,
        progress=progress,
        **more,
    )


def test_a_done_unit_has_every_frame_once_with_its_digest() -> None:
    """Ten frames in micro-batches of four arrive in order; the receipt sums and names them."""
    reel = Reel()
    result = run(work(shot(10)), reel=reel, step_ms=2)
    receipt = result.receipt
    assert (result.outcome, receipt.frames_done, reel.ended) == (Outcome.DONE, 10, "finished")
    assert receipt.frame_sha256 == tuple(sha256(f.tobytes()).hexdigest() for f in reel.frames)
    assert len(set(receipt.frame_sha256)) == 10
    assert sum(receipt.by_stage.values()) == receipt.gpu_ms + receipt.wasted_gpu_ms
    assert receipt.gpu_ms >= 3 * 2 * 2
    assert result.files == (Path("segment.mp4"),)


def test_the_fake_engine_paints_the_same_pixels_however_frames_are_cut() -> None:
    """The orchestration tests may compare its digests."""
    whole, first, rest = Reel(), Reel(), Reel()
    frames = shot(10)
    for reel, part in ((whole, frames), (first, frames[:3]), (rest, frames[3:])):
        run(work(part), reel=reel)
    np.testing.assert_array_equal(whole.frames, first.frames + rest.frames)


def test_a_unit_at_its_limit_keeps_whole_micro_batches_and_charges_for_them_alone() -> None:
    """Steps of 10 ms under a limit of 65 ms: some micro-batches of two steps, never the third."""
    reel = Reel()
    meter = Meter(limit_gpu_ms=65, step_prior_ms=10)
    result = run(work(shot(40)), reel=reel, meter=meter, step_ms=10)
    receipt = result.receipt
    assert (result.outcome, result.message) == (Outcome.STOPPED, "limit")
    assert 0 < receipt.frames_done <= 12
    assert receipt.frames_done % 4 == 0
    assert len(reel.frames) == len(receipt.frame_sha256) == receipt.frames_done
    assert receipt.gpu_ms <= 65
    assert sum(receipt.by_stage.values()) == receipt.gpu_ms + receipt.wasted_gpu_ms
    assert reel.ended == "finished"


def test_a_pause_in_the_middle_of_a_micro_batch_wastes_that_one() -> None:
    """Paused before the last of five steps of the second micro-batch: four frames are kept."""
    asked: list[None] = []

    def stop() -> Verdict:
        asked.append(None)
        return Verdict.PAUSE if len(asked) == 10 else Verdict.GO

    reel = Reel()
    meter = Meter(limit_gpu_ms=10**6, stop=stop)
    receipt = run(work(shot(8), steps=5), reel=reel, meter=meter, step_ms=3).receipt
    assert receipt.frames_done == 4
    assert receipt.gpu_ms >= 5 * 3
    assert receipt.wasted_gpu_ms >= 4 * 3


@pytest.mark.parametrize("verdict", [Verdict.PAUSE, Verdict.CANCEL])
def test_the_steps_of_a_stopped_micro_batch_are_charged(verdict: Verdict, tmp_path: Path) -> None:
    """Paused, they are kept in a checkpoint; cancelled, they were asked for until then."""
    asked: list[None] = []
    saved: list[tuple[int, int]] = []

    def stop() -> Verdict:
        asked.append(None)
        return verdict if len(asked) == 10 else Verdict.GO

    def save(point: Checkpoint, kept: int) -> Path:
        saved.append((point.step, kept))
        return tmp_path / "point"

    meter = Meter(limit_gpu_ms=10**6, stop=stop)
    result = run(work(shot(8), steps=5), reel=Reel(), meter=meter, step_ms=3, save=save)
    receipt = result.receipt
    assert (receipt.frames_done, receipt.wasted_gpu_ms) == (4, 0)
    assert receipt.gpu_ms >= 9 * 3
    assert saved == ([(4, 4)] if verdict is Verdict.PAUSE else [])
    assert receipt.checkpoint_step == (4 if saved else 0)
    assert (receipt.checkpoint_gpu_ms >= 4 * 3) == bool(saved)
    assert len(result.files) == 1 + bool(saved)


def test_without_room_for_a_checkpoint_the_frames_are_kept(tmp_path: Path) -> None:
    """A full disk at the stop costs the interrupted micro-batch, not the finished ones."""
    asked: list[None] = []

    def stop() -> Verdict:
        asked.append(None)
        return Verdict.PAUSE if len(asked) == 10 else Verdict.GO

    def save(point: Checkpoint, kept: int) -> Path:
        raise OSError(errno.ENOSPC, "No space left on device")

    meter = Meter(limit_gpu_ms=10**6, stop=stop)
    result = run(work(shot(8), steps=5), reel=Reel(), meter=meter, step_ms=3, save=save)
    assert (result.outcome, result.receipt.frames_done) == (Outcome.STOPPED, 4)
    assert result.receipt.checkpoint_step == 0
    assert result.receipt.wasted_gpu_ms >= 3 * 3


def test_a_unit_stopped_before_its_first_step_leaves_no_files() -> None:
    """If the first step does not fit, nothing is spent and nothing is written."""
    reel = Reel()
    meter = Meter(limit_gpu_ms=5, step_prior_ms=10)
    result = run(work(shot(4)), reel=reel, meter=meter)
    assert (result.outcome, result.files, reel.ended) == (Outcome.STOPPED, (), "aborted")
    assert (result.receipt.gpu_ms, result.receipt.wasted_gpu_ms) == (0, 0)


@pytest.mark.parametrize(
    ("prompt", "cause"),
    [
        ("#fail-request", Cause.REQUEST),
        ("#fail-worker", Cause.WORKER),
        ("#fail-farm", Cause.FARM),
    ],
)
def test_an_error_of_the_engine_is_a_failed_result_with_its_cause(
    prompt: str, cause: Cause
) -> None:
    """Only the request's own fault is charged; nothing is left of the frames before it."""
    assert prompt in MISHAPS
    reel = Reel()
    frames = shot(4) + shot(4, prompt=prompt)
    result = run(work(frames), reel=reel, step_ms=2)
    assert (result.outcome, result.cause, reel.ended) == (Outcome.FAILED, cause, "aborted")
    assert "fake engine" in result.message
    assert result.receipt.frames_done == 0
    assert (result.receipt.gpu_ms > 0) == (cause is Cause.REQUEST)


def test_a_full_disk_is_the_machines_fault_and_costs_nothing() -> None:
    """The writer's error ends the engine's loop long before its last frame."""
    reel = FullDisk()
    result = run(work(shot(400)), reel=reel, step_ms=20)
    assert (result.outcome, result.cause) == (Outcome.FAILED, Cause.WORKER)
    assert "disk is full" in result.message
    assert (result.receipt.gpu_ms, reel.ended) == (0, "aborted")
    assert result.receipt.wasted_gpu_ms < 2000, "the whole unit takes 4 s"


def test_encoding_overlaps_the_next_denoise() -> None:
    """The writer of the first micro-batch waits for a step of the second, and gets it."""
    stepping = Event()

    class Waiting(Reel):
        def write(self, frames: Pixels, /) -> None:
            assert stepping.wait(5), "the engine stood still while its frames were written"
            super().write(frames)

    meter = Meter(limit_gpu_ms=10**6)
    engine = FakeEngine(card(engine="fake"), step_ms=0)
    paint = engine.paint

    def watched(*asked: Any) -> Any:
        for number, pixels in enumerate(paint(*asked)):
            if number == 1:
                stepping.set()
            yield pixels

    engine.paint = watched  # type: ignore[method-assign]
    reel = Waiting()
    result = render(
        work(shot(8)), engine=engine, meter=meter, writer=reel, progress=lambda ms, frames: None
    )
    assert (result.outcome, len(reel.frames)) == (Outcome.DONE, 8)


def test_progress_grows_and_is_not_chatty() -> None:
    """A unit of 400 quick steps reports each micro-batch and at most ten times a second between."""
    told: list[tuple[int, int]] = []
    run(
        work(shot(8), steps=200),
        reel=Reel(),
        step_ms=0.1,
        progress=lambda gpu_ms, frames: told.append((gpu_ms, frames)),
    )
    assert told == sorted(told)
    assert told[-1][1] == 8
    assert 2 <= len(told) < 40


def test_energy_is_the_difference_of_the_counter() -> None:
    """Millijoules of the unit are on the receipt, None where there is no counter."""
    readings = iter([1000, 1750])
    measured = run(work(shot(4)), reel=Reel(), energy=lambda: next(readings)).receipt
    assert measured.energy_mj == 750
    assert run(work(shot(4)), reel=Reel()).receipt.energy_mj is None


def test_a_failure_has_used_energy_too() -> None:
    """Nobody pays for it; what it took of the meter is on its receipt all the same."""
    readings = iter([1_000, 1_300])
    result = run(work(shot(4, prompt="#fail-worker")), reel=Reel(), energy=lambda: next(readings))
    assert (result.outcome, result.receipt.energy_mj) == (Outcome.FAILED, 300)


def test_an_engine_is_chosen_by_its_card() -> None:
    """A card names `fake` or `diffusers`; anything else is our own mistake."""
    assert isinstance(engine_for(card(engine="fake")), FakeEngine)
    with pytest.raises(ValueError, match="fortran"):
        engine_for(card(engine="fortran"))


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (MemoryError(), Cause.WORKER),
        (BrokenPipeError(), Cause.WORKER),
        (Unavailable("There is no ffmpeg here."), Cause.WORKER),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), Cause.WORKER),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory"), Cause.WORKER),
        (RuntimeError("The size of tensor a (3) must match tensor b (4)"), Cause.FARM),
        (ValueError("our own slip"), Cause.FARM),
    ],
)
def test_the_cause_of_an_error_follows_its_kind(error: Exception, cause: Cause) -> None:
    """Memory, files and the driver are the machine's; what is unknown is ours, never the user's."""
    assert cause_of(error) is cause
