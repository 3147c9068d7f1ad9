"""Broker, web, dispatcher and workers as children of this process."""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

import httpx

from orchestrator import private_files
from orchestrator.bootstrap import broker
from orchestrator.bootstrap import home as run_folder
from orchestrator.bootstrap.children import Child, allow_files, tend
from orchestrator.farm.accounts import accounts, opening
from orchestrator.model import Json
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.wire import TAKEN_UP
from orchestrator.wiring import farm_from

START_SECONDS: Final = 60.0
PACE_SECONDS: Final = 180.0
"""Time that the first start of a home waits for its worker to have timed its model."""
CLI_KEY: Final = "this home's command line"
SIGN_IN: Final = "sign-in link of `farm up`"
JOIN: Final = "embedded workers"
SECRET_FILES: Final = ("farm.json", "broker_url", "join_token", "broker.conf")
LOGS_ARE: Final = "utf-8:backslashreplace"
"""Encoding of what children write, whatever the terminal reads."""
NOTHING: Final = Path(os.devnull)
ROOT: Final = Path(__file__).resolve().parent.parent.parent


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
        private_files.write(self.home / "run" / "farm.json", json.dumps(facts))
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
    with private_files.private():
        return _started(config, workers, host, port, passing=passing)


def _started(
    config: Settings, workers: int, host: str | None, port: int | None, *, passing: bool
) -> Embedded:
    home = config.home.resolve()
    run_folder.make(home)
    farm = Embedded(home=home, passing=passing, _lock=run_folder.lock(home))
    try:
        host = host or config.host
        port = run_folder.web_port(home, host, port or config.port)
        farm.url = f"http://{_reachable(host)}:{port}"
        farm.broker_url = config.broker_url.get_secret_value() or _start_broker(farm)
        env = _environment(farm, _open(farm, config))
        allow_files()
        _spawn_web(farm, env | {"FARM_HOST": host}, host, port)
        _spawn(farm, "dispatcher", [sys.executable, "-m", "orchestrator.dispatcher"], env)
        names = [f"worker-{number}" for number in range(1, workers + 1)]
        knows = any((home / name / TAKEN_UP).exists() for name in names)
        for name in names:
            argv = [sys.executable, "-m", "workers.entry", "--home", str(home / name)]
            _spawn(farm, name, argv, env)
        _wait(farm, lambda: answers(farm.url), "web")
        if names and not knows:
            _wait_for_a_pace(farm, names)
        farm.publish()
    except BaseException:
        farm.stop()
        raise
    return farm


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


def announcement(farm: Embedded) -> Json:
    """Return what `farm up --json` prints."""
    return {
        "url": farm.url,
        "sign_in_url": farm.sign_in_url,
        "admin_key": farm.admin_key,
        "home": str(farm.home),
    }


def answers(url: str) -> bool:
    """Tell whether a farm answers at this URL."""
    try:
        return httpx.get(f"{url}/healthz", timeout=2, trust_env=False).is_success
    except httpx.TransportError:
        return False


# --- inside -------------------------------------------------------------------------------


def _open(farm: Embedded, config: Settings) -> str:
    """Open the home, make this start's keys, and return a join token for the workers."""
    core = farm_from(config)
    farm.admin_key = opening.open_home(core)
    owner = accounts.first(core).id
    farm.key = opening.replace_key(core, account_id=owner, kind=KeyKind.ADMIN, name=CLI_KEY)
    token = opening.replace_key(core, account_id=owner, kind=KeyKind.SIGNIN, name=SIGN_IN)
    public = config.public_urls
    farm.sign_in_url = f"{public[0] if public else farm.url}/sign-in/{token}"
    join = opening.replace_key(core, account_id=owner, kind=KeyKind.JOIN, name=JOIN)
    core.store.close()  # type: ignore[attr-defined]  # the port has no close: only owners close
    return join


def _start_broker(farm: Embedded) -> str:
    ours = broker.prepare(farm.home)
    _spawn(farm, "broker", ours.argv, dict(os.environ), ours.conf)  # noqa: TID251 - handed on
    with broker.client(ours.url) as client:
        _wait(farm, lambda: broker.answers(client), "broker")
    return ours.url


def _spawn_web(farm: Embedded, env: dict[str, str], host: str, port: int) -> None:
    bind = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    argv = [
        *(sys.executable, "-m", "gunicorn", "web.app:create_app()"),
        *("--config", "python:web.serving", "--bind", bind),
        *("--worker-tmp-dir", str(farm.home / "run"), "--log-level", "warning"),
    ]
    _spawn(farm, "web", argv, env)


def _environment(farm: Embedded, join: str) -> dict[str, str]:
    env = dict(os.environ)  # noqa: TID251 - children inherit the switches we were given
    for name, secret in (("broker_url", farm.broker_url), ("join_token", join)):
        file = farm.home / "run" / name
        private_files.write(file, secret)
        env.pop(f"FARM_{name.upper()}", None)
        env[f"FARM_{name.upper()}_FILE"] = str(file)
    env |= {"FARM_HOME": str(farm.home), "FARM_SERVER": farm.url, "PYTHONUNBUFFERED": "1"}
    env["PYTHONIOENCODING"] = LOGS_ARE
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(ROOT), env.get("PYTHONPATH")]))
    return env


def _spawn(
    farm: Embedded, name: str, argv: list[str], env: dict[str, str], reads: Path = NOTHING
) -> None:
    child = Child(name, argv, env, farm.home, reads)
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


def _wait_for_a_pace(farm: Embedded, workers: list[str]) -> None:
    """Wait on a home's first start until a worker has measured its model: quotes rest on that.

    A farm without one, or whose worker cannot load its model, works too.
    """
    until = time.monotonic() + PACE_SECONDS
    while time.monotonic() < until:
        if any((farm.home / name / TAKEN_UP).exists() for name in workers):
            return
        if not any(farm._children[name].runs() for name in workers):
            return
        time.sleep(0.05)


def _reachable(host: str) -> str:
    if host in ("", "0.0.0.0"):  # noqa: S104 - read, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


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
