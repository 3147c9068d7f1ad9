"""Segments whose frames lie between each other's, into one video without encoding again.

A frame that is missing is shown as the one before it, which simply stays longer: the video of a
job that was cut off has the length and the pace of the whole one.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import av

from workers import video_reading

TIME_BASE_PER_FRAME: Final = 512
"""Ticks of a frame: every segment of a job counts in 1/(512 fps), so pts add up exactly."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PassSegment:
    """A segment and which frames of the video it has, in its order."""

    segment: Path
    frames: range


def shown(segments: Sequence[PassSegment]) -> list[int]:
    """Return when each frame of the video is shown, in frames; the first one at once."""
    first, *rest = sorted(frame for part in segments for frame in part.frames)
    return [min(first, 0), *rest]


def interleave(
    segments: Sequence[PassSegment], video: Path, *, fps: int, frames_total: int, title: str
) -> None:
    """Put the packets of all segments in the order of their frames.

    Their encoders must agree, and frames that lie between others' must be key frames. The last
    frame stays as long as the widest gap within a segment, at most to the end of the video.
    """
    packets = sorted(
        (
            (frame, packet)
            for part in segments
            for frame, packet in zip(part.frames, _packets(part.segment), strict=True)
        ),
        key=lambda pair: pair[0],
    )
    starts = shown(segments)
    last = max(frame for frame, _ in packets)
    ends = [*starts[1:], min(frames_total, last + max(s.frames.step for s in segments))]
    base = Fraction(1, TIME_BASE_PER_FRAME * fps)
    options = {"movflags": "+faststart", "fflags": "+bitexact"}
    with (
        video_reading.opened(segments[0].segment) as model,
        av.open(str(video), "w", container_options=options) as container,
    ):
        container.metadata["title"] = title
        stream = container.add_stream_from_template(model.streams.video[0])
        stream.time_base = base
        for (_, packet), start, end in zip(packets, starts, ends, strict=True):
            packet.stream = stream
            packet.time_base = base
            packet.pts = packet.dts = start * TIME_BASE_PER_FRAME
            packet.duration = (end - start) * TIME_BASE_PER_FRAME
            container.mux(packet)


def _packets(segment: Path) -> list[Any]:
    with video_reading.opened(segment) as container:
        return [packet for packet in container.demux(video=0) if packet.dts is not None]
