"""Media that somebody might send to make FFmpeg read, fetch or eat; none is a video we take."""

import struct

PNG_HEAD = bytes.fromhex("89504e470d0a1a0a0000000d49484452000000010000")


def box(kind: bytes, body: bytes) -> bytes:
    """Return a box of an MP4."""
    return struct.pack(">I", len(body) + 8) + kind + body


def element(name: str, body: bytes) -> bytes:
    """Return an element of a Matroska file."""
    return bytes.fromhex(name) + struct.pack(">Q", 1 << 56 | len(body)) + body


def media(secret: str, url: str) -> dict[str, bytes]:
    """Return the corpus; what names a file names `secret`, what names an address names `url`."""
    told = {name: text.format(secret=secret, url=url).encode() for name, text in TEXTS.items()}
    return told | HEADS | _mp4s(secret) | _matroskas(url) | {"nothing": b"", "zeroes": bytes(5000)}


TEXTS = {
    "text": "a video, honestly {secret}",
    "a path": "{secret}",
    "an address": "{url}/a.mp4",
    "a list of files": "ffconcat version 1.0\nfile {secret}\n",
    "a list of addresses": "ffconcat version 1.0\nfile '{url}/a.mp4'\nduration 1\n",
    "a list of pipes": "ffconcat version 1.0\nfile 'pipe:0'\nfile 'concat:{secret}|{secret}'\n",
    "an HLS playlist of a file": "#EXTM3U\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "an HLS playlist of an address": "#EXTM3U\n#EXTINF:1,\n{url}/a.ts\n#EXT-X-ENDLIST\n",
    "an HLS playlist of a list": "#EXTM3U\n#EXTINF:1,\nconcat:{url}/a|file://{secret}\n",
    "an HLS playlist with a key": (
        '#EXTM3U\n#EXT-X-KEY:METHOD=AES-128,URI="{url}/key"\n#EXTINF:1,\nfile://{secret}\n'
    ),
    "an HLS playlist of playlists": "#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{url}/b.m3u8\n",
    "a DASH manifest": '<?xml version="1.0"?><MPD><BaseURL>{url}/</BaseURL></MPD>',
    "an SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "an SDP of addresses": "SDP\nv=0\ns={url}\na=control:{url}\nm=video 0 RTP/AVP 33\n",
    "an RTSP redirection": "RTSPtext\nrtsp://127.0.0.1/{secret}\n",
    "a PLS": "[playlist]\nFile1={url}/a.mp4\nNumberOfEntries=1\n",
    "an XSPF": '<playlist xmlns="http://xspf.org/ns/0/"><location>{url}</location></playlist>',
    "an ASX": '<asx version="3.0"><entry><ref href="{url}"/></entry></asx>',
    "SMIL": '<smil><body><video src="{url}"/></body></smil>',
    "metadata": ";FFMETADATA1\ntitle={secret}\n",
    "SubRip": "1\n00:00:00,000 --> 00:00:01,000\n{secret}\n",
    "WebVTT": "WEBVTT\n\n00:00.000 --> 00:01.000\n{secret}\n",
    "SubStation": "[Script Info]\nScriptType: v4.00+\n[Fonts]\nfontname: {secret}\n",
    "an SVG": '<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>',
    "HTML": "<html><video src={url}></video><script>alert(1)</script></html>",
    "a shell script": "#!/bin/sh\ncat {secret}\n",
    "Y4M that lies": "YUV4MPEG2 W99999 H99999 F25:1 Ip A1:1 C420\nFRAME\n{secret}",
    "Y4M without end": "YUV4MPEG2 W16 H16 F1:1000000000 C444p16\nFRAME\n",
    "a script of AviSynth": 'AviSource("{secret}")',
    "a script of VapourSynth": "import os\nos.system('cat {secret}')\n",
    "a filter": "movie={secret}[out0]",
}
HEADS = {
    "an ELF": b"\x7fELF" + bytes(200),
    "a gzip": b"\x1f\x8b\x08" + bytes(200),
    "a ZIP": b"PK\x03\x04" + bytes(200),
    "a WAV": b"RIFF" + bytes(4) + b"WAVEfmt " + bytes(200),
    "an AVI": b"RIFF" + bytes(4) + b"AVI LIST" + bytes(200),
    "an AVI with a playlist as subtitles": b"RIFF\xff\x00\x00\x00AVI LIST\x14\x01\x00\x00hdrlavih"
    + bytes(60) + b"GAB2\x00\x02\x00\x10\x00\x00\x00#EXTM3U\nfile:///etc/passwd\n",
    "an MPEG stream": b"\x00\x00\x01\xba" + bytes(2000),
    "a transport stream": (b"G\x40\x00\x10" + bytes(184)) * 20,
    "H.264 alone": b"\x00\x00\x00\x01\x67\x64\x00\x28" + bytes(500),
    "an IVF of huge pictures": b"DKIF\x00\x00\x20\x00VP90\xff\xff\xff\xff" + bytes(16),
    "a Flash video": b"FLV\x01\x05\x00\x00\x00\x09" + bytes(100),
    "an Ogg": b"OggS\x00\x02" + bytes(100),
    "an ASF": bytes.fromhex("3026b2758e66cf11a6d900aa0062ce6c") + bytes(100),
    "an MXF": bytes.fromhex("060e2b34020501010d010201") + bytes(100),
    "a NUT": b"nut/multimedia container\x00" + bytes(100),
    "a RealMedia": b".RMF\x00\x00\x00\x12" + bytes(100),
    "a PDF": b"%PDF-1.7\n" + bytes(200),
    "a GIF": b"GIF89a" + b"\xff" * 200,
    "a PNG that ends": PNG_HEAD,
}  # fmt: skip


