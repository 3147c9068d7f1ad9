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
    for part in (
        *(_other_kinds(), _other_heads(), _too_large(), _cut_off()),
        *(_broken(), _wrong_sums(), _moving(), _pretending(), _of_two_kinds()),
    ):
        for name, data in part:
            assert name not in found, name
            found[name] = data
    return found


def heavy() -> Iterator[tuple[str, bytes]]:
    """Yield what is large itself, one after the other: each is as much as a request may have."""
    size = 30 << 20
    yield "30 MB of a PNG's head", SIGNATURE + b"\0\0\0\x0dIHDR" + bytes(size)
    yield "30 MB of a JPEG's remarks", b"\xff\xd8" + (b"\xff\xfe\xff\xff" + bytes(65533)) * 479
    yield "30 MB of a WebP's nothing", _riff(b"VP8X" + struct.pack("<I", 10) + bytes(size))
    yield "30 MB of chunks of a PNG", SIGNATURE + chunk(b"IHDR", bytes(13)) * (size // 25)


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


HEADS = {
    "a PSD": b"8BPS\x00\x01" + bytes(6) + b"\x00\x03\x00\x00\x00\x08\x00\x00\x00\x08\x00\x08",
    "a HEIC": b"\x00\x00\x00\x18ftypheic\x00\x00\x00\x00mif1heic",
    "an AVIF of frames": b"\x00\x00\x00\x1cftypavis\x00\x00\x00\x00avismsf1",
    "a JPEG XL": b"\xff\x0a\xfa\x7f\x00\x90",
    "a JPEG XL in boxes": b"\x00\x00\x00\x0cJXL \x0d\x0a\x87\x0a",
    "a JPEG of another kind": b"\xff\x4f\xff\x51\x00\x2f",
    "a QOI": b"qoif\x00\x00\x00\x08\x00\x00\x00\x08\x03\x00",
    "a WMF": b"\xd7\xcd\xc6\x9a",
    "an EMF": b"\x01\x00\x00\x00\x6c\x00\x00\x00",
    "a FITS": b"SIMPLE  =                    T",
    "a DICOM": bytes(128) + b"DICM",
    "an XPM": b"/* XPM */ static char *a[] = {",
    "a big TIFF": b"II\x2b\x00\x08\x00\x00\x00",
    "a TIFF that points at itself": b"II*\x00\x08\x00\x00\x00\x00\x00\x08\x00\x00\x00",
    "safetensors": b'\x10\x00\x00\x00\x00\x00\x00\x00{"__metadata__":{}',
    "a checkpoint of torch": b"PK\x03\x04archive/data.pkl" + b"\x80\x02cposix\nsystem\n",
    "a GGUF": b"GGUF\x03\x00\x00\x00",
    "an HDF5": b"\x89HDF\r\n\x1a\n",
    "an array of numpy": b"\x93NUMPY\x01\x00v\x00{'descr': '|O', 'shape': (1,)}",
    "a gzip": b"\x1f\x8b\x08\x00",
    "a bzip2": b"BZh91AY&SY",
    "an xz": b"\xfd7zXZ\x00",
    "a 7z": b"7z\xbc\xaf\x27\x1c",
    "a RAR": b"Rar!\x1a\x07\x01\x00",
    "a program of Windows": b"MZ\x90\x00",
    "a program of macOS": b"\xcf\xfa\xed\xfe",
    "a class of Java": b"\xca\xfe\xba\xbe\x00\x00\x00\x41",
    "WebAssembly": b"\x00asm\x01\x00\x00\x00",
    "Flash": b"FWS\x09",
    "a script of PHP": b"<?php system($_GET[0]); ?>",
    "a playlist of M3U8": b'#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="http://169.254.169.254/"\n',
    "YAML": b"!!python/object/apply:os.system ['id']\n",
    "JSON": b'{"image": "file:///etc/passwd"}',
    "an address": b"http://169.254.169.254/latest/meta-data/",
    "a path": b"/etc/passwd\n",
}
"""Beginnings of files of other kinds."""


def _other_heads() -> Iterator[tuple[str, bytes]]:
    for name, head in HEADS.items():
        yield name, head + bytes(200)


def _wrong_sums() -> Iterator[tuple[str, bytes]]:
    whole = picture("PNG")
    for part in (b"IHDR", b"IDAT"):
        data = bytearray(whole)
        at = data.index(part)
        length = struct.unpack(">I", data[at - 4 : at])[0]
        data[at + 4 + length] ^= 0xFF
        yield f"a PNG with a wrong checksum of {part.decode()}", bytes(data)
    rows = zlib.compress(b"\0" + bytes(24) * 8)
    yield "a PNG of rows with no such filter", png(8, 8, zlib.compress((b"\x09" + bytes(24)) * 8))
    yield "a PNG whose zlib is cut off", png(8, 8, rows[:-9])
    yield "a PNG whose chunk is longer than it", png(8, 8, rows)[:-40] + b"\xff\xff\xff\xff"
    yield (
        "a PNG whose chunk has a length below zero",
        SIGNATURE + b"\xff\xff\xff\xffIHDR" + bytes(99),
    )
    jpeg = picture("JPEG")
    at = jpeg.index(b"\xff\xc0")
    for name, marker in (("lossless", 0xC3), ("hierarchical", 0xC5)):
        yield (
            f"a JPEG that is {name} by its marker",
            jpeg[: at + 1] + bytes([marker]) + jpeg[at + 2 :],
        )
    yield "a JPEG of twelve bits", jpeg[: at + 4] + b"\x0c" + jpeg[at + 5 :]
    yield "a JPEG of no height", jpeg[: at + 5] + b"\0\0" + jpeg[at + 7 :]
    yield "a JPEG of no colours", jpeg[: at + 9] + b"\0" + jpeg[at + 10 :]
    yield (
        "a JPEG without its tables",
        jpeg.replace(b"\xff\xc4", b"\xff\xed").replace(b"\xff\xdb", b"\xff\xed"),
    )


def _of_two_kinds() -> Iterator[tuple[str, bytes]]:
    script = b"=1;/*" + bytes(64) + b"*/alert(1)//"
    yield "a GIF that is a script", b"GIF89a" + script
    yield "a BMP that is a script", b"BM" + script
    yield "a PDF with a JPEG in it", b"%PDF-1.7\n" + picture("JPEG")
    yield "an HTML page with a PNG behind it", b"<script>alert(1)</script>" + picture("PNG")
    yield "a zip with a PNG behind it", b"PK\x03\x04" + bytes(64) + picture("PNG")
    yield "an MP4 with a PNG in it", b"\x00\x00\x00\x18ftypmp42" + picture("PNG")
    yield "a line end before a PNG", b"\n" + picture("PNG")
    yield "a byte order mark before a PNG", b"\xef\xbb\xbf" + picture("PNG")
    yield "a JPEG behind a PNG signature", SIGNATURE + picture("JPEG")
    yield "a PNG in a RIFF", b"RIFF" + struct.pack("<I", 999) + b"PNG " + picture("PNG")
    yield "a PNG in base64", b"iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    yield "a data URL", b"data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"


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
