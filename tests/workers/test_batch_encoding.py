"""However a frame batch was cut, its segment is the one of a unit that was not."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from orchestrator.model import Size
from tests.workers.test_ffmpeg import FPS, NATIVE, OUTPUT, film, read
from workers import video_reading
from workers.batch_encoding import encoded
from workers.ffmpeg import Frames, Look, SegmentWriter
from workers.meter import Stopped
from workers.video_reading import Master

FRAMES = 40
"""More than from one key frame to the next."""


def noisy() -> Frames:
    """Return frames of which none helps to foretell another."""
    return np.random.default_rng(0).integers(0, 255, (FRAMES, 48, 64, 3)).astype(np.uint8)


def calm() -> Frames:
    """Return a scene that hardly moves, of which an encoder keeps the differences alone."""
    ground = np.random.default_rng(0).integers(0, 200, (48, 64, 3))
    return np.stack([ground + number for number in range(FRAMES)]).astype(np.uint8)


def files(folder: Path, scene: Frames, frames: range, watermark: str = "") -> tuple[Path, ...]:
    """Write the files of a unit that painted these frames."""
    reel = SegmentWriter(
        folder, native=NATIVE, output=OUTPUT, fps=FPS, frames=len(frames), watermark=watermark
    )
    reel.write(scene[list(frames)])
    return reel.finish()


def again(folder: Path, scene: Frames, shares: Sequence[range], watermark: str = "") -> Path:
    """Return the segment that is made of the masters of these shares."""
    masters = [
        Master(file=files(folder / str(n), scene, share, watermark)[1], frames=share)
        for n, share in enumerate(shares)
    ]
    look = Look(size=OUTPUT, fps=FPS, watermark=watermark)
    return encoded(masters, folder / "batch.mp4", look=look, may_go_on=lambda: None).segment


def runs(*cuts: int) -> list[range]:
    """Return the runs between these cuts."""
    return [range(start, end) for start, end in pairwise((0, *cuts, FRAMES))]


@pytest.mark.parametrize("make", [lambda: film(FRAMES), noisy, calm])
@pytest.mark.parametrize("watermark", ["", "Framefarm"])
def test_cuts_do_not_show(tmp_path: Path, make: Callable[[], Frames], watermark: str) -> None:
    """Cut at a key frame, elsewhere, often, in passes: equal bytes, of any kind of picture."""
    scene = make()
    whole = files(tmp_path / "whole", scene, range(FRAMES), watermark)[0].read_bytes()
    passes = [range(0, FRAMES, 4), range(2, FRAMES, 4), range(1, FRAMES, 2)]
    for name, shares in {
        "one": runs(16),
        "key": runs(24),
        "many": runs(4, 8, 12, 20, 36)[::-1],
        "passes": passes,
    }.items():
        assert again(tmp_path / name, scene, shares, watermark).read_bytes() == whole, name


def test_a_master_that_lacks_frames_is_refused(tmp_path: Path) -> None:
    """Half of a file, or one of fewer frames than it should have: named, and no FFmpeg is left."""
    master = files(tmp_path, film(8), range(8))[1]
    look = Look(size=OUTPUT, fps=FPS, watermark="")
    for spoil in (lambda: None, lambda: master.write_bytes(master.read_bytes()[:2000])):
        spoil()
        with pytest.raises(video_reading.NotTheVideo, match=r"master\.mkv cannot be read"):
            encoded(
                [Master(file=master, frames=range(9))],
                tmp_path / "batch.mp4",
                look=look,
                may_go_on=lambda: None,
            )
        assert not _ffmpegs()


def test_a_wish_to_stop_is_heard_between_two_frames(tmp_path: Path) -> None:
    """The error of whoever was asked is the caller's to read, and FFmpeg ends with it."""
    master = files(tmp_path, film(8), range(8))[1]
    asked = iter([None, None])

    def may_go_on() -> None:
        if next(asked, "stop") == "stop":
            raise Stopped("pause")

    with pytest.raises(Stopped):
        encoded(
            [Master(file=master, frames=range(8))],
            tmp_path / "batch.mp4",
            look=Look(size=OUTPUT, fps=FPS, watermark=""),
            may_go_on=may_go_on,
        )
    assert not _ffmpegs()


def test_frames_of_other_sides_are_taken(tmp_path: Path) -> None:
    """Rows whose bytes are no multiple of a register's: none is skewed."""
    scene = np.random.default_rng(3).integers(0, 255, (3, 46, 62, 3)).astype(np.uint8)
    master = tmp_path / "master.mkv"
    native = Size(width=62, height=46)
    reel = SegmentWriter(tmp_path, native=native, output=OUTPUT, fps=FPS, frames=3)
    reel.write(scene)
    whole = reel.finish()[0].read_bytes()
    look = Look(size=OUTPUT, fps=FPS, watermark="")
    part = encoded(
        [Master(file=master, frames=range(3))],
        tmp_path / "batch.mp4",
        look=look,
        may_go_on=lambda: None,
    )
    assert part.segment.read_bytes() == whole
    assert len(read(part.segment)) == 3


def _ffmpegs() -> list[str]:
    """Return the FFmpegs that this process has started and that still run."""
    names = [child.name() for child in psutil.Process().children(recursive=True)]
    return [name for name in names if "ffmpeg" in name]
