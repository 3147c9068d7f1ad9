"""Frames between painted ones: what moved from one to the next is followed, and shown on its way.

FFmpeg's `minterpolate` does it (motion-compensated, overlapped blocks), at the native size, out of
lossless masters; shot by shot, so that nothing is made of pictures on both sides of a cut.
"""

from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from subprocess import PIPE
from typing import Final

import av
import ffmpeg

from workers import video_reading
from workers.ffmpeg import FINISH_SECONDS, MARK, Look, Process, delivered, segment_output
from workers.gaps import PlacedSegment
from workers.video_reading import Master, Painted
from workers.watermark import Mark, Stream

FOLLOWED: Final = {
    "mi_mode": "mci",
    "mc_mode": "aobmc",
    "me_mode": "bidir",
    "vsbmc": 1,
    "scd": "none",
}
"""Bidirectional motion estimation, blocks of variable size, no search for cuts: they are known."""
LEAST_PX: Final = 32
"""Sides that `minterpolate` takes; smaller pictures are scaled up for it."""
AFTER: Final = 4
"""Frames that `minterpolate` wants to see after the last one it gives."""


def interpolated(
    given: Sequence[Master],
    folder: Path,
    *,
    every: int,
    cuts: Sequence[int],
    frames_total: int,
    truncated: bool,
    look: Look,
    may_go_on: Callable[[], None],
) -> list[PlacedSegment]:
    """Return a segment for each shot, with every frame of it, out of masters of painted frames.

    `cuts` are the first frames of the shots, `every` is how far painted frames lie apart; only a
    `truncated` video may lack some, whose place is then filled as well. `may_go_on` is asked
    before each painted frame and raises to stop.

    Raises:
        FFmpegError: FFmpeg failed.
        NotTheVideo: painted frames are missing or doubled, or a master cannot be read.
    """
    numbers = video_reading.frames_of(given)
    whole = list(range(cuts[0], frames_total, every))
    if numbers != whole and not (truncated and set(numbers) < set(whole)):
        raise video_reading.NotTheVideo(f"{len(numbers)} of {len(whole)} painted frames are there.")
    widest = max(master.frames.step for master in given)
    end = min(frames_total, numbers[-1] + widest) if truncated else frames_total
    painted = video_reading.in_order(given)
    made = []
    for number, shot in enumerate(_shots(cuts, numbers, end)):
        file = folder / f"shot{number:06}.mp4"
        count = sum(each in shot for each in numbers)
        _make((next(painted) for _ in range(count)), shot, file, look, may_go_on)
        made.append(PlacedSegment(segment=file, frames=shot))
    return made


def _shots(cuts: Sequence[int], numbers: Sequence[int], end: int) -> list[range]:
    """Return the frames of each shot; one of which nothing was painted shows the one before it.

    Where that is the first one, the first that has frames begins with the video.
    """
    there = [
        start
        for start, after in pairwise([*cuts, end])
        if any(start <= number < after for number in numbers)
    ]
    starts = [cuts[0], *there[1:]]
    return [range(start, after) for start, after in pairwise([*starts, end])]


def _make(
    painted: Iterator[Painted],
    shot: range,
    file: Path,
    look: Look,
    may_go_on: Callable[[], None],
) -> None:
    """Feed one shot through FFmpeg, each frame at its time, and write its segment."""
    mark = Mark(look.watermark, file.with_name(MARK), look.size) if look.watermark else None
    if mark:
        mark.draw()
    process = Process(_spec(file, len(shot), look, mark), stdin=PIPE)
    try:
        _feed(_at_their_times(painted, shot), process, look.fps, may_go_on)
        process.wait(FINISH_SECONDS)
    except BaseException:
        process.kill()
        raise


def _at_their_times(painted: Iterator[Painted], shot: range) -> Iterator[Painted]:
    """Yield a shot's frames by their time in it, the first one at once and the last one to its end.

    After the end comes as much more of the last one as FFmpeg wants to see before it is done.
    """
    number, frame = next(painted)
    if number > shot.start:
        yield 0, frame
    yield number - shot.start, frame
    for number, frame in painted:
        yield number - shot.start, frame
    yield from ((len(shot) + more, frame) for more in range(AFTER))


def _feed(
    painted: Iterator[Painted], process: Process, fps: int, may_go_on: Callable[[], None]
) -> None:
    """Write frames with their times into FFmpeg's stdin: raw pictures in NUT."""
    with av.open(_Pipe(process), "w", format="nut") as container:
        stream: Stream = None
        for time, frame in painted:
            may_go_on()
            picture = frame.reformat(format="rgb24")
            if stream is None:
                stream = container.add_stream("rawvideo", rate=fps)
                stream.width, stream.height = picture.width, picture.height
                stream.pix_fmt = "rgb24"
                stream.codec_context.time_base = Fraction(1, fps)
            picture.pts, picture.time_base = time, Fraction(1, fps)
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))


class _Pipe:
    """FFmpeg's stdin as PyAV wants a file to be."""

    def __init__(self, process: Process) -> None:
        self._process = process

    def write(self, data: bytes) -> int:
        """Write all of it."""
        self._process.feed(memoryview(data))
        return len(data)


def _spec(file: Path, frames: int, look: Look, mark: Mark | None) -> Stream:
    """Spell the command: painted frames in, `frames` of the video out."""
    raw = ffmpeg.input(
        "pipe:0", protocol_whitelist="pipe", format="nut", codec_whitelist="rawvideo"
    )
    tv = {"out_color_matrix": "bt709", "out_range": "tv", "flags": "accurate_rnd+full_chroma_inp"}
    made = (
        raw.filter("scale", f"max({LEAST_PX},iw)", f"max({LEAST_PX},ih)", **tv)
        .filter("format", "yuv444p")
        .filter("minterpolate", fps=look.fps, **FOLLOWED)
        .filter("trim", end_frame=frames)
    )
    shown = delivered(made, look.size)
    return segment_output(mark.over(shown) if mark else shown, file, look.fps)
