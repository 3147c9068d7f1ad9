"""A home with any name, under any umask, and a terminal of another encoding."""

import io
import json
import os
import stat
import subprocess
from pathlib import Path

import av
import pytest

from tests.acceptance.conftest import Cli

pytestmark = pytest.mark.slow(40)

ODD = 'a "b" \\c\'s 50%d %s é 空 #1? x::y;z=&[1]\tt'
"""Quotes, a backslash, per cent, blanks and what URLs and configurations give a meaning to."""


def modes(home: Path) -> dict[str, int]:
    """Return the mode of everything in a home that is not closed to others."""
    every = [home, *home.rglob("*")]
    open_ = {}
    for path in every:
        mode = stat.S_IMODE(path.lstat().st_mode)
        if (path.is_file() and mode != 0o600) or (path.is_dir() and mode != 0o700):
            open_[str(path.relative_to(home))] = mode
    return open_


def test_a_home_may_have_any_name_umask_and_terminal(cli: Cli, tmp_path: Path) -> None:
    """A video is made, its bytes alone go to stdout, and every file is its owner's alone."""
    cli.home = tmp_path / ODD
    cli.env |= {"PYTHONIOENCODING": "latin-1", "LC_ALL": "C", "LANG": "C"}
    done = subprocess.run(
        cli.command("render", "a cat … → 空 🚀 é", "--model", "fake", "--seconds", "1", "-o", "-"),
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=120,
        check=False,
        umask=0,
    )
    assert done.returncode == 0, done.stderr.decode("latin-1")
    with av.open(io.BytesIO(done.stdout)) as video:
        assert sum(1 for _ in video.decode(video=0)) == 12
    said = done.stderr.decode("latin-1")
    assert "Traceback" not in said
    assert "12/12 frames" in said
    assert modes(cli.home) == {}
    for path in [cli.home, *cli.home.rglob("*")]:
        path.chmod(0o777 if path.is_dir() else 0o666)
    broken = cli("doctor", "--json")
    [secrets] = [c for c in json.loads(broken.stdout)["checks"] if c["name"] == "secrets"]
    assert "more files and folders" in secrets["found"]
    old = os.umask(0)
    try:
        cli.json("up", "--detach")
    finally:
        os.umask(old)
    try:
        assert modes(cli.home) == {}
        assert cli("jobs", "ls").returncode == 0
        [job] = cli.json("jobs", "ls")["data"]
        assert job["prompt"] == "a cat … → 空 🚀 é"
        shown = cli("jobs", "show", job["id"])
        assert "a cat ... -> \\u7a7a \\ud83d\\ude80" in shown.stdout
        assert cli("status").returncode == 0
        assert cli("logs").returncode == 0
        gif = tmp_path / "x.gif"
        assert cli("jobs", "download", job["id"], "-o", str(gif)).returncode == 0
        assert gif.read_bytes().startswith(b"GIF89a")
    finally:
        assert cli("down").returncode == 0
    assert modes(cli.home) == {}
