"""FFmpeg: its processes, and frames into segments.

ffmpeg-python only spells the command lines; the processes are run here, in a group of their
own that dies with an abort. `workers.assembly` joins segments, `workers.video_reading` reads them.
"""

import contextlib
import math
import os
import resource
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Final

import ffmpeg
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator import programs
from orchestrator.model import Size
from orchestrator.settings import settings
from orchestrator.wire import MASTER, SEGMENT, STRIP
from workers.gaps import TIME_BASE_PER_FRAME
from workers.watermark import Mark, Stream

MARK: Final = "watermark.png"
STRIP_HEIGHT: Final = 96
STRIP_MAX_WIDTH: Final = 16_000
"""Wider strips are cut into rows: a JPEG ends at 65,535 pixels, browsers' canvases earlier."""
FINISH_SECONDS: Final = 120
ERROR_CHARS: Final = 800
KEY_FRAME_SECONDS: Final = 2
"""From one key frame to the next at most, so that a player can jump."""

X264: Final[dict[str, str | int]] = {
    "vcodec": "libx264",
    "preset": "veryfast",
    "crf": 18,
    # No B-frames: decoding order is display order, so segments join without edit lists.
    "bf": 0,
    "flags:v": "+cgop+bitexact",
    "threads": 2,
    "pix_fmt": "yuv420p",
}
"""The same for every segment ever made: a change here forces re-encoding of older jobs."""

Frames = NDArray[np.uint8]


LIMITS: Final = {
    resource.RLIMIT_AS: 8 << 30,
    resource.RLIMIT_CPU: 4 * 3600,
    resource.RLIMIT_FSIZE: 64 << 30,
    resource.RLIMIT_CORE: 0,
}
"""Of one FFmpeg: bytes of memory, seconds of CPU, bytes of a file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """Looks of a video."""

    size: Size
    fps: int
    watermark: str


class FFmpegError(OSError):
    """FFmpeg could not do it; the message is its own last words."""


def _bound(pid: int) -> None:
    """Bound what a process may take; our own frames need far less, a broken file stops there."""
    if prlimit := getattr(resource, "prlimit", None):  # Linux alone has it
        with contextlib.suppress(ProcessLookupError):
            for limit, most in LIMITS.items():
                prlimit(pid, limit, (most, most))


class Process:
    """One ffmpeg process in its own group, its complaints kept in a file."""

    def __init__(
        self, spec: Stream, *, stdin: int = subprocess.DEVNULL, cwd: Path | None = None
    ) -> None:
        program = programs.ffmpeg(settings().ffmpeg)
        head = [
            str(Path(program).absolute()) if cwd else program,
            "-nostdin",
            "-hide_banner",
            "-loglevel",
            "error",
        ]
        argv = ffmpeg.compile(spec, cmd=head, overwrite_output=True)
        # A file never fills up and blocks FFmpeg as an undrained pipe would.
        self._stderr: IO[bytes] = TemporaryFile()  # noqa: SIM115 - closed in `_close`
        self._process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.DEVNULL,
            stderr=self._stderr,
            process_group=0,
            bufsize=0,
            cwd=cwd,
        )
        _bound(self._process.pid)

    @property
    def pid(self) -> int:
        """Process id, and the id of its group."""
        return self._process.pid

    def feed(self, data: memoryview) -> None:
        """Write all of `data` into its stdin.

        Raises:
            FFmpegError: it has ended.
        """
        assert self._process.stdin is not None
        try:
            while data:
                data = data[self._process.stdin.write(data) :]
        except (BrokenPipeError, ValueError):
            self.wait(FINISH_SECONDS)
            raise FFmpegError("FFmpeg ended before its last frame.") from None

    def wait(self, seconds: float) -> None:
        """Close its stdin and wait for its good end.

        Raises:
            FFmpegError: it failed, or did not end in time and was killed.
        """
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.kill()
            raise FFmpegError(f"FFmpeg did not end within {seconds:.0f} s.") from None
        words = self._close()
        if code:
            raise FFmpegError(f"FFmpeg ended with {code}: {words or 'it gave no reason.'}")

    def kill(self) -> None:
        """End it and its children at once."""
        if self._process.returncode is None:  # not waited for: its number is nobody else's
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._close()

    def _close(self) -> str:
        """Return its last words, and give the file back."""
        if self._stderr.closed:
            return ""
        self._stderr.seek(0)
        words = self._stderr.read().decode(errors="replace").strip()
        self._stderr.close()
        return words[-ERROR_CHARS:]


class SegmentWriter:
    """Turns the frames of one unit into its segment, lossless master and strip.

    One FFmpeg process reads raw RGB from a pipe and writes all three while the engine paints.
    However early it is finished, the files hold exactly the frames that were written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        native: Size,
        output: Size,
        fps: int,
        frames: int,
        watermark: str = "",
    ) -> None:
        """`watermark` stands in the corner of segment and strip; the master is what was painted."""
        self._shape = (native.height, native.width, 3)
        self._segment, self._master, self._strip = (folder / n for n in (SEGMENT, MASTER, STRIP))
        self._tile = _tile(native, frames)
        self._mark = Mark(watermark, folder / MARK, output) if watermark else None
        self._spec = _segment_spec(folder, native, output, fps, self._tile, self._mark)
        self._process: Process | None = None
        self._written = 0

    @property
    def pid(self) -> int | None:
        """Process id of its FFmpeg; None before the first frame."""
        return self._process.pid if self._process else None

    def write(self, frames: Frames, /) -> None:
        """Take the next frames: uint8 (n, height, width, 3) at the native size.

        Raises:
            FFmpegError: FFmpeg failed (a full disk, for one).
        """
        assert frames.dtype == np.uint8, frames.dtype
        assert frames.shape[1:] == self._shape, frames.shape
        if self._process is None:
            self._segment.parent.mkdir(parents=True, exist_ok=True)
            if self._mark:
                self._mark.draw()
            self._process = Process(self._spec, stdin=subprocess.PIPE)
        self._process.feed(memoryview(np.ascontiguousarray(frames).data).cast("B"))
        self._written += len(frames)

    def finish(self) -> tuple[Path, ...]:
        """Close the files and return them: segment, master, strip.

        Raises:
            FFmpegError: as `write`.
        """
        assert self._process is not None, "no frame was written"
        self._process.wait(FINISH_SECONDS)
        self._unmark()
        self._tile.crop(self._strip, self._written)
        return self._segment, self._master, self._strip

    def abort(self) -> None:
        """End FFmpeg and leave no files behind."""
        if self._process:
            self._process.kill()
        for path in (self._segment, self._master, self._strip):
            path.unlink(missing_ok=True)
        self._unmark()

    def _unmark(self) -> None:
        if self._mark:
            self._mark.file.unlink(missing_ok=True)


