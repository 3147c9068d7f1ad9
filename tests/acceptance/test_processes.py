"""A farm's processes when those around them end: no orphan, no secret in `ps`."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Cli, until

pytestmark = pytest.mark.slow(15)

Up = Callable[..., dict[str, Any]]


def _start(cli: Cli, *words: str) -> "subprocess.Popen[str]":
    """Start a command in a session of its own, as a terminal does."""
    return subprocess.Popen(
        cli.command(*words),
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@pytest.mark.parametrize("after_seconds", [0.2, 1.5, 4.0])
def test_ctrl_c_while_the_farm_starts_leaves_nothing(
    cli: Cli, tmp_path: Path, after_seconds: float
) -> None:
    """Whatever had been started by then is stopped: exit code 130, no process, no half a file."""
    process = _start(cli, "render", "a cat", "--model", "fake", "-o", str(tmp_path / "x.mp4"))
    time.sleep(after_seconds)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=90)
    assert process.returncode in (130, -signal.SIGINT), told
    assert "Traceback" not in told or process.returncode == -signal.SIGINT
    assert not list(tmp_path.glob("*.mp4")) + list(tmp_path.glob(".*.part"))


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["kill -9", "hang-up"])
def test_a_farm_ends_with_the_command_that_started_it(cli: Cli, number: signal.Signals) -> None:
    """A killed `farm up`, or one whose terminal was closed, leaves no process behind."""
    process = _start(cli, "up")
    until((cli.home / "run" / "farm.json").exists)
    process.send_signal(number)
    process.communicate(timeout=60)
    until(lambda: not cli.alive(), 40)
    assert cli("status").returncode == 6, "a stale farm.json fools nobody"


def test_secrets_are_their_owners(cli: Cli, farm_up: Up) -> None:
    """No password or key is in an argv; the home is closed, and so are its files of secrets."""
    cli.json("up", "--detach")
    assert cli("down").returncode == 0
    assert stat.S_IMODE(cli.home.stat().st_mode) == 0o700, "as its first start made it"
    farm_up()
    run = cli.home / "run"
    held = [run / name for name in ("farm.json", "broker.conf", "broker_url", "join_token")]
    assert {stat.S_IMODE(file.stat().st_mode) for file in held} == {0o600}
    words = " ".join(" ".join(process.cmdline()) for process in cli.alive())
    password = (run / "broker_url").read_text().split(":")[2].partition("@")[0]
    assert password not in words
    assert (run / "join_token").read_text() not in words


def test_a_home_keeps_its_address(cli: Cli, farm_up: Up) -> None:
    """Without --port a home takes the port it had: its workers need not enrol again."""
    first = cli.json("up", "--detach")
    assert cli("down").returncode == 0
    second = farm_up()
    assert second["url"] == first["url"]
    assert second["admin_key"] is None, "shown at the first start of a home only"


def test_a_taken_port_is_told_before_anything_starts(cli: Cli, farm_up: Up) -> None:
    """`farm up --port` of a port in use says so and what to do, in the background too."""
    port = farm_up()["url"].rpartition(":")[2]
    other = Cli(cli.home.parent / "other")
    for options in ((), ("--detach",)):
        done = other("up", "--port", port, *options)
        assert done.returncode == 6, done.stderr
        assert f"Port {port}" in done.stderr
        assert "--port" in done.stderr
        assert not other.alive()


def test_help_is_quick_and_loads_little(cli: Cli) -> None:
    """`farm --help` imports neither torch nor Flask, SQL or HTTP; it is about 0.15 s of CPU."""
    code = (
        "import sys\n"
        "from orchestrator import cli\n"
        "try:\n    cli.main(['--help'])\nexcept SystemExit:\n    pass\n"
        "slow = {'torch', 'flask', 'sqlalchemy', 'celery', 'httpx', 'pydantic'}\n"
        "found = slow & set(sys.modules)\n"
        "assert not found, found\n"
    )
    before = os.times().children_user
    argv = [sys.executable, "-c", code]
    subprocess.run(argv, env=cli.environment(), check=True, capture_output=True)
    assert os.times().children_user - before < 0.6, "generous: other things run beside tests"
