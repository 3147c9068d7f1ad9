"""Reference images, looked at by their content: PNG, JPEG or WebP of a sane size.

Only headers are read in this process. Pixels are decoded by `web.media.decode` in a child process
with little memory and time, and what the farm keeps is the picture that the child made anew. Few
children run beside each other, one for an account; who waits for a place waits for a while only,
and leaves the line, or ends the child, when the client hangs up.
"""

import re
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from orchestrator.errors import BadRequest, TooMany, Unavailable
from orchestrator.remedies import Say

MAX_PIXELS: Final = 25_000_000
AT_ONCE: Final = 2
"""Children that decode beside each other: what bounds the memory of all uploads together."""
WAIT_SECONDS: Final = 15
"""For one child."""
TURN_SECONDS: Final = 10.0
"""For a place; then its client may come again."""
WAITING: Final = 4
"""Pictures of one account that stand in line: each is kept in memory."""
RETRY_SECONDS: Final = 5
DECODER: Final = Path(__file__).with_name("decode.py")
REFUSED: Final = 2
"""The exit code with which the child says why, for the sender."""
_PNG: Final = b"\x89PNG\r\n\x1a\n"
_SOF: Final = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
"""JPEG markers that carry the frame's size (ITU T.81, table B.1)."""
_ALONE: Final = frozenset(range(0xD0, 0xD8)) | {0x01}
"""JPEG markers without a segment (B.1.1.3)."""
_MARKER: Final = re.compile(rb"\xff+[^\xff\x00]", re.DOTALL)
"""A marker with any number of fill bytes before it (B.1.1.2)."""
MOST_MARKERS: Final = 10_000


@dataclass(slots=True, eq=False)
class Upload:
    """One picture on its way through a child."""

    data: bytes
    account: str = ""
    """The account that sent it."""
    is_unwanted: bool = False
    """Its client has hung up."""
    turn: threading.Event = field(default_factory=threading.Event)
    child: "subprocess.Popen[bytes] | None" = None

    def drop(self) -> None:
        """Go on with it no further; never waits, so that the hub may call it."""
        self.is_unwanted = True
        self.turn.set()
        if self.child is not None:
            with suppress(ProcessLookupError):
                self.child.kill()


class Places:
    """Places for children, taken in turn; an account has one at a time."""

    def __init__(self, most: int, waiting: int, seconds: float) -> None:
        self._most, self._waiting, self._seconds = most, waiting, seconds
        self._lock = threading.Lock()
        self._line: list[Upload] = []
        self._taken: list[Upload] = []

    @contextmanager
    def taken(self, upload: Upload) -> Iterator[None]:
        """Hold a place as soon as there is one.

        Raises:
            TooMany: the account has many waiting.
            Unavailable: there was none for too long, or the client has hung up.
        """
        with self._lock:
            if sum(each.account == upload.account for each in self._line) >= self._waiting:
                raise TooMany(
                    f"{self._waiting} pictures of this account wait to be decoded already.",
                    Say("Send them one after the other."),
                    retry_after_seconds=RETRY_SECONDS,
                )
            self._line.append(upload)
            self._serve()
        upload.turn.wait(self._seconds)
        try:
            if upload.is_unwanted or upload not in self._taken:
                raise _busy()
            yield
        finally:
            with self._lock:
                for there in (self._line, self._taken):
                    if upload in there:
                        there.remove(upload)
                self._serve()

    def _serve(self) -> None:
        for upload in tuple(self._line):
            if len(self._taken) >= self._most:
                return
            if all(each.account != upload.account for each in self._taken):
                self._line.remove(upload)
                self._taken.append(upload)
                upload.turn.set()


places = Places(AT_ONCE, WAITING, TURN_SECONDS)
"""Those of this process."""


def _busy() -> Unavailable:
    return Unavailable(
        "The farm is decoding other pictures.",
        Say("Wait a little and send it again; nothing was started or charged."),
        retry_after_seconds=RETRY_SECONDS,
    )


def clean(upload: Upload) -> tuple[str, bytes]:
    """Return a picture made anew, without metadata or anything behind it, and its file ending.

    Call it where the request is served, not on a native thread: gevent waits for children
    only there.

    Raises:
        BadRequest: it is no still PNG, JPEG or WebP of at most 25 megapixels, or is damaged.
        TooMany: its account has many waiting.
        Unavailable: the machine has too much to do to decode it in time.
    """
    check_picture(upload.data)
    with places.taken(upload):
        code, made, said = _made_by_child(upload)
    if upload.is_unwanted:
        raise _busy()
    if code:
        told = said.decode(errors="replace") if code == REFUSED else ""
        raise BadRequest(
            told or "The reference image cannot be decoded.",
            Say("Save it anew as PNG or JPEG; nothing was started or charged."),
        )
    return check_picture(made), made


def _made_by_child(upload: Upload) -> tuple[int, bytes, bytes]:
    """Return a child's exit code, its picture and its words."""
    pipe = subprocess.PIPE
    argv = [sys.executable, "-I", str(DECODER)]
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, env={}, cwd="/") as child:
        upload.child = child
        try:
            made, said = child.communicate(upload.data, timeout=WAIT_SECONDS)
        except subprocess.TimeoutExpired:
            raise Unavailable(
                "The reference image could not be decoded in time.",
                Say("Send a smaller one, or wait a little and send it again."),
                retry_after_seconds=RETRY_SECONDS,
            ) from None
        finally:
            upload.child = None
            child.kill()
    return child.returncode, made, said


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
    for _ in range(MOST_MARKERS):
        if (found := _MARKER.match(data, at)) is None:
            break
        at, marker = found.end(), data[found.end() - 1]
        if marker in _SOF:
            height, width = struct.unpack(">HH", data[at + 3 : at + 7])
            return width, height
        if marker not in _ALONE:
            at += struct.unpack(">H", data[at : at + 2])[0]
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
