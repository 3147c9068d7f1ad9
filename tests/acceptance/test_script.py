"""The bootstrap script `./farm`, on a checkout with a package of one line: what it does, when."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow(60)

SCRIPT = Path(__file__).parent.parent.parent / "farm"
PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "framefarm"
version = "0"
scripts = { farm = "house:main" }
optional-dependencies = { worker = [], dev = [] }
[tool.hatch.build.targets.wheel]
only-include = ["house.py"]
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small project with our script."""
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "constraints.txt").write_text("")
    (tmp_path / "house.py").write_text("def main():\n    print('here')\n")
    shutil.copy(SCRIPT, tmp_path / "farm")
    return tmp_path


def start(checkout: Path, *args: str, **env: str) -> "subprocess.Popen[str]":
    """Start ./farm."""
    inherited = {"PATH": os.defpath, **os.environ, **env}  # noqa: TID251 - a child's
    return subprocess.Popen(
        [checkout / "farm", *args],
        env=inherited,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(checkout: Path, *args: str) -> str:
    """Run ./farm, hold it to running the command, and return what it said beside that."""
    child = start(checkout, *args)
    out, err = child.communicate(timeout=200)
    assert (child.returncode, out) == (0, "here\n"), err
    return err


def test_it_installs_once_says_so_and_mends_what_was_interrupted(checkout: Path) -> None:
    """Two at once install once; later calls are silent; a change or a kill installs again."""
    pair = [start(checkout), start(checkout)]
    said = [child.communicate(timeout=200) for child in pair]
    assert [out for out, _ in said] == ["here\n", "here\n"]
    told = "".join(err for _, err in said)
    assert told.count("installing Framefarm") == 1
    assert told.count("waiting for it") <= 1
    assert run(checkout) == ""
    (checkout / "constraints.txt").write_text("# newer\n")
    assert "making .venv" not in (again := run(checkout))
    assert "installing Framefarm" in again
    (checkout / ".venv" / ".farm-begun").touch()
    assert "was interrupted; making .venv anew" in run(checkout)
    assert "installing" in run(checkout, "test"), "the tests need more than the farm does"
    assert run(checkout) == "", "and what they need is enough for it"


def test_without_python_it_says_what_to_do(checkout: Path, tmp_path: Path) -> None:
    """No Python of 3.11 or newer: exit code 1, and how to get one."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("sh", "dirname", "cat", "cksum"):
        found = shutil.which(name)
        assert found
        (tools / name).symlink_to(found)
    child = start(checkout, PATH=str(tools))
    _, err = child.communicate(timeout=30)
    assert child.returncode == 1
    assert "Python 3.11 or newer" in err
    assert "Next:" in err
