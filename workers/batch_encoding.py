"""Frames that several units painted, encoded as if one had: masters into one segment.

How x264 spends its bits on a frame depends on the frames before and after it. So where a frame
batch was cut (a stop, a pause, passes) its units' segments are left aside, and what their masters
have is encoded in one go. The segment is, byte for byte, that of a unit with all of these frames.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from subprocess import PIPE

import numpy as np

from orchestrator.model import Size
from workers import video_reading
from workers.ffmpeg import FINISH_SECONDS, MARK, Look, Process, delivered, raw_input, segment_output
from workers.gaps import PlacedSegment
from workers.video_reading import Master
from workers.watermark import Mark


def encoded(
    given: Sequence[Master], file: Path, *, look: Look, may_go_on: Callable[[], None]
) -> PlacedSegment:
    """Encode the frames of these masters, in order, as one segment into `file`.

    `may_go_on` is asked before each frame and raises to stop.

    Raises:
        FFmpegError: FFmpeg failed.
        NotTheVideo: a master cannot be read, or has not the frames it should have.
    """
    process: Process | None = None
    try:
        for _, frame in video_reading.in_order(given):
            may_go_on()
            if process is None:
                native = Size(width=frame.width, height=frame.height)
                process = _started(native, file, look)
            picture = np.ascontiguousarray(frame.to_ndarray(format="rgb24"))
            process.feed(memoryview(picture.data).cast("B"))
        assert process, "an accepted render unit has frames"
        process.wait(FINISH_SECONDS)
    except BaseException:
        if process:
            process.kill()
        raise
    return PlacedSegment(segment=file, frames=video_reading.frames_of(given))


def _started(native: Size, file: Path, look: Look) -> Process:
    """Start an FFmpeg that takes raw frames and writes the segment that `SegmentWriter` would."""
    shown = delivered(raw_input(native, look.fps), look.size)
    if look.watermark:
        mark = Mark(look.watermark, file.with_name(MARK), look.size)
        mark.draw()
        shown = mark.over(shown)
    return Process(segment_output(shown, file, look.fps), stdin=PIPE)
