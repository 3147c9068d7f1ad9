"""A home's run/ folder: who runs here, on which port, with which secrets. Files of mode 0600."""

import fcntl
import json
import socket
import time
from contextlib import suppress
from pathlib import Path
from typing import IO

from orchestrator import private_files
from orchestrator.errors import Conflict, Unavailable
from orchestrator.model import Json
from orchestrator.remedies import Say

LOCK_TRIES = 10
"""Whoever only looks holds the lock for a moment; that is not a farm."""


def make(home: Path) -> None:
    """Make the folders of a home, closed to the machine's other users whatever they were before.

    Raises:
        BadRequest: it is a folder for everybody, such as /tmp.
    """
    private_files.make(home)
    with private_files.private():
        for folder in (home / "run", home / "logs"):
            folder.mkdir(exist_ok=True)


def lock(home: Path) -> IO[str]:
    """Take a home for one farm; the kernel gives it back however we end.

    Raises:
        Conflict: a farm runs on it.
    """
    file = (home / "run" / "lock").open("a")
    for _ in range(LOCK_TRIES):
        with suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return file
        time.sleep(0.02)
    file.close()
    raise Conflict(
        f"A farm runs on {home} already.",
        Say("Use it, stop it with `farm down`, or set FARM_HOME to another folder."),
    )


def is_locked(home: Path) -> bool:
    """Tell whether a farm holds this home: what its files say may be stale, a lock is not."""
    try:
        file = (home / "run" / "lock").open()
    except OSError:
        return False
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def published(home: Path) -> Json | None:
    """Return run/farm.json of the farm that holds this home, or None."""
    if not is_locked(home):
        return None
    try:
        facts: Json = json.loads((home / "run" / "farm.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return facts


def free_port(host: str) -> int:
    """Return a port nobody listens on."""
    with socket.socket(_family(host)) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def web_port(home: Path, host: str, wanted: int) -> int:
    """Return the port wanted, else the one this home had last, else a free one.

    Workers and bookmarks keep their address that way.

    Raises:
        Unavailable: the port wanted is taken.
    """
    kept = home / "run" / "port"
    if wanted:
        _try(host, wanted)
        return wanted
    with suppress(OSError, ValueError, Unavailable):
        port = int(kept.read_text("ascii"))
        _try(host, port)
        return port
    port = free_port(host)
    kept.write_text(f"{port}\n", encoding="ascii")
    return port


def _try(host: str, port: int) -> None:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise Unavailable(
                f"Port {port} of {host} cannot be used: {error.strerror}.",
                Say("Name another with --port or FARM_PORT, or leave it out for a free one."),
            ) from None


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
