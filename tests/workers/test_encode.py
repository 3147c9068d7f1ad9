"""An encode unit: a video with a receipt, or a failure that says why and costs nothing."""

from pathlib import Path

import pytest

from orchestrator.states import Cause, Outcome, Verdict
from orchestrator.wire import EncodeWork
from tests.workers.orders import encode_order
from tests.workers.test_ffmpeg import segment
from workers.encode import encode
from workers.meter import Meter


def unit(tmp_path: Path, **facts: object) -> tuple[EncodeWork, dict[str, Path]]:
    """Return the work of two segments of six frames, and where they are."""
    inputs = {f"units/{n}/1/segment.mp4": segment(tmp_path / n, 6) for n in "ab"}
    parts = {key: path.read_bytes() for key, path in inputs.items()}
    work = encode_order(parts, 6, **{"width": 128, "height": 96, **facts}).work
    assert isinstance(work, EncodeWork)
    return work, inputs


def test_a_done_encode_has_a_video_and_an_exact_receipt(tmp_path: Path) -> None:
    """Video, poster and sheet; the time is under one stage, and the inputs are untouched."""
    work, inputs = unit(tmp_path)
    result = encode(work, inputs, tmp_path / "out", Meter(limit_gpu_ms=60_000))
    assert result.outcome is Outcome.DONE, result.message
    assert [file.name for file in result.files] == ["video.mp4", "poster.jpg", "sheet.jpg"]
    assert result.receipt.by_stage == {"encode": result.receipt.gpu_ms}
    assert all(path.exists() for path in inputs.values())


def test_a_video_that_would_lack_frames_fails_as_ours(tmp_path: Path) -> None:
    """13 frames were ordered and 12 are there: nothing is charged and nothing is handed over."""
    work, inputs = unit(tmp_path)
    wrong = work.model_copy(update={"frames_total": 13})
    result = encode(wrong, inputs, tmp_path / "out", Meter(limit_gpu_ms=60_000))
    assert (result.outcome, result.cause, result.files) == (Outcome.FAILED, Cause.FARM, ())
    assert "12 frames, ordered were 13" in result.message
    assert (result.receipt.gpu_ms, result.receipt.wasted_gpu_ms > 0) == (0, True)


def test_a_folder_that_cannot_be_written_is_the_machines_fault(tmp_path: Path) -> None:
    """A file stands where the folder should be."""
    work, inputs = unit(tmp_path)
    (tmp_path / "out").write_text("in the way")
    result = encode(work, inputs, tmp_path / "out", Meter(limit_gpu_ms=60_000))
    assert (result.outcome, result.cause) == (Outcome.FAILED, Cause.WORKER)


@pytest.mark.parametrize(
    ("meter", "reason"),
    [
        (Meter(limit_gpu_ms=10, step_prior_ms=11), "limit"),
        (Meter(limit_gpu_ms=10, stop=lambda: Verdict.CANCEL), "cancel"),
    ],
)
def test_an_encode_that_may_not_start_is_stopped_for_nothing(
    tmp_path: Path, meter: Meter, reason: str
) -> None:
    """Stopped before FFmpeg runs, at no cost."""
    work, inputs = unit(tmp_path)
    result = encode(work, inputs, tmp_path / "out", meter)
    assert (result.outcome, result.message) == (Outcome.STOPPED, reason)
    assert result.receipt.gpu_ms == 0
    assert not (tmp_path / "out").exists()
