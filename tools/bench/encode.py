"""Row (f): raw frames piped into FFmpeg against a folder of PNG frames.

    python -m tools.bench.encode --frames 81 --size 832x480

A writes frames with `SegmentWriter`'s own pipe; B, as most tools do, saves each frame as a PNG
and lets FFmpeg read them. Both make the same H.264 segment, byte by byte, or there is no
result. A full segment has a lossless master and a strip beside it, which B does not make: it is
timed as well. The tail is what is left to do after the last frame, when frames come at the pace
of a device; the join is the assembly of finished segments.
"""

import argparse
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import ffmpeg
import numpy as np
from PIL import Image

from orchestrator.model import Size
from orchestrator.wire import SEGMENT
from tools.bench.pairing import paired
from tools.bench.progress import step
from workers.assembly import assemble
from workers.ffmpeg import X264, Frames, Process, SegmentWriter
from workers.gaps import TIME_BASE_PER_FRAME

FPS = 24
MICRO_BATCH = 4


def main() -> None:
    """Print the comparisons."""
    options = _options()
    frames = moving_picture(options.frames, options.size)
    with tempfile.TemporaryDirectory(prefix="framefarm-bench-") as name:
        home = Path(name)
        print(f"(f) encode path, {options.frames} frames of {options.size}")
        for level in options.levels:
            step(f"PNG level {level} against the pipe")
            compare_png(home, frames, options.size, level=level, pairs=options.pairs)
        step("PNG level 1 against segment, master and strip")
        compare_whole(home, frames, options.size, pairs=options.pairs)
        step("the tail after the last frame")
        tail(home, frames, options.size)
        step("the join of segments")
        join(home, frames, options.size)


def compare_png(home: Path, frames: Frames, size: Size, *, level: int, pairs: int) -> None:
    """Time the pipe against PNG files of one compression level."""

    def by_png() -> str:
        return digest(home, lambda folder: png_segment(folder, frames, size, level=level))

    def by_pipe() -> str:
        return digest(home, lambda folder: piped_segment(folder, frames, size))

    if by_png() != by_pipe():
        raise SystemExit("the two segments differ: nothing to compare")
    result = paired(lambda: _run(by_png), lambda: _run(by_pipe), pairs=pairs)
    print(f"    PNG level {level} / pipe: {result}")


def compare_whole(home: Path, frames: Frames, size: Size, *, pairs: int) -> None:
    """Time PNG level 1 against all three files of a segment."""

    def by_png() -> str:
        return digest(home, lambda folder: png_segment(folder, frames, size, level=1))

    def whole() -> str:
        return digest(home, lambda folder: whole_segment(folder, frames, size))

    result = paired(lambda: _run(by_png), lambda: _run(whole), pairs=pairs)
    print(f"    PNG level 1, segment only / segment + FFV1 master + strip: {result}")


def digest(home: Path, make: Callable[[Path], None]) -> str:
    """Make a segment in a fresh folder and return its digest."""
    folder = home / "segment"
    folder.mkdir()
    make(folder)
    found = sha256((folder / SEGMENT).read_bytes()).hexdigest()
    shutil.rmtree(folder)
    return found


def piped_segment(folder: Path, frames: Frames, size: Size) -> None:
    """Raw frames through a pipe, the segment alone."""
    raw = ffmpeg.input("pipe:0", format="rawvideo", pix_fmt="rgb24", s=str(size), framerate=FPS)
    process = Process(_delivered(raw, folder, size), stdin=subprocess.PIPE)
    for first in range(0, len(frames), MICRO_BATCH):
        process.feed(memoryview(frames[first : first + MICRO_BATCH].data).cast("B"))
    process.wait(120)


def png_segment(folder: Path, frames: Frames, size: Size, *, level: int) -> None:
    """One PNG a frame, then FFmpeg over the folder."""
    for number, frame in enumerate(frames):
        Image.fromarray(frame).save(folder / f"{number:06}.png", compress_level=level)
    pictures = ffmpeg.input(str(folder / "%06d.png"), framerate=FPS)
    Process(_delivered(pictures, folder, size)).wait(120)


def whole_segment(folder: Path, frames: Frames, size: Size) -> None:
    """All files of a unit, as a worker makes them."""
    writer = SegmentWriter(folder, native=size, output=size, fps=FPS, frames=len(frames))
    for first in range(0, len(frames), MICRO_BATCH):
        writer.write(frames[first : first + MICRO_BATCH])
    writer.finish()


def tail(home: Path, frames: Frames, size: Size) -> None:
    """Print what is left after the last frame, when a micro-batch comes every 200 ms."""
    folder = home / "tail"
    started = time.perf_counter()
    whole_segment(folder, frames, size)
    alone = time.perf_counter() - started
    writer = SegmentWriter(folder, native=size, output=size, fps=FPS, frames=len(frames))
    for first in range(0, len(frames), MICRO_BATCH):
        time.sleep(0.2)
        writer.write(frames[first : first + MICRO_BATCH])
    started = time.perf_counter()
    writer.finish()
    left = time.perf_counter() - started
    print(f"    tail after the last frame: {left * 1000:.0f} ms, {left / alone:.1%} of the encode")


def join(home: Path, frames: Frames, size: Size) -> None:
    """Print how long ten segments take to become a video with its pictures."""
    whole_segment(home / "part", frames, size)
    parts = [home / "part" / SEGMENT] * 10
    total = 10 * len(frames)
    started = time.perf_counter()
    assemble(parts, home / "joined", size=size, fps=FPS, frames_total=total, title="bench")
    print(f"    join of 10 segments, {total} frames: {time.perf_counter() - started:.2f} s, copied")


def moving_picture(count: int, size: Size) -> Frames:
    """Return frames with the texture of painted pictures: smooth shapes, grain, motion."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0 : size.height, 0 : size.width]
    grain = rng.normal(0, 2, (size.height, size.width, 3))
    frames = np.empty((count, size.height, size.width, 3), np.uint8)
    for number in range(count):
        shift = 3 * number
        waves = [
            np.sin((x + shift) / 37),
            np.cos((y - shift) / 53),
            np.sin((x + y + shift) / 71),
        ]
        picture = 128 + 80 * np.stack(waves, axis=-1) + np.roll(grain, shift, axis=1)
        frames[number] = np.clip(picture, 0, 255)
    return frames


def _delivered(source: Any, folder: Path, size: Size) -> Any:
    return source.filter(
        "scale",
        size.width,
        size.height,
        flags="lanczos+accurate_rnd+full_chroma_int",
        out_color_matrix="bt709",
        out_range="tv",
    ).output(
        str(folder / SEGMENT),
        **X264,
        g=2 * FPS,
        video_track_timescale=TIME_BASE_PER_FRAME * FPS,
        map_metadata=-1,
        fflags="+bitexact",
    )


def _run(make: Callable[[], str]) -> None:
    make()


def _size(text: str) -> Size:
    width, _, height = text.partition("x")
    return Size(width=int(width), height=int(height))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frames", type=int, default=81)
    parser.add_argument("--size", type=_size, default=Size(width=832, height=480))
    parser.add_argument("--pairs", type=int, default=10)
    parser.add_argument("--levels", type=int, nargs="*", default=[1, 6], help="of PNG")
    return parser.parse_args()


if __name__ == "__main__":
    main()
