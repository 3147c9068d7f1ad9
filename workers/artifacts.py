"""Files between a worker and the farm: inputs by key, results under a lease."""

import os
from collections.abc import Sequence
from contextlib import suppress
from hashlib import file_digest, sha256
from pathlib import Path
from tempfile import NamedTemporaryFile
from time import monotonic, sleep
from typing import Final

from orchestrator.errors import FarmError, Unavailable
from orchestrator.receipt import Artifact
from orchestrator.wire import Order
from workers.client import Client

CACHE_BYTES: Final = 4 * 1024**3
RETRY_SECONDS: Final = 0.5


class Damaged(FarmError):
    """A file is not the one it should be."""

    code = "damaged"
    next = "Nothing is charged; the unit is tried again. `farm doctor` checks the disk."


class Artifacts:
    """Downloads with a cache (a key's content never changes), uploads with digests."""

    def __init__(self, client: Client, cache: Path, *, cache_bytes: int = CACHE_BYTES) -> None:
        self._client, self._cache, self._cache_bytes = client, cache, cache_bytes
        cache.mkdir(parents=True, exist_ok=True)

    def fetch(self, key: str, digest: str | None, *, within_seconds: float) -> Path:
        """Return a local copy of the artifact.

        Raises:
            Damaged: its SHA-256 is not `digest`, twice.
            NotFound: the farm has no such file for this worker.
            Unavailable: the farm stayed away.
        """
        place = self._place(key)
        until = monotonic() + within_seconds
        damaged = False
        while True:
            try:
                if not place.exists():
                    self._download(key, place)
            except Unavailable:
                if monotonic() + RETRY_SECONDS > until:
                    raise
                sleep(RETRY_SECONDS)
                continue
            if digest is None or digest_of(place) == digest:
                os.utime(place)
                return place
            place.unlink()
            if damaged:
                raise Damaged(f"{key} has another SHA-256 than its receipt says.")
            damaged = True

    def upload(
        self, order: Order, files: Sequence[Path], *, within_seconds: float
    ) -> tuple[Artifact, ...]:
        """Put the files of a unit under its lease and say what was put.

        Raises:
            StaleLease: the lease is no longer this worker's.
            Unavailable: the farm stayed away.
        """
        until = monotonic() + within_seconds
        sent = []
        for file in files:
            digest = digest_of(file)
            remaining = max(1.0, until - monotonic())
            key = self._client.upload(order, file.name, file, digest, within_seconds=remaining)
            self._keep(key, file)
            sent.append(Artifact(name=file.name, sha256=digest, bytes=file.stat().st_size))
        return tuple(sent)

    def trim(self) -> None:
        """Drop what was not used for longest until the cache fits its size."""
        files = sorted(self._cache.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
        total = 0
        for file in files:
            total += file.stat().st_size
            if total > self._cache_bytes:
                file.unlink()

    def _place(self, key: str) -> Path:
        """Return where a key is cached; keys are the farm's words, so they are hashed."""
        return self._cache / sha256(key.encode()).hexdigest()

    def _keep(self, key: str, file: Path) -> None:
        """Cache what this worker made itself: it may well be the one that joins it."""
        with suppress(OSError):
            self._place(key).hardlink_to(file)

    def _download(self, key: str, place: Path) -> None:
        with self._client.download(key) as pieces:
            file = NamedTemporaryFile(dir=self._cache, prefix=".part-", delete=False)  # noqa: SIM115 - renamed below
            try:
                with file:
                    for piece in pieces:
                        file.write(piece)
                Path(file.name).replace(place)
            finally:
                Path(file.name).unlink(missing_ok=True)


def digest_of(file: Path) -> str:
    """Return the SHA-256 of a file as hexadecimal digits."""
    with file.open("rb") as body:
        return file_digest(body, "sha256").hexdigest()