class _Tile:
    """Layout of the frames of a strip."""

    def __init__(self, width: int, columns: int, rows: int) -> None:
        self.width, self.columns, self.rows = width, columns, rows

    def crop(self, strip: Path, frames: int) -> None:
        """Cut the empty places off a strip that got only `frames` frames."""
        columns, rows = min(frames, self.columns), math.ceil(frames / self.columns)
        if (columns, rows) == (self.columns, self.rows):
            return
        with Image.open(strip) as picture:
            kept = picture.crop((0, 0, columns * self.width, rows * STRIP_HEIGHT))
        kept.save(strip, quality=90)


def _tile(native: Size, frames: int) -> _Tile:
    width = max(2, 2 * round(STRIP_HEIGHT * native.width / native.height / 2))
    columns = max(1, min(frames, STRIP_MAX_WIDTH // width))
    return _Tile(width, columns, math.ceil(frames / columns))


def delivered(frames: Stream, output: Size) -> Stream:
    """Return FFmpeg's stream of frames at the size and in the colours of a video."""
    return frames.filter(
        "scale",
        output.width,
        output.height,
        flags="lanczos+accurate_rnd+full_chroma_int",
        out_color_matrix="bt709",
        out_range="tv",
    )


def tagged(frames: Stream) -> Stream:
    """Return FFmpeg's stream of frames that says which colours they are: BT.709, TV range.

    Encoder and muxer take that from the frames alone (VUI and `colr`): options of the output that
    say it are dropped. Players guess where nothing says it, each in its way.
    """
    return frames.filter(
        "setparams", color_primaries="bt709", color_trc="bt709", colorspace="bt709", range="tv"
    )


def raw_input(native: Size, fps: int) -> Stream:
    """Return FFmpeg's stream of the RGB frames that it reads from its stdin."""
    return ffmpeg.input(
        "pipe:0",
        protocol_whitelist="pipe",
        format="rawvideo",
        pix_fmt="rgb24",
        s=str(native),
        framerate=fps,
        thread_queue_size=8,
    )


def segment_output(frames: Stream, file: Path, fps: int) -> Stream:
    """Return FFmpeg's output of frames as a segment: closed GOPs, and times that add up.

    The bytes follow from the frames alone, of which all decide about each.
    """
    return tagged(frames).output(
        str(file),
        **X264,
        g=KEY_FRAME_SECONDS * fps,
        video_track_timescale=TIME_BASE_PER_FRAME * fps,
        map_metadata=-1,
        fflags="+bitexact",
    )


def _segment_spec(
    folder: Path,
    native: Size,
    output: Size,
    fps: int,
    tile: _Tile,
    mark: Mark | None,
) -> Stream:
    """Spell the command: one raw input, three outputs."""
    split = raw_input(native, fps).filter_multi_output("split", 2 if mark else 3)
    shown = delivered(split.stream(0), output)
    if mark:
        marked = mark.over(shown).filter_multi_output("split", 2)
        shown, seen = marked.stream(0), marked.stream(1)
    else:
        seen = split.stream(2)
    strip = seen.filter(
        "scale", tile.width, STRIP_HEIGHT, flags="area", out_range="pc", out_color_matrix="bt601"
    ).filter("tile", f"{tile.columns}x{tile.rows}")  # BT.601: a JPEG's matrix (JFIF), whatever came
    return ffmpeg.merge_outputs(
        segment_output(shown, folder / SEGMENT, fps),
        split.stream(1).output(
            str(folder / MASTER),
            vcodec="ffv1",
            level=3,
            g=1,
            slices=4,
            slicecrc=1,
            pix_fmt="bgr0",
            threads=1,
            map_metadata=-1,
            fflags="+bitexact",
            **{"flags:v": "+bitexact"},
        ),
        strip.output(
            str(folder / STRIP),
            format="image2",
            update=1,
            vcodec="mjpeg",
            pix_fmt="yuvj420p",
            threads=1,
            fflags="+bitexact",
            **{"frames:v": 1, "q:v": 3, "flags:v": "+bitexact"},
        ),
    )
