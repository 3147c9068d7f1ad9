"""Colour profiles, made by hand: a matrix and one curve (ICC.1:2010, clauses 8.3 and 10)."""

import struct
from typing import Final

P3: Final = ((0.51512, 0.24120, -0.00105), (0.29198, 0.69225, 0.04189), (0.15710, 0.06657, 0.78407))
"""Primaries of Display P3 as XYZ of its red, green and blue, seen under D50."""
SRGB_CURVE: Final = (2.4, 1 / 1.055, 0.055 / 1.055, 1 / 12.92, 0.04045)


def _fixed(*numbers: float) -> bytes:
    return b"".join(struct.pack(">i", round(number * 65536)) for number in numbers)


def profile(space: bytes = b"RGB ", primaries: tuple[tuple[float, ...], ...] = P3) -> bytes:
    """Return a display's profile for `RGB ` or `GRAY`, with sRGB's curve."""
    curve = b"para" + bytes(4) + struct.pack(">HH", 3, 0) + _fixed(*SRGB_CURVE)
    title = struct.pack(">II2s2sII", 1, 12, b"en", b"US", 4, 28) + "P3".encode("utf-16-be")
    tags = {
        b"desc": b"mluc" + bytes(4) + title,
        b"wtpt": b"XYZ " + bytes(4) + _fixed(0.9642, 1, 0.8249),
    }
    if space == b"GRAY":
        tags[b"kTRC"] = curve
    else:
        for name, xyz in zip(b"rgb", primaries, strict=True):
            tags[bytes((name,)) + b"XYZ"] = b"XYZ " + bytes(4) + _fixed(*xyz)
            tags[bytes((name,)) + b"TRC"] = curve
    at = 128 + 4 + 12 * len(tags)
    table, body = b"", b""
    for name, data in tags.items():
        table += name + struct.pack(">II", at + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    head = bytearray(128)
    head[0:4] = struct.pack(">I", at + len(body))
    head[8:12] = b"\4\x20\0\0"
    head[12:24] = b"mntr" + space + b"XYZ "
    head[36:40] = b"acsp"
    head[68:80] = _fixed(0.9642, 1, 0.8249)
    return bytes(head) + struct.pack(">I", len(tags)) + table + body
