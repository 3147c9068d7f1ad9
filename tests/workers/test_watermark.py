"""A watermark stands in its corner of the film, and nowhere else."""

from pathlib import Path

import numpy as np
from PIL import Image

from orchestrator.model import Size
from tests.workers.test_ffmpeg import film, read
from workers import video_reading
from workers.assembly import assemble
from workers.ffmpeg import Frames, SegmentWriter

NATIVE = Size(width=64, height=48)
OUTPUT = Size(width=320, height=240)
FPS = 12
FRAMES = 8
CODEC_LOSS = 12
"""By how much x264 at CRF 18 may put a pixel elsewhere because of what stands beside it."""


def made(folder: Path, watermark: str) -> tuple[Path, ...]:
    """Write one segment and return it with its master and its strip."""
    reel = SegmentWriter(
        folder, native=NATIVE, output=OUTPUT, fps=FPS, frames=FRAMES, watermark=watermark
    )
    reel.write(film(FRAMES))
    return reel.finish()


def unlike(one: list[Frames], other: list[Frames]) -> Frames:
    """Return by how much each pixel differs, the most over all frames and channels."""
    apart = np.abs(np.stack(one).astype(int) - np.stack(other).astype(int))
    return apart.max(axis=(0, 3)).astype(np.uint8)


def test_only_the_lower_right_corner_differs(tmp_path: Path) -> None:
    """Every frame has the words; outside their corner the film is that of the same frames."""
    plain, marked = made(tmp_path / "a", ""), made(tmp_path / "b", "Framefarm")
    assert len(read(marked[0])) == FRAMES
    for one, other in zip(read(plain[0]), read(marked[0]), strict=True):
        assert unlike([one], [other])[-24:, -90:].max() > 60
    apart = unlike(read(plain[0]), read(marked[0]))
    apart[-32:, -112:] = 0
    assert apart.max() <= CODEC_LOSS
    left = {file.name for file in (tmp_path / "b").iterdir()}
    assert left == {"segment.mp4", "master.mkv", "strip.jpg"}


def test_the_master_is_what_was_painted(tmp_path: Path) -> None:
    """A later stage and an extension start from frames without words."""
    np.testing.assert_array_equal(read(made(tmp_path, "Framefarm")[1]), film(FRAMES))


def test_strip_poster_and_sheet_have_it_too(tmp_path: Path) -> None:
    """Pictures of a marked video are marked, and its segments are still copied, not encoded."""
    for name, words in (("a", ""), ("b", "Framefarm")):
        segment = made(tmp_path / name, words)[0]
        assemble(
            [segment], tmp_path / name, size=OUTPUT, fps=FPS, frames_total=FRAMES, title="a film"
        )
    for file in ("strip.jpg", "poster.jpg", "sheet.jpg"):
        with Image.open(tmp_path / "a" / file) as one, Image.open(tmp_path / "b" / file) as other:
            apart = unlike([np.asarray(one)], [np.asarray(other)])
            assert one.size == other.size
            assert apart.max() > 40, file
    assert video_reading.head(tmp_path / "a" / "segment.mp4") == video_reading.head(
        tmp_path / "b" / "segment.mp4"
    )


def test_many_words_keep_to_a_small_picture(tmp_path: Path) -> None:
    """The longest watermark on the smallest picture is within it."""
    small = Size(width=32, height=32)
    reel = SegmentWriter(
        tmp_path, native=small, output=small, fps=FPS, frames=1, watermark="W" * 24
    )
    reel.write(np.zeros((1, 32, 32, 3), np.uint8))
    (frame,) = read(reel.finish()[0])
    assert frame.shape == (32, 32, 3)
