"""Reference images, looked at by their content: PNG, JPEG or WebP of a sane size.

Only headers are read in this process. Pixels are decoded by `web.decode` in a child process
with little memory and time, and what the farm keeps is the picture that the child made anew.
"""

import struct
import subprocess
import sys
from pathlib import Path
from threading import BoundedSemaphore
from typing import Final

from orchestrator.errors import BadRequest, Unavailable
from orchestrator.remedies import Say

MAX_PIXELS: Final = 25_000_000
AT_ONCE: Final = 2
"""Children that decode beside each other: what bounds the memory of all uploads together."""
WAIT_SECONDS: Final = 30
DECODER: Final = Path(__file__).with_name("decode.py")
REFUSED: Final = 2
"""The exit code with which the child says why, for the sender."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that carry the frame's size (ITU T.81, table B.1)."""


_children = BoundedSemaphore(AT_ONCE)


def clean(data: bytes) -> tuple[str, bytes]:
    """Return a picture made anew, without metadata or anything behind it, and its file ending.

    Call it where the request is served, not off the hub: gevent waits for children only there.

    Raises:
        BadRequest: it is no still PNG, JPEG or WebP of at most 25 megapixels, or is damaged.
        Unavailable: the machine has too much to do to decode it in time.
    """
    check_picture(data)
    argv = [sys.executable, "-I", str(DECODER)]
    with _children:
        try:
            child = subprocess.run(
                argv,
                input=data,
                capture_output=True,
                env={},
                cwd="/",
                timeout=WAIT_SECONDS,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise Unavailable(
                "The reference image could not be decoded in time.",
                Say("Send a smaller one, or wait a little and send it again."),
            ) from None
    if child.returncode:
        said = child.stderr.decode(errors="replace") if child.returncode == REFUSED else ""
        raise BadRequest(
            said or "The reference image cannot be decoded.",
            Say("Save it anew as PNG or JPEG; nothing was started or charged."),
        )
    return check_picture(child.stdout), child.stdout


def check_picture(data: bytes) -> str:
    """Return the file ending that fits an image's content.

    Raises:
        BadRequest: it is no PNG, JPEG or WebP, or has more than 25 megapixels.
    """
    try:
        ending, width, height = _look(data)
    except (struct.error, IndexError):
        raise BadRequest("The reference image is cut off.") from None
    if not 0 < width * height <= MAX_PIXELS:
        raise BadRequest(
            f"The reference image has {width}x{height} pixels.",
            Say("Send one of at most 25 megapixels."),
        )
    return ending


def _look(data: bytes) -> tuple[str, int, int]:
    if data.startswith(_PNG) and data[12:16] == b"IHDR":
        return ".png", *struct.unpack(">II", data[16:24])
    if data.startswith(b"\xff\xd8\xff"):
        return ".jpg", *_jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return ".webp", *_webp_size(data)
    raise BadRequest(
        "The reference image is neither PNG, JPEG nor WebP by its content.",
        Say("Convert it to one of these; nothing was started or charged."),
    )


def _jpeg_size(data: bytes) -> tuple[int, int]:
    at = 2
    while data[at] == 0xFF:
        marker, length = data[at + 1], struct.unpack(">H", data[at + 2 : at + 4])[0]
        if marker in _SOF:
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise BadRequest("The reference image is a JPEG without a picture in it.")


def _webp_size(data: bytes) -> tuple[int, int]:
    kind = data[12:16]
    if kind == b"VP8X":
        return _uint24(data, 24) + 1, _uint24(data, 27) + 1
    if kind == b"VP8L":
        bits = struct.unpack("<I", data[21:25])[0]
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    width, height = struct.unpack("<HH", data[26:30])
    return width & 0x3FFF, height & 0x3FFF


def _uint24(data: bytes, at: int) -> int:
    return data[at] | data[at + 1] << 8 | data[at + 2] << 16
