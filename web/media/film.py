"""Frames out of videos, by an FFmpeg that may do nothing else.

What is decoded is a master that a worker of ours made, or an upload that nobody has looked at. Both
are read by a demuxer and decoders that are named, from one file and no other protocol, in a group
of its own under limits of memory, CPU and time. FFmpeg runs beside the hub: its pipes are
cooperative under gevent.
"""

import os
import resource
import signal
import struct
import subprocess
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import BoundedSemaphore, Timer
from typing import IO, Final

from orchestrator.errors import BadRequest, Unavailable
from orchestrator.programs import ffmpeg
from orchestrator.remedies import Say

MEMORY_BYTES: Final = 2 << 30
CPU_SECONDS: Final = 120
WALL_SECONDS: Final = 3600.0
"""For one master, whose frames go to a client as fast as that takes them."""
UPLOAD_SECONDS: Final = 20.0
"""For one frame of an upload."""
MAX_PIXELS: Final = 25_000_000
"""Of one frame, as of a reference picture."""
DECODERS: Final = "h264,hevc,mpeg4,vp8,vp9,av1,libdav1d,ffv1"
THUMBNAIL: Final = "thumbnail=n=24,scale=w='min(1024,iw)':h=-2"
"""The most typical of the first frames, and no wider than a reference picture needs to be."""
AT_ONCE: Final = 3
"""Processes of either kind that decode beside each other: it bounds their memory together."""
WAIT_SECONDS: Final = 5.0
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class NotAFilm(Unavailable):
    """FFmpeg could not decode the frames."""


_slots = BoundedSemaphore(AT_ONCE)
"""For what is over in a moment: uploads, last frames."""
_downloads = BoundedSemaphore(AT_ONCE)
"""For archives of frames. A client that takes one slowly, or never, keeps its place for long, and
other clients' archives waiting, but nobody's upload."""
finals = BoundedSemaphore(AT_ONCE)
"""For looks at finished videos, which wait for no client."""


def frames(master: Path, program: str = "") -> Generator[bytes, None, None]:
    """Yield the frames of a master as PNGs, without loss.

    Raises:
        Unavailable: FFmpeg failed, or there are too many of them.
    """
    rgb = ["-pix_fmt", "rgb24"]
    yield from _decoded(master, "matroska", program, rgb, WALL_SECONDS, slots=_downloads)


def last_frame(master: Path, program: str = "") -> bytes:
    """Return the last frame of a master as PNG.

    Raises:
        Unavailable: FFmpeg failed, or there are too many of them.
    """
    rgb = ["-pix_fmt", "rgb24"]
    *_, last = _decoded(master, "matroska", program, rgb, WALL_SECONDS, slots=_slots)
    return last


def portrait(upload: bytes, program: str = "") -> bytes:
    """Return one frame of an uploaded video as PNG.

    Raises:
        BadRequest: it is no MP4, QuickTime, Matroska or WebM video by its content.
        Unavailable: there are too many decoders.
    """
    refused = BadRequest(
        "The video is no MP4 or WebM by its content, or cannot be decoded.",
        Say("Send a short MP4 (H.264) or WebM."),
        errors=[{"field": "video", "fault": "cannot be read"}],
    )
    container = _container(upload)
    if container is None:
        raise refused
    with TemporaryDirectory(prefix="farm-upload-") as folder:
        file = Path(folder) / "video"
        file.write_bytes(upload)
        options = ["-vf", THUMBNAIL, "-frames:v", "1", "-pix_fmt", "rgb24"]
        try:
            with closing(
                _decoded(file, container, program, options, UPLOAD_SECONDS, slots=_slots)
            ) as found:
                return next(found)
        except (NotAFilm, StopIteration):
            raise refused from None


def _container(data: bytes) -> str | None:
    if data[4:8] == b"ftyp":
        return "mov"
    return "matroska" if data.startswith(b"\x1a\x45\xdf\xa3") else None


def _decoded(
    file: Path,
    container: str,
    program: str,
    options: list[str],
    seconds: float,
    *,
    slots: BoundedSemaphore,
) -> Generator[bytes, None, None]:
    argv = [
        *(ffmpeg(program), "-nostdin", "-hide_banner", "-loglevel", "error"),
        *("-protocol_whitelist", "file", "-codec_whitelist", DECODERS, "-threads", "1"),
        *("-max_pixels", str(MAX_PIXELS)),
        *(["-enable_drefs", "0"] if container == "mov" else []),
        *("-f", container, "-i", f"file:{file}", "-map", "0:v:0", *options),
        *("-fps_mode", "passthrough", "-f", "image2pipe", "-c:v", "png", "-threads", "1", "pipe:1"),
    ]
    with place(slots), limited(argv, seconds) as stream:
        yield from _pngs(stream)


@contextmanager
def place(slots: BoundedSemaphore) -> Iterator[None]:
    """Hold one of a few places for an FFmpeg.

    Raises:
        Unavailable: there was none for a while.
    """
    if not slots.acquire(timeout=WAIT_SECONDS):
        raise Unavailable(
            f"The farm is decoding {AT_ONCE} videos already.",
            Say("Wait a little and ask again."),
        )
    try:
        yield
    finally:
        slots.release()


@contextmanager
def limited(argv: list[str], seconds: float) -> Iterator[IO[bytes]]:
    """Run an FFmpeg under limits of memory, CPU, time and files, and lend its stdout.

    Raises:
        NotAFilm: it ended with an error, as it does when it takes too much.
    """
    process = subprocess.Popen(
        argv,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,
        preexec_fn=_limit,  # noqa: PLW1509 - it sets three numbers and takes no lock
    )
    watch = Timer(seconds, _kill, [process])
    watch.daemon = True
    watch.start()
    try:
        assert process.stdout
        yield process.stdout
        if process.wait():
            raise NotAFilm
    finally:
        watch.cancel()
        _kill(process)
        if process.stdout:
            process.stdout.close()


def _limit() -> None:
    """Bound the process that FFmpeg becomes."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _kill(process: "subprocess.Popen[bytes]") -> None:
    if process.returncode is None:  # until it is waited for, its number is nobody else's
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _pngs(stream: IO[bytes]) -> Iterator[bytes]:
    """Cut a stream of PNGs into pictures, by their chunks."""
    while signature := stream.read(len(_PNG)):
        parts, kind = [signature], b""
        while kind != b"IEND":
            head = stream.read(8)
            if signature != _PNG or len(head) < 8:
                raise NotAFilm("FFmpeg ended in the middle of a frame.")
            length, kind = struct.unpack(">I4s", head)
            parts += [head, stream.read(length + 4)]
        yield b"".join(parts)
