"""A farm in the background: start one that outlives this process, find it, stop it."""

import contextlib
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import psutil

from orchestrator import private_files
from orchestrator.bootstrap import home as run_folder
from orchestrator.bootstrap.children import STOP_SECONDS
from orchestrator.bootstrap.embedded import answers
from orchestrator.errors import BadRequest, Conflict, FarmError, Unavailable
from orchestrator.model import Json
from orchestrator.remedies import Say
from orchestrator.settings import Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Running:
    """A farm that answers, and the key its home's command line uses."""

    url: str
    key: str


def find_running(home: Path) -> Running | None:
    """Return the farm that runs on this home, if one answers."""
    facts = status(home)
    if facts is None or not answers(facts["url"]):
        return None
    return Running(url=facts["url"], key=facts["cli_key"])


def status(home: Path) -> Json | None:
    """Return what run/farm.json says of the farm that holds this home, or None."""
    return run_folder.published(home)


def run_in_background(
    config: Settings, *, workers: int = 1, host: str | None = None, port: int | None = None
) -> Json:
    """Start a farm that outlives this process; return what it announces.

    Raises:
        FarmError: it did not come up; as `start` says it.
    """
    home = config.home.resolve()
    run_folder.make(home)
    argv = [sys.executable, "-m", "orchestrator.bootstrap", "--workers", str(workers)]
    argv += ["--host", host] if host else []
    argv += ["--port", str(port)] if port else []
    with private_files.private(), (home / "logs" / "farm.log").open("ab") as output:
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
    told: Json = json.loads(line) if line else {}
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


def _told_error(told: dict[str, str] | None, home: Path) -> FarmError:
    if told is None:
        return Unavailable(
            "The farm did not come up.",
            Say(f"Read {home / 'logs' / 'farm.log'}, or `farm doctor`."),
        )
    kinds: dict[str, type[FarmError]] = {k.code: k for k in (Conflict, Unavailable, BadRequest)}
    return kinds.get(told["code"], FarmError)(told["message"], Say(told["advice"]))
