"""Child processes that cannot outlive us, and are started again when they end by themselves."""

import contextlib
import ctypes
import os
import resource
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import structlog

from orchestrator import private_files
from orchestrator.errors import Unavailable
from orchestrator.remedies import Say

log = structlog.get_logger()

STOP_SECONDS: Final = 15.0
RESTARTS: Final = 5
"""A process that ends more often than this within `RESTART_WINDOW_SECONDS` stays down."""
RESTART_WINDOW_SECONDS: Final = 60.0
LOG_BYTES: Final = 10_000_000
"""A log longer than this is put aside as `.log.old` when its process starts."""
_PR_SET_PDEATHSIG: Final = 1


def allow_files() -> None:
    """Let children open as many files as the system allows us: each connection is one."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS allows less than it says
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


@dataclass(slots=True)
class Child:
    """One process, in a session of its own, with a log and a pidfile."""

    name: str
    argv: list[str]
    env: dict[str, str] = field(repr=False)
    home: Path
    reads: Path = Path(os.devnull)
    """File that is its stdin."""
    _process: subprocess.Popen[bytes] | None = None
    _ends: deque[float] = field(default_factory=deque)

    @property
    def log_file(self) -> Path:
        """The file that its output goes to."""
        return self.home / "logs" / f"{self.name}.log"

    @property
    def pid(self) -> int:
        """Its process id; also the id of its process group."""
        assert self._process, "it was started"
        return self._process.pid

    def start(self) -> None:
        """Start it; it ends with the thread that called this."""
        with private_files.private():
            self._start()

    def _start(self) -> None:
        _put_aside(self.log_file)
        with self.log_file.open("ab") as output, self.reads.open("rb") as given:
            self._process = subprocess.Popen(
                self.argv,
                env=self.env,
                stdin=given,
                stdout=output,
                stderr=output,
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()) if sys.platform == "linux" else None,  # noqa: PLW1509 - two calls, no locks
            )
        pidfile = self.home / "run" / f"{self.name}.pid"
        with contextlib.suppress(OSError):  # a full disk; we know the process without it
            pidfile.write_text(f"{self.pid}\n", encoding="ascii")

    def runs(self) -> bool:
        """Tell whether it has not ended."""
        return self._process is not None and self._process.poll() is None

    def revive(self) -> bool:
        """Start it again after it ended; False: it ends too often, so it stays down."""
        now = time.monotonic()
        self._ends.append(now)
        while self._ends and now - self._ends[0] > RESTART_WINDOW_SECONDS:
            self._ends.popleft()
        if len(self._ends) > RESTARTS:
            return False
        self._sweep()
        log.warning("process ended and is started again", name=self.name, times=len(self._ends))
        try:
            self.start()
        except OSError as error:  # a full disk has no place for its log, for one
            self._ends.pop()
            log.warning("process not started, which is tried again", error=str(error))
        return True

    def ask_to_stop(self) -> None:
        """Send SIGTERM."""
        if self._process and self.runs():
            self._process.terminate()

    def reap(self) -> None:
        """Wait for its end, force it after a while, and end what it left behind."""
        if self._process is None:
            return
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        self._sweep()
        self._process.wait()
        (self.home / "run" / f"{self.name}.pid").unlink(missing_ok=True)

    def last_line(self) -> str:
        """Return the last thing it said."""
        lines = self.log_file.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][:300] if lines else "it said nothing."

    def failure(self) -> Unavailable:
        """Return the error that says it is down."""
        return Unavailable(
            f"The {self.name} process did not come up: {self.last_line()}",
            Say(f"Read {self.log_file}, or run `farm doctor`."),
        )

    def _sweep(self) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)


def tend(children: Mapping[str, Child]) -> list[str]:
    """Start again what ended by itself; return the names of those that end too often."""
    return [name for name, child in children.items() if not child.runs() and not child.revive()]


class _die_with:  # noqa: N801 - called like a function, and holds no open frame after a fork
    """Make the kernel end this process when its parent ends, a kill -9 of the parent included."""

    def __init__(self, parent: int) -> None:
        self.parent, self.prctl = parent, ctypes.CDLL(None).prctl

    def __call__(self) -> None:
        self.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != self.parent:
            os._exit(1)  # it ended between our fork and the line above


def _put_aside(file: Path) -> None:
    if file.exists() and file.stat().st_size > LOG_BYTES:
        file.replace(file.with_suffix(".log.old"))
