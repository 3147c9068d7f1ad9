"""Files that are their owner's alone, whatever the umask is and the mode was.

The database has webhooks' secrets and everybody's prompts, artifacts/ the videos, logs/ names.
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from orchestrator.errors import BadRequest
from orchestrator.remedies import Say

FOLDER: Final = 0o700
FILE: Final = 0o600
OTHERS: Final = 0o077
"""Rights that nobody else has; also the umask that gives them to no new file."""
FOLDERS: Final = ("run", "logs", "artifacts", "worker-*")
FILES: Final = ("farm.sqlite*", "secret_key", ".secret_key.*")
"""Names of what a farm makes under its home. What else lies there is not the farm's to close."""


def keep_private() -> None:
    """Let this process and its children make no file that others may read."""
    os.umask(OTHERS)


@contextmanager
def private() -> Iterator[None]:
    """Make files and start processes as `keep_private` does, and then go on as before."""
    before = os.umask(OTHERS)
    try:
        yield
    finally:
        os.umask(before)


def make(home: Path) -> None:
    """Make a farm's home, or close one that is there, with what farms made in it.

    Raises:
        BadRequest: it or a folder that farms made in it is one for everybody, such as /tmp.
    """
    with private():
        home.mkdir(mode=FOLDER, parents=True, exist_ok=True)
    for folder in (home, *(top for pattern in FOLDERS for top in home.glob(pattern))):
        if _is_everybodys(folder):
            raise BadRequest(
                f"{folder} is a folder for everybody, and a farm's home is closed to others.",
                Say("Set FARM_HOME to a folder of its own, inside of it if you like."),
            )
    for path, mode in lax(home):
        with suppress(OSError):  # another's: `farm doctor` tells of it
            path.chmod(mode)


def lax(home: Path) -> Iterator[tuple[Path, int]]:
    """Yield what of a home others may get at, or its owner may not, and the mode it should have.

    The home and what farms made in it may be links: it is where they lead that is closed. Deeper
    down no link is followed, which may lead to what is not the farm's.
    """
    home = _where(home)
    yield from _lax(home)
    for pattern in FILES:
        for file in home.glob(pattern):
            yield from _lax(_where(file))
    for pattern in FOLDERS:
        for top in map(_where, home.glob(pattern)):
            yield from _lax(top)
            for folder, folders, files in os.walk(top):
                for name in (*folders, *files):
                    yield from _lax(Path(folder, name))


def write(file: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.unlink(missing_ok=True)
    with private():
        part.touch(mode=FILE)
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _where(path: Path) -> Path:
    """Return where the links of a path lead; one in a circle stays."""
    return Path(os.path.realpath(path))


def _is_everybodys(folder: Path) -> bool:
    with suppress(OSError):  # a link that leads nowhere
        target = _where(folder)
        return bool(target.stat().st_mode & stat.S_ISVTX) or target == Path(target.anchor)
    return False


def _lax(path: Path) -> Iterator[tuple[Path, int]]:
    with suppress(OSError):  # gone by now
        mode = path.lstat().st_mode
        if stat.S_ISDIR(mode) and stat.S_IMODE(mode) & ~stat.S_ISGID != FOLDER:
            yield path, FOLDER
        elif stat.S_ISREG(mode) and stat.S_IMODE(mode) & ~FILE:
            yield path, FILE