def _mp4s(secret: str) -> dict[str, bytes]:
    head = box(b"ftyp", b"isom\0\0\2\0isommp41")
    deep = b""
    for _ in range(2000):
        deep = box(b"moov", deep)
    # A track whose samples are in another file, as QuickTime has it.
    path = secret.encode()
    alias = box(b"alis", bytes(4) + bytes(150) + struct.pack(">HH", 2, len(path)) + path)
    elsewhere = box(b"dref", bytes(4) + struct.pack(">I", 1) + alias)
    track = box(b"trak", box(b"mdia", box(b"minf", box(b"dinf", elsewhere))))
    samples = box(b"stsz", bytes(4) + struct.pack(">II", 0, 0xFFFFFFF0))
    return {
        "zeroes named MP4": b"\x00\x00\x00\x18ftypmp42" + bytes(5000),
        "an MP4 of one endless box": b"\x00\x00\x00\x08ftyp" + b"\xff\xff\xff\xffmoov" + bytes(999),
        "an MP4 of a box below zero": head + b"\x00\x00\x00\x01moov" + b"\xff" * 8 + bytes(99),
        "an MP4 of boxes of no length": head + b"\x00\x00\x00\x01free" * 500,
        "an MP4 of boxes in boxes": head + deep,
        "an MP4 whose samples lie elsewhere": head + box(b"moov", track),
        "an MP4 of four billion samples": head
        + box(b"moov", box(b"trak", box(b"mdia", box(b"minf", box(b"stbl", samples))))),
        "a QuickTime that leads away": head
        + box(b"moov", box(b"rmra", box(b"rmda", box(b"rdrf", bytes(4) + b"url " + path)))),
        "an MP4 that says HLS": head + b"#EXTM3U\n#EXTINF:1,\nfile://" + path,
        "a compressed moov": head + box(b"moov", box(b"cmov", box(b"dcom", b"zlib") + bytes(99))),
    }


def _matroskas(url: str) -> dict[str, bytes]:
    ebml = element("1a45dfa3", element("4282", b"matroska"))
    font = element("466e", b"../../evil.sh") + element("4660", b"a/b") + element("465c", b"id")
    files = element("1941a469", element("61a7", font + element("46ae", b"\x01")))
    huge = element("b0", b"\x7f\xff\xff\xff") + element("ba", b"\x7f\xff\xff\xff")
    packed = element("6d80", element("6240", element("5034", element("4254", b"\0"))))
    track = element("d7", b"\1") + element("83", b"\1") + element("e0", huge) + packed
    words = element("d7", b"\1") + element("83", b"\x11") + element("86", b"S_TEXT/UTF8")
    linked = element("3eb923", bytes(16)) + element("3e83ab", f"{url}/next.mkv".encode())

    def video(body: bytes) -> bytes:
        return ebml + element("18538067", body)

    return {
        "noise named WebM": b"\x1a\x45\xdf\xa3" + bytes(range(256)) * 20,
        "an EBML of endless size": b"\x1a\x45\xdf\xa3\x01" + b"\xff" * 7 + bytes(99),
        "a Matroska of files alone": video(files),
        "a Matroska of huge pictures": video(
            element("1654ae6b", element("ae", track + element("86", b"V_VP9")))
        ),
        "a Matroska in a codec of Windows": video(
            element("1654ae6b", element("ae", track + element("86", b"V_MS/VFW/FOURCC")))
        ),
        "a Matroska of subtitles": video(element("1654ae6b", element("ae", words))),
        "a Matroska that goes on elsewhere": video(element("1549a966", linked)),
        "a Matroska that says HLS": ebml + f"#EXTM3U\n#EXTINF:1,\n{url}/a.ts\n".encode(),
    }
