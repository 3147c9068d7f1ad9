"""Videos say which colours they are, and have those that were painted: BT.709 in TV range."""

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from orchestrator.model import Size
from orchestrator.programs import ffmpeg
from workers.assembly import assemble
from workers.batch_encoding import encoded
from workers.ffmpeg import Look, SegmentWriter
from workers.gaps import TIME_BASE_PER_FRAME
from workers.interpolation import interpolated
from workers.video_reading import Master

PAINTED: Final = ((200, 60, 30), (255, 0, 0), (0, 200, 40), (20, 30, 220), (128, 128, 128))
NATIVE: Final = Size(width=64, height=48)
SIZE: Final = Size(width=96, height=72)
FPS: Final = 6
FRAMES: Final = 6
BT709: Final = b"colrnclx" + bytes((0, 1, 0, 1, 0, 1, 0))
"""Primaries, transfer and matrix 1, not the full range (ISO 14496-12, ITU-T H.273)."""
OFF: Final = 3
"""Of 255: 8-bit YUV and its rounding. BT.601's matrix is off by 20 and more on a red."""

Rgb = tuple[int, int, int]


def unit(folder: Path, colour: Rgb, *, watermark: str = "") -> tuple[Path, ...]:
    """Return segment, master and strip of frames of one colour."""
    writer = SegmentWriter(
        folder,
        native=NATIVE,
        output=SIZE,
        fps=FPS,
        frames=FRAMES,
        watermark=watermark,
    )
    writer.write(np.full((FRAMES, NATIVE.height, NATIVE.width, 3), colour, np.uint8))
    return writer.finish()


def joined(folder: Path, colour: Rgb, frames: list[range], *, alike: bool = True) -> Path:
    """Return a video of two units."""
    parts = [unit(folder / "a", colour)[0], unit(folder / "b", colour)[0]]
    if not alike:
        parts[1] = other_encoder(parts[1])
    return assemble(
        parts,
        folder / "out",
        size=SIZE,
        fps=FPS,
        frames_total=frames[-1].stop,
        title="t",
        frames=frames,
        truncated=True,
    )[0]


def other_encoder(segment: Path) -> Path:
    """Return a segment of another machine: the same frames under other parameters."""
    other = segment.with_name("other.mp4")
    ticks = {"video_track_timescale": str(TIME_BASE_PER_FRAME * FPS)}
    with av.open(str(segment)) as old, av.open(str(other), "w", container_options=ticks) as new:
        stream = new.add_stream("libx264", rate=FPS)
        stream.width, stream.height, stream.pix_fmt = SIZE.width, SIZE.height, "yuv420p"
        stream.options = {"bf": "0", "refs": "1", "profile": "main"}
        for frame in old.decode(video=0):
            new.mux(stream.encode(frame))
        new.mux(stream.encode(None))
    return other


def encoded_of_masters(folder: Path, colour: Rgb, watermark: str) -> Path:
    """Return the segment of a batch that two units share."""
    masters = [
        Master(file=unit(folder / name, colour)[1], frames=frames)
        for name, frames in zip("ab", ONE_AFTER_THE_OTHER, strict=True)
    ]
    look = Look(size=SIZE, fps=FPS, watermark=watermark)
    return encoded(masters, folder / "batch.mp4", look=look, may_go_on=lambda: None).segment


def made_between(folder: Path, colour: Rgb, watermark: str) -> Path:
    """Return a segment of which every other frame was made of those painted."""
    painted = Master(file=unit(folder, colour)[1], frames=range(0, 2 * FRAMES, 2))
    (shot,) = interpolated(
        [painted],
        folder / "made",
        every=2,
        cuts=[0],
        frames_total=2 * FRAMES,
        truncated=False,
        look=Look(size=SIZE, fps=FPS, watermark=watermark),
        may_go_on=lambda: None,
    )
    return shot.segment


