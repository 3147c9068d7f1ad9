"""Segments of a video that lacks frames, joined without encoding again.

A frame that is missing is shown as the one before it, which simply stays longer: the video of a
job that was cut off has the length and the pace of the whole one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain
from pathlib import Path
from typing import Any, Final

import av

from workers import video_reading

TIME_BASE_PER_FRAME: Final = 512
"""Ticks of a frame: every segment of a job counts in 1/(512 fps), so pts add up exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacedSegment:
    """A segment and which frames of the video it has, in its order."""

    segment: Path
    frames: Sequence[int]


def shown(segments: Sequence[PlacedSegment]) -> list[int]:
    """Return when each frame of the video is shown, in frames; the first one at once."""
    first, *rest = chain.from_iterable(part.frames for part in segments)
    return [min(first, 0), *rest]


def join_with_gaps(
    segments: Sequence[PlacedSegment],
    video: Path,
    *,
    fps: int,
    frames_total: int,
    stride: int,
    title: str,
) -> None:
    """Put the packets of one segment after the other's, each at the time of its frame.

    Their encoders must agree. The last frame stays for `stride` frames, at most to the end of the
    video.
    """
    packets = [
        packet
        for part in segments
        for _, packet in zip(part.frames, _packets(part.segment), strict=True)
    ]
    starts = shown(segments)
    ends = [*starts[1:], min(frames_total, segments[-1].frames[-1] + stride)]
    base = Fraction(1, TIME_BASE_PER_FRAME * fps)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with (
        video_reading.opened(segments[0].segment) as model,
        av.open(str(video), "w", container_options=options) as container,
    ):
        container.metadata["title"] = title
        stream = container.add_stream_from_template(model.streams.video[0])
        stream.time_base = base
        for packet, start, end in zip(packets, starts, ends, strict=True):
            packet.stream = stream
            packet.time_base = base
            packet.pts = packet.dts = start * TIME_BASE_PER_FRAME
            packet.duration = (end - start) * TIME_BASE_PER_FRAME
            container.mux(packet)


def _packets(segment: Path) -> list[Any]:
    with video_reading.opened(segment) as container:
        return [packet for packet in container.demux(video=0) if packet.dts is not None]
