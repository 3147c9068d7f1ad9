"""Uploads that somebody might send to break a farm, each with a name; none is a picture we take."""

import io
import random
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from PIL import Image

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def picture(kind: str = "PNG", size: tuple[int, int] = (64, 48), **options: Any) -> bytes:
    """Return an honest picture of a gradient."""
    out = io.BytesIO()
    image = Image.linear_gradient("L").resize(size).convert(options.pop("mode", "RGB"))
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a PNG chunk."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(
    width: int, height: int, pixels: bytes, *more: bytes, depth: int = 8, kind: int = 2
) -> bytes:
    """Return a PNG put together by hand."""
    head = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    return (
        SIGNATURE
        + chunk(b"IHDR", head)
        + b"".join(more)
        + chunk(b"IDAT", pixels)
        + chunk(b"IEND", b"")
    )


def moving(kind: str) -> bytes:
    """Return an animation of three frames."""
    out = io.BytesIO()
    frames = [Image.new("RGB", (32, 32), (shade, 0, 0)) for shade in (0, 90, 180)]
    frames[0].save(out, kind, save_all=True, append_images=frames[1:], duration=50)
    return out.getvalue()


def uploads() -> dict[str, bytes]:
    """Return the corpus: name -> what is sent."""
    found: dict[str, bytes] = {}
    for part in (_other_kinds(), _too_large(), _cut_off(), _broken(), _moving(), _pretending()):
        for name, data in part:
            assert name not in found, name
            found[name] = data
    return found


def _other_kinds() -> Iterator[tuple[str, bytes]]:
    for kind in ("GIF", "BMP", "TIFF", "ICO", "PPM", "TGA", "PCX", "SGI", "JPEG2000", "DDS", "PDF"):
        yield f"a {kind}", picture(kind)
    yield "an EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(%pipe%id) (w) file\n"
    yield "an SVG", SVG
    yield "an SVG with an entity", b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>' + SVG
    yield "an HTML page", b"<!doctype html><img src=x onerror=alert(1)>"
    yield "a script", b"#!/bin/sh\nid\n"
    yield "a program", b"\x7fELF" + bytes(64)
    yield "a pickle", b"\x80\x04cos\nsystem\n(S'id'\ntR."
    yield "a zip", b"PK\x03\x04" + bytes(64)
    yield "a playlist", b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n"
    yield "MVG of ImageMagick", b"push graphic-context\nimage over 0,0 0,0 'https://x.test/a'\n"
    yield "an AVIF head", b"\x00\x00\x00\x1cftypavif" + bytes(64)
    yield "an MP4 head", b"\x00\x00\x00\x18ftypmp42" + bytes(64)
    yield "nothing", b""
    yield "one byte", b"\x89"
    yield "zeroes", bytes(4096)


def _too_large() -> Iterator[tuple[str, bytes]]:
    flat = zlib.compress(bytes(1 << 20), 9)
    for width, height in ((5001, 5000), (25_000_001, 1), (1, 25_000_001), (65_535, 65_535)):
        yield f"a PNG of {width}x{height}", png(width, height, flat)
    yield "a PNG of the largest numbers", png(0x7FFFFFFF, 0x7FFFFFFF, flat)
    yield "a PNG of negative numbers", png(0xFFFFFFFF, 0xFFFFFFFF, flat)
    yield "a PNG of no width", png(0, 100, flat)
    yield "a PNG of no height", png(100, 0, flat)
    jpeg = bytearray(picture("JPEG"))
    at = jpeg.index(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65_500, 65_500)
    yield "a JPEG that claims 65500x65500", bytes(jpeg)
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4) + b"\xff\xff\xff\xff\xff\xff"
    yield "a WebP that claims 16777216x16777216", _riff(extended)
    bomb = zlib.compress(bytes(64 << 20), 9)
    yield "a text bomb", png(8, 8, flat, chunk(b"zTXt", b"k\0\0" + bomb))
    yield "a profile bomb", png(8, 8, flat[:9], chunk(b"iCCP", b"k\0\0" + bomb))
    yield "pixels for another size", png(4000, 4000, zlib.compress(bytes(100)))


def _cut_off() -> Iterator[tuple[str, bytes]]:
    for kind in ("PNG", "JPEG", "WEBP"):
        whole = picture(kind)
        for part in (0.05, 0.3, 0.6):
            yield f"{part:.0%} of a {kind}", whole[: int(len(whole) * part)]
    yield "a PNG signature", SIGNATURE
    yield "a JPEG start", b"\xff\xd8\xff\xe0\x00"
    yield "a WebP start", b"RIFF\x00\x00\x00\x00WEBP"


def _broken() -> Iterator[tuple[str, bytes]]:
    chance = random.Random(7)
    for kind in ("PNG", "WEBP"):
        data = bytearray(picture(kind))
        for at in range(40, len(data)):
            data[at] = chance.randrange(256)
        yield f"a {kind} of noise", bytes(data)
    yield (
        "a PNG without pixels",
        SIGNATURE + chunk(b"IHDR", struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)),
    )
    yield "a PNG of an unknown depth", png(8, 8, zlib.compress(bytes(200)), depth=7)
    yield "a PNG of an unknown colour", png(8, 8, zlib.compress(bytes(200)), kind=5)
    yield "a PNG whose pixels are no zlib", png(8, 8, b"not zlib at all, really")
    yield "a palette PNG of half a palette", png(8, 8, b"", chunk(b"PLTE", b"\0"), kind=3)
    yield "a JPEG of markers", b"\xff\xd8" + b"\xff\xe0\x00\x02" * 5000
    yield "a JPEG whose segment has no length", b"\xff\xd8\xff\xe0\x00\x00" + b"\xff" * 64
    yield "a JPEG without a picture", b"\xff\xd8\xff\xda\x00\x08" + bytes(64)
    yield "a JPEG of header alone", picture("JPEG")[:330]
    yield "a WebP without a picture", _riff(b"VP8X" + struct.pack("<I", 10) + bytes(10))
    yield (
        "a lossless WebP of noise",
        _riff(b"VP8L" + struct.pack("<I", 64) + b"\x2f" + b"\x55" * 63),
    )


def _moving() -> Iterator[tuple[str, bytes]]:
    yield "a moving PNG", moving("PNG")
    yield "a moving WebP", moving("WEBP")
    yield "a moving GIF", moving("GIF")


def _pretending() -> Iterator[tuple[str, bytes]]:
    yield "an SVG behind a PNG signature", SIGNATURE + SVG
    yield "an SVG behind a PNG head", SIGNATURE + chunk(b"IHDR", bytes(13)) + SVG
    yield "an HTML page behind a JPEG start", b"\xff\xd8\xff\xe0\x00\x10JFIF\0" + SVG
    yield "a zip behind RIFF", b"RIFF\x10\x00\x00\x00WEBPPK\x03\x04" + bytes(32)
    yield "a WAV", b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(64)
    yield "an AVI", b"RIFF\x24\x00\x00\x00AVI LIST" + bytes(64)


def _riff(body: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body
