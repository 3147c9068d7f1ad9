"""Common things of the lanes of one test run: a folder, and a lock on it."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shared:
    """A folder that all lanes of a run write to, one after the other."""

    folder: Path

    @contextmanager
    def locked(self) -> Iterator[Path]:
        """Let one lane after the other in; the lock ends with its process, however that ends."""
        with (self.folder / "lock").open("a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield self.folder

    def part(self, whole: str, name: str, text: str) -> list[str]:
        """Leave a part of something; return all parts that are there by now."""
        with self.locked() as folder:
            (folder / whole).mkdir(exist_ok=True)
            (folder / whole / name).write_text(text, encoding="utf-8")
            return [path.read_text(encoding="utf-8") for path in (folder / whole).iterdir()]
