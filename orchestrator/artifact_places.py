"""Places of the farm's files behind an fsspec URL, and their removal."""

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import fsspec

from orchestrator.errors import NotFound

KEY: Final = re.compile(r"(units/\w+/\d+|inputs/[0-9a-f]{64})/[\w.-]{1,80}")
NOTE: Final = ".sha256"
"""End of the name of the note that lies beside a unit's file."""


def place_of(root: str, key: str) -> str:
    """Return where a file lies.

    Raises:
        NotFound: it is no key of the farm's.
    """
    if not KEY.fullmatch(key) or ".." in key:
        raise NotFound("There is no file by that name.")
    return f"{root}/{key}"


def remove(files: fsspec.AbstractFileSystem, root: str, keys: Iterable[str]) -> None:
    """Remove files and their notes; those that are gone already are fine."""
    for found in (place_of(root, key) for key in keys):
        for file in (found, found + NOTE):
            if files.exists(file):
                files.rm(file)


class Remover:
    """Removes files behind a URL by their keys."""

    def __init__(self, url: str) -> None:
        self.files, self.root = fsspec.core.url_to_fs(url)

    @property
    def is_there(self) -> bool:
        """Tell whether the farm's files are here at all: a folder may be another machine's."""
        local = isinstance(self.files, fsspec.get_filesystem_class("file"))
        return not local or Path(self.root).is_dir()

    def __call__(self, keys: Iterable[str]) -> None:
        """Remove files and their notes; those that are gone already are fine."""
        remove(self.files, self.root, keys)