ONE_AFTER_THE_OTHER: Final = [range(FRAMES), range(FRAMES, 2 * FRAMES)]
WITH_A_GAP: Final = [range(FRAMES), range(2 * FRAMES, 3 * FRAMES)]
OUTPUTS: Final[dict[str, Callable[[Path, Rgb], Path]]] = {
    "a segment": lambda folder, colour: unit(folder, colour)[0],
    "a marked segment": lambda folder, colour: unit(folder, colour, watermark="mine")[0],
    "segments joined": lambda folder, colour: joined(folder, colour, ONE_AFTER_THE_OTHER),
    "segments with a gap": lambda folder, colour: joined(folder, colour, WITH_A_GAP),
    "segments encoded again": lambda folder, colour: joined(
        folder, colour, ONE_AFTER_THE_OTHER, alike=False
    ),
    "segments encoded again, with a gap": lambda folder, colour: joined(
        folder, colour, WITH_A_GAP, alike=False
    ),
    "masters encoded": lambda folder, colour: encoded_of_masters(folder, colour, ""),
    "masters encoded and marked": lambda folder, colour: encoded_of_masters(folder, colour, "mine"),
    "frames made between others": lambda folder, colour: made_between(folder, colour, ""),
    "marked frames made between others": lambda folder, colour: made_between(
        folder, colour, "mine"
    ),
}


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
def test_a_video_says_bt709_in_its_stream_and_its_container(
    tmp_path: Path, output: Callable[[Path, Rgb], Path]
) -> None:
    """Primaries, transfer, matrix and range, in the VUI of every picture and the `colr` atom."""
    (tmp_path / "made").mkdir()
    video = output(tmp_path, PAINTED[0])
    assert BT709 in video.read_bytes()
    bare = tmp_path / "bare.h264"
    argv = [*(ffmpeg(""), "-loglevel", "error", "-i", video, "-c", "copy", "-f", "h264", bare)]
    subprocess.run(argv, check=True, timeout=60)
    for file in (video, bare):
        with av.open(str(file)) as container:
            for said in container.decode(video=0):
                tags = (said.color_primaries, said.color_trc, said.colorspace, said.color_range)
                assert tags == (1, 1, Colorspace.ITU709, ColorRange.MPEG)


@pytest.mark.parametrize("output", OUTPUTS.values(), ids=OUTPUTS)
@pytest.mark.parametrize("colour", PAINTED[:2])
def test_a_video_has_the_colours_that_were_painted(
    tmp_path: Path, output: Callable[[Path, Rgb], Path], colour: Rgb
) -> None:
    """Decoded by what it says of itself, each frame is what the engine painted."""
    (tmp_path / "made").mkdir()
    with av.open(str(output(tmp_path, colour))) as container:
        for frame in container.decode(video=0):
            shown = frame.reformat(
                format="rgb24", src_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.JPEG
            ).to_ndarray()
            assert np.abs(shown[8, 8].astype(int) - colour).max() <= OFF, shown[8, 8]


@pytest.mark.parametrize("colour", PAINTED)
def test_pictures_of_a_video_have_its_colours(tmp_path: Path, colour: Rgb) -> None:
    """Strip, poster and sheet are JPEGs, whose matrix is another (JFIF); a master loses nothing."""

    def pictures() -> Iterator[Image.Image]:
        for name, watermark in (("plain", ""), ("marked", "mine")):
            segment, master, strip = unit(tmp_path / name, colour, watermark=watermark)
            with av.open(str(master)) as container:
                frame = next(container.decode(video=0)).to_ndarray(format="rgb24")
            assert (frame == colour).all()
            yield Image.open(strip)
        yield from map(
            Image.open,
            assemble([segment], tmp_path / "o", size=SIZE, fps=FPS, frames_total=FRAMES, title="t")[
                1:
            ],
        )

    for picture in pictures():
        found = picture.convert("RGB").getpixel((4, 4))
        assert np.abs(np.subtract(found, colour)).max() <= OFF + 1, found
