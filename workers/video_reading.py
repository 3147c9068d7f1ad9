"""Reading videos and masters back with PyAV: are they what was ordered, and how they look."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain
from operator import itemgetter
from pathlib import Path
from typing import Final

import av
from av.video.reformatter import ColorRange, Colorspace
from PIL import Image

from orchestrator.errors import FarmError
from orchestrator.model import Size
from orchestrator.remedies import Listing, LookAt

SHEET_FRAMES: Final = 16
SHEET_TILE_WIDTH: Final = 240
SHEET_GAP: Final = 4


def opened(file: Path, container: str = "mov") -> "av.container.InputContainer":
    """Open a file of ours for reading; nothing that it might name elsewhere is followed."""
    return av.open(str(file), format=container, options={"protocol_whitelist": "file"})


class NotTheVideo(FarmError):
    """A video of FFmpeg's that is not the one ordered."""

    code = "not_the_video"
    remedies = (LookAt(Listing.LOGS, "Nothing is charged; the unit is tried again."),)


def verify(video: Path, *, size: Size, fps: int, shown: Sequence[int]) -> None:
    """Look at a finished video: H.264, yuv420p, every frame once and at its time.

    `shown`: when each of its frames is shown, counted in frames.

    Raises:
        NotTheVideo: says what is wrong.
    """
    with opened(video) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        found = (context.name, context.pix_fmt, context.width, context.height)
        if found != ("h264", "yuv420p", size.width, size.height):
            raise NotTheVideo(f"The video is {found}, ordered was h264, yuv420p, {size}.")
        base = stream.time_base
        assert base is not None
        times = [p.pts * base * fps for p in container.demux(stream) if p.pts is not None]
    if len(times) != len(shown):
        raise NotTheVideo(f"The video has {len(times)} frames, ordered were {len(shown)}.")
    for index, time in zip(shown, times, strict=True):
        if time != index:
            raise NotTheVideo(f"Frame {index} is shown at the time of frame {float(time):.2f}.")


def head(segment: Path) -> bytes | None:
    """Return the parameter sets of a segment; equal ones can share one stream."""
    try:
        with opened(segment) as container:
            return container.streams.video[0].codec_context.extradata
    except (av.FFmpegError, IndexError) as error:
        raise NotTheVideo(f"The segment {segment.name} cannot be read: {error}") from None


def pictures(video: Path, fps: int, wanted: Sequence[int]) -> list[Image.Image]:
    """Return the frames with these numbers, decoding no more than from the key frame before."""
    found: list[Image.Image] = []
    with opened(video) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        base = stream.time_base
        assert base is not None
        for number in wanted:
            time = round(number / (fps * base))
            container.seek(time, stream=stream)
            frame = next(f for f in container.decode(stream) if f.pts is not None and f.pts >= time)
            rgb = frame.reformat(
                format="rgb24", src_colorspace=Colorspace.ITU709, dst_color_range=ColorRange.JPEG
            )
            found.append(Image.fromarray(rgb.to_ndarray()))
    return found


def contact_sheet(video: Path, fps: int, shown: Sequence[int]) -> Image.Image:
    """Return up to `SHEET_FRAMES` frames, first to last, as tiles of one picture."""
    frames = pictures(video, fps, [shown[place] for place in _spread(len(shown))])
    columns = min(4, len(frames))
    width, height = frames[0].size
    tile_width = min(width, SHEET_TILE_WIDTH)
    tile = (tile_width, max(1, height * tile_width // width))
    pitch = (tile[0] + SHEET_GAP, tile[1] + SHEET_GAP)
    rows = math.ceil(len(frames) / columns)
    sheet = Image.new("RGB", (columns * pitch[0] - SHEET_GAP, rows * pitch[1] - SHEET_GAP))
    for place, frame in enumerate(frames):
        row, column = divmod(place, columns)
        sheet.paste(
            frame.resize(tile, Image.Resampling.LANCZOS), (column * pitch[0], row * pitch[1])
        )
    return sheet


def _spread(frames_total: int) -> list[int]:
    count = min(SHEET_FRAMES, frames_total)
    return [round(i * (frames_total - 1) / max(1, count - 1)) for i in range(count)]


# --- masters ------------------------------------------------------------------------------


Painted = tuple[int, "av.VideoFrame"]
"""A painted frame, and which one of the video it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """The lossless frames of a unit, and which ones of the video they are, in its order."""

    file: Path
    frames: range


def frames_of(masters: Sequence[Master]) -> list[int]:
    """Return which frames of the video these are together, in order."""
    return sorted(chain.from_iterable(master.frames for master in masters))


def in_order(masters: Sequence[Master]) -> Iterator[Painted]:
    """Decode the masters in the order of their frames; of each pass, one at a time is open.

    Raises:
        NotTheVideo: a master cannot be read, or has not the frames it should have.
    """
    passes: dict[tuple[int, int], list[Master]] = defaultdict(list)
    for master in sorted(masters, key=lambda each: each.frames.start):
        step = master.frames.step
        passes[step, master.frames.start % step].append(master)
    runs = (chain.from_iterable(map(_decoded, each)) for each in passes.values())
    return merge(*runs, key=itemgetter(0))


def _decoded(master: Master) -> Iterator[Painted]:
    try:
        with opened(master.file, "matroska") as container:
            container.streams.video[0].codec_context.thread_count = 1
            frames = container.decode(container.streams.video[0])
            yield from zip(master.frames, frames, strict=True)
    except (av.FFmpegError, ValueError) as error:
        raise NotTheVideo(f"The master {master.file.name} cannot be read: {error}") from None
