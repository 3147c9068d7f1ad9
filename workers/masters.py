"""Masters read back: the painted frames of several units, in the order of the video."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from itertools import chain
from operator import itemgetter
from pathlib import Path

import av

from workers import video_reading

Painted = tuple[int, "av.VideoFrame"]
"""A painted frame, and which one of the video it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Master:
    """The lossless frames of a unit, and which ones of the video they are, in its order."""

    file: Path
    frames: range


def numbers(masters: Sequence[Master]) -> list[int]:
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
        with video_reading.opened(master.file, "matroska") as container:
            container.streams.video[0].codec_context.thread_count = 1
            frames = container.decode(container.streams.video[0])
            yield from zip(master.frames, frames, strict=True)
    except (av.FFmpegError, ValueError) as error:
        raise video_reading.NotTheVideo(
            f"The master {master.file.name} cannot be read: {error}"
        ) from None
