"""The farm's files in a local folder or behind any fsspec URL: looked for, and removed.

Keys are the farm's own words: `units/<unit>/<fence>/<name>` and `inputs/<sha256>/<name>`.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import fsspec
from fsspec import AbstractFileSystem

from orchestrator.errors import NotFound

KEY: Final = re.compile(r"(units/\w+/\d+|inputs/[0-9a-f]{64})/[\w.-]{1,80}")
NOTE: Final = ".sha256"
"""Behind the name of a unit's file: a note of what was stored."""


class StoredFiles:
    """Files by key."""

    def __init__(self, root: str) -> None:
        # A path may have what an URL gives a meaning to: `::`, `?`, `%`.
        self._fs: AbstractFileSystem = fsspec.filesystem("file")
        self.root = str(Path(root).absolute())
        if "://" in root:
            self._fs, self.root = fsspec.core.url_to_fs(root)
        self._local = isinstance(self._fs, fsspec.get_filesystem_class("file"))

    @property
    def is_there(self) -> bool:
        """Tell whether the farm's files are here at all: a folder may be another machine's."""
        return not self._local or Path(self.root).is_dir()

    def exists(self, key: str) -> bool:
        """Tell whether a file is there."""
        return bool(self._fs.exists(self._place(key)))

    def delete(self, keys: Iterable[str]) -> None:
        """Remove files; those that are gone already are fine."""
        for key in keys:
            self.remove(key)

    def remove(self, key: str) -> None:
        """Remove a file; one that is gone already is fine."""
        place = self._place(key)
        for file in (place, place + NOTE):
            if self._fs.exists(file):
                self._fs.rm(file)

    def _place(self, key: str) -> str:
        if not KEY.fullmatch(key) or ".." in key:
            raise NotFound("There is no file by that name.")
        return f"{self.root}/{key}"
