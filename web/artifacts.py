"""The farm's files, in a local folder or behind any fsspec URL (`s3://bucket/prefix`).

An input's key is named after its content, so only who has the file can name it. Beside a unit's
file lies a note of what was stored (`<name>.sha256`: size, digest and a name of this storing),
against which a worker's report is held without reading the file again.
"""

import errno
import hashlib
import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import IO, Final
from uuid import uuid4

from flask import Response, request, send_file

from orchestrator.errors import BadRequest, DiskFull, NotFound
from orchestrator.remedies import Say
from orchestrator.stored_files import NOTE, StoredFiles
from web import ranges

PIECE_BYTES: Final = 1 << 20
RESERVE: Final = 8
"""Files stop at an eighth of FARM_MIN_FREE_DISK_MB: the database must be able to say so."""
NOTED: Final = re.compile(rb"(\d+) ([0-9a-f]{64}) ([0-9a-f]{32})")
INPUT: Final = re.compile(r"inputs/[0-9a-f]{64}/[\w.-]{1,80}")
UNSTORED: Final = "inputs/unstored"
"""Stands for a picture that a quote only looks at, or that no model takes."""


@dataclass(frozen=True, slots=True)
class Stored:
    """A unit's file as it was stored."""

    sha256: str
    bytes: int
    storing: str
    """Differs with every time that it is stored, if with the same content."""


def _at_once(place: Callable[[], None]) -> None:
    place()


class Artifacts(StoredFiles):
    """Files by key. Writing is atomic: a reader sees all of a file or none."""

    def __init__(self, root: str, *, min_free_mb: int = 0) -> None:
        super().__init__(root)
        self._min_free_bytes = min_free_mb << 20
        if self._local:
            Path(self.root).mkdir(parents=True, exist_ok=True)

    def put(
        self,
        key: str,
        pieces: Iterable[bytes],
        *,
        sha256: str,
        max_bytes: int,
        under: Callable[[Callable[[], None]], None] = _at_once,
    ) -> int:
        """Store a file and what it is, and return its size.

        `under`: calls what puts the whole file in its place, once or again, or refuses to.

        Raises:
            BadRequest: its digest is another, or it is larger than allowed.
            DiskFull: there is no room for it.
        """
        self._check_room(self._min_free_bytes // RESERVE)
        storing = uuid4().hex
        place, part = self._place(key), self._place(key) + f".{storing}.part"
        digest, size = hashlib.sha256(), 0
        self._fs.makedirs(place.rpartition("/")[0], exist_ok=True)
        try:
            with self._fs.open(part, "wb") as file:
                for piece in pieces:
                    size += len(piece)
                    if size > max_bytes:
                        raise BadRequest(
                            f"The file is larger than {max_bytes >> 20} MB.",
                            Say("FARM_MAX_UPLOAD_MB bounds what a worker may send."),
                        )
                    digest.update(piece)
                    file.write(piece)
            if digest.hexdigest() != sha256:
                raise BadRequest("The file that came is not the one its SHA-256 names.")
            said = None if INPUT.fullmatch(key) else f"{size} {sha256} {storing}".encode()
            under(lambda: self._settle(part, place, said))
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull from error
            raise
        finally:
            if self._fs.exists(part):
                self._fs.rm(part)
        return size

    def keep_input(self, ending: str, data: bytes) -> str:
        """Store a cleaned reference image or a storyboard and return its key."""
        digest = hashlib.sha256(data).hexdigest()
        key = f"inputs/{digest}/input{ending}"
        if not self.exists(key):
            self.put(key, [data], sha256=digest, max_bytes=len(data))
        return key

    def read(self, key: str) -> bytes:
        """Return an input's content.

        Raises:
            NotFound: there is no such input.
        """
        if not INPUT.fullmatch(key) or not self.exists(key):
            raise NotFound("That file is not here any more.", Say("Choose the file again."))
        content: bytes = self._fs.cat_file(self._place(key))
        return content

    def _settle(self, part: str, place: str, said: bytes | None) -> None:
        """Put a whole file in its place, and its note beside it."""
        note = place + NOTE
        if said and self._fs.exists(note):
            self._fs.rm(note)  # at no moment does it lie beside another file than it is of
        if self._fs.exists(part):
            self._fs.mv(part, place)
        if said:
            self._fs.pipe_file(note, said)

    def stored(self, key: str) -> Stored | None:
        """Return what is noted of a unit's file; None: it is not there."""
        note = self._place(key) + NOTE
        said = NOTED.fullmatch(self._fs.cat_file(note)) if self._fs.exists(note) else None
        if said is None or not self.exists(key):
            return None
        return Stored(said[2].decode(), int(said[1]), said[3].decode())

    def open(self, key: str) -> IO[bytes]:
        """Open a file for reading.

        Raises:
            NotFound: it is not there.
        """
        if not self.exists(key):
            raise NotFound("That file is not here any more.")
        file: IO[bytes] = self._fs.open(self._place(key), "rb")
        return file

    @contextmanager
    def as_file(self, key: str) -> Iterator[Path]:
        """Lend a file by its path, for a program that must seek in it.

        Raises:
            NotFound: it is not there.
        """
        if self._local and self.exists(key):
            yield Path(self._place(key))
            return
        with self.open(key) as source, NamedTemporaryFile(prefix="farm-") as copy:
            shutil.copyfileobj(source, copy, PIECE_BYTES)
            copy.flush()
            yield Path(copy.name)

    def send(
        self,
        key: str,
        *,
        mimetype: str,
        download_name: str | None = None,
        as_attachment: bool = False,
        max_age: int | None = None,
    ) -> Response:
        """Answer with a file; a Range gets its part."""
        place = self._place(key)
        if not self.exists(key):
            raise NotFound("That file is not here any more.")
        size = int(self._fs.size(place))
        ranges.keep_plain(size)
        answer = send_file(
            place if self._local else self.open(key),
            mimetype=mimetype,
            download_name=download_name or key.rpartition("/")[2],
            as_attachment=as_attachment,
            max_age=max_age,
            conditional=self._local,
            etag=hashlib.sha256(key.encode()).hexdigest()[:32],
        )
        if not self._local:  # a stream has no size of its own; the store knows it
            answer.content_length = size
            answer.make_conditional(request, accept_ranges=True, complete_length=size)
        answer.cache_control.public = False  # an account's own, however long a browser keeps it
        answer.cache_control.private = True
        answer.headers["X-Content-Type-Options"] = "nosniff"
        return answer

    def check_room(self) -> None:
        """Refuse new work when the disk is nearly full.

        Raises:
            DiskFull: less than FARM_MIN_FREE_DISK_MB is left.
        """
        self._check_room(self._min_free_bytes)

    def _check_room(self, min_bytes: int) -> None:
        if self._local and (free := shutil.disk_usage(self.root).free) < min_bytes:
            raise DiskFull(
                f"The farm's disk is nearly full: {free >> 20} MB are free, and {min_bytes >> 20} "
                "MB are needed."
            )
