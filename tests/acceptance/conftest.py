"""The command line as a user types it: real processes, a home of their own, nothing left."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest


@dataclass
class Cli:
    """A shell with a home of its own."""

    home: Path
    env: dict[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        """Return the argv of `farm words…`."""
        return [sys.executable, "-m", "orchestrator.cli", *words]

    def environment(self) -> dict[str, str]:
        """Return the environment of a new user who offers the fake model."""
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}  # noqa: TID251 - a child's
        return inherited | {"FARM_HOME": str(self.home), "FARM_FAKE_MODEL": "1", **self.env}

    def __call__(self, *words: str, timeout: float = 120) -> subprocess.CompletedProcess[str]:
        """Run `farm words…` to its end, off a terminal."""
        return subprocess.run(
            self.command(*words),
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
        )

    def json(self, *words: str) -> Any:
        """Run a command that must succeed and return its JSON document."""
        done = self(*words, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    def kill(self, pattern: str) -> int:
        """Kill -9 every process of this home whose argv has the pattern; return how many."""
        found = [p for p in self.alive() if pattern in " ".join(_argv(p))]
        for process in found:
            process.send_signal(signal.SIGKILL)
        return len(found)

    def alive(self) -> list[psutil.Process]:
        """Return every process that belongs to this home."""
        return [p for p in psutil.process_iter() if _belongs(p, self.home)]


@pytest.fixture
def cli(tmp_path: Path) -> Iterator[Cli]:
    """A command line; after the test, no process of its home may be left."""
    shell = Cli(tmp_path / "home")
    yield shell
    left = shell.alive()
    for _ in range(50):
        if not left:
            break
        time.sleep(0.1)
        left = shell.alive()
    words = [" ".join(_argv(p)) for p in left]
    for process in left:
        process.kill()
    assert not words, f"left behind: {words}"


@pytest.fixture
def farm_up(cli: Cli) -> Iterator[Callable[..., dict[str, Any]]]:
    """Start `farm up --json` with options and return what it announced; stopped afterwards."""
    running: list[subprocess.Popen[str]] = []

    def up(*options: str) -> dict[str, Any]:
        process = subprocess.Popen(
            cli.command("up", "--json", *options),
            env=cli.environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        assert process.stdout
        text = ""
        while not text.rstrip().endswith("}"):
            line = process.stdout.readline()
            assert line, "farm up ended"
            text += line
        return dict(json.loads(text))

    yield up
    for process in running:
        process.terminate()
        assert process.wait(60) == 0
        if process.stdout:
            process.stdout.close()


def until(ready: Callable[[], object], seconds: float = 90) -> None:
    """Wait until something is true."""
    limit = time.monotonic() + seconds
    while time.monotonic() < limit:
        if ready():
            return
        time.sleep(0.2)
    raise AssertionError("it did not come about in time")


def _belongs(process: psutil.Process, home: Path) -> bool:
    """Tell by its environment, or by its folder: Valkey overwrites its environment."""
    try:
        if process.status() == psutil.STATUS_ZOMBIE:
            return False
        inside = Path(process.cwd()).is_relative_to(home)
        return inside or process.environ().get("FARM_HOME") == str(home)
    except (psutil.NoSuchProcess, psutil.AccessDenied, OSError):
        return False


def _argv(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return []
