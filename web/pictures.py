"""Reference images, looked at by their content: PNG, JPEG or WebP of a sane size.

Only headers are read here; pixels are decoded by the worker.
"""

import struct
from typing import Final

from orchestrator.errors import BadRequest

MAX_PIXELS: Final = 25_000_000
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that carry the frame's size (ITU T.81, table B.1)."""


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
            next="Send one of at most 25 megapixels.",
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
        next="Convert it to one of these; nothing was started or charged.",
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
