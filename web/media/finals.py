"""Finished videos, looked at before their jobs succeed: is it the one that was ordered?

A worker says what it made, and is believed in nothing that can be seen: FFmpeg lists the packets of
the file without decoding them, then decodes its first and its last pictures, under the limits of
`web.media.film`.
"""

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import IO, Final

from orchestrator.errors import BadRequest
from orchestrator.farm.leases.orders import VideoOrdered
from orchestrator.programs import ffmpeg
from web.media import film
from web.media.pictures import check_picture

SECONDS: Final = 60.0
"""For either look at one video."""
HEAD_BYTES: Final = 1 << 20
"""Of a JPEG, so much is read to see that it is one."""
LINE_BYTES: Final = 500
BRANDS: Final = (b"isom", b"iso2", b"iso4", b"iso5", b"iso6", b"mp41", b"mp42", b"avc1")
"""Of an MP4 (ISO 14496-12 and -14); QuickTime's is another."""
_INPUT: Final = (
    *("-protocol_whitelist", "file", "-codec_whitelist", "h264", "-threads", "1"),
    *("-enable_drefs", "0", "-f", "mov"),
)
_PACKET: Final = re.compile(r"(\d+), +(-?\d+), +(-?\d+), +(\d+), +(\d+), ")
"""Stream, decoding time, time, duration, bytes: a line of FFmpeg's `framecrc`."""


class _Other(Exception):
    """A video that is not the one ordered; says why."""


def is_jpeg(head: bytes) -> bool:
    """Tell whether a file that begins so is a JPEG of a sane size."""
    try:
        return check_picture(head) == ".jpg"
    except BadRequest:
        return False


def fault(video: Path, ordered: VideoOrdered, program: str = "") -> str:
    """Return why a video is not the one that was ordered; nothing where it is.

    Raises:
        Unavailable: the farm looks at too many videos already.
    """
    with film.place(film.finals):
        try:
            _look(video, ordered, ffmpeg(program))
        except _Other as other:
            return f"The video is not the one ordered: {other}."
        except film.NotAFilm:
            return "The video cannot be decoded."
    return ""


def _look(video: Path, ordered: VideoOrdered, program: str) -> None:
    with video.open("rb") as file:
        head = file.read(12)
    if head[4:8] != b"ftyp" or head[8:12] not in BRANDS:
        raise _Other("it is no MP4")
    start = (program, "-nostdin", "-hide_banner", "-loglevel", "error", "-xerror")
    source = ("-i", f"file:{video}")
    listed = (*start, *_INPUT, *source, "-map", "0", "-c", "copy", "-copyts")
    with film.limited([*listed, "-f", "framecrc", "pipe:1"], SECONDS) as lines:
        _check_packets(lines, ordered)
    last = (ordered.shown[-1] - 0.5) / ordered.fps
    decoded = (
        *(*start, "-abort_on", "empty_output"),
        *("-err_detect", "explode", *_INPUT, *source),
        *("-noaccurate_seek", "-ss", f"{max(0.0, last):.6f}"),
        *("-err_detect", "explode", *_INPUT, *source),
        *("-map", "0:v:0", "-frames:v", "1", "-f", "null", "-"),
        *("-map", "1:v:0", "-fps_mode", "passthrough", "-threads", "1", "-f", "framecrc", "pipe:1"),
    )
    with film.limited(list(decoded), SECONDS) as lines:
        pictures = [line for line in _lines(lines) if not line.startswith("#")]
    pixels = ordered.size.width * ordered.size.height
    if not pictures or any(_packet(line)[4] != pixels * 3 // 2 for line in pictures):
        raise _Other("its pictures are not yuv420p")


def _check_packets(lines: IO[bytes], ordered: VideoOrdered) -> None:
    """Compare the streams and the times of all packets with the order, one by one."""
    facts: dict[str, str] = {}
    count, end = 0, Fraction(0)
    for line in _lines(lines):
        if line.startswith("#"):
            name, _, value = line[1:].partition(":")
            facts[name] = value.strip()
            continue
        if count == 0:
            _check_stream(facts, ordered)
        number, _, time, duration, _ = _packet(line)
        if number or count == len(ordered.shown):
            raise _Other(f"it has more than {len(ordered.shown)} frames or more than one stream")
        frame = Fraction(facts["tb 0"]) * ordered.fps
        if time * frame != ordered.shown[count]:
            raise _Other(f"frame {count} is shown at the time of frame {float(time * frame):.2f}")
        count, end = count + 1, (time + duration) * frame
    if count != len(ordered.shown):
        raise _Other(f"it has {count} frames, ordered were {len(ordered.shown)}")
    if abs(end - ordered.end) >= 1:
        raise _Other(f"it ends after {float(end):.2f} frames, ordered were {ordered.end}")


def _check_stream(facts: dict[str, str], ordered: VideoOrdered) -> None:
    if len([name for name in facts if name.startswith("media_type")]) != 1:
        raise _Other("it has more than one stream")
    found = (facts.get("codec_id 0"), facts.get("dimensions 0"))
    if found != ("h264", str(ordered.size)):
        raise _Other(f"it is {' '.join(map(str, found))}, ordered was h264 {ordered.size}")


def _packet(line: str) -> tuple[int, int, int, int, int]:
    found = _PACKET.match(line)
    if found is None:
        raise film.NotAFilm("FFmpeg's list of packets is none.")
    stream, decoded, time, duration, size = map(int, found.groups())
    return stream, decoded, time, duration, size


def _lines(stream: IO[bytes]) -> Iterator[str]:
    while line := stream.readline(LINE_BYTES):
        yield line.decode(errors="replace").strip()
