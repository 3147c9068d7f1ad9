"""Files that are their owner's alone, and what of a home is not the farm's to close."""

import os
import stat
from pathlib import Path

import pytest

from orchestrator import private_files
from orchestrator.errors import BadRequest


def mode(path: Path) -> int:
    """Return the rights of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_a_new_home_is_closed_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    """Home and files are 0700 and 0600, and the umask is as it was afterwards."""
    old = os.umask(umask)
    try:
        private_files.make(tmp_path / "deep" / "home")
        private_files.write(tmp_path / "deep" / "home" / "secret_key", "s")
        assert os.umask(umask) == umask
    finally:
        os.umask(old)
    assert mode(tmp_path / "deep" / "home") == 0o700
    assert mode(tmp_path / "deep" / "home" / "secret_key") == 0o600


def test_what_was_laxer_is_mended(tmp_path: Path) -> None:
    """Files that farms made are closed, deep down too; others in the folder are not theirs."""
    names = ("farm.sqlite", "farm.sqlite-wal", "secret_key", "artifacts/units/u/1/segment.mp4")
    ours = [tmp_path / "home" / name for name in (*names, "run/farm.json", "worker-1/key.json")]
    mine = tmp_path / "home" / "notes.txt"
    for file in (*ours, mine):
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
        file.chmod(0o664)
        file.parent.chmod(0o2775)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.touch()
    elsewhere.chmod(0o644)
    (tmp_path / "home" / "run" / "link").symlink_to(elsewhere)
    private_files.make(tmp_path / "home")
    assert {mode(file) for file in ours} == {0o600}
    assert {mode(file.parent) & 0o777 for file in ours} == {0o700}
    assert (mode(mine), mode(elsewhere)) == (0o664, 0o644)
    assert list(private_files.lax(tmp_path / "home")) == []


def test_links_are_closed_where_they_lead(tmp_path: Path) -> None:
    """A home, its database or its artifacts may lie on another disk, behind links."""
    home, disk = tmp_path / "target", tmp_path / "disk"
    (disk / "artifacts" / "units").mkdir(parents=True)
    home.mkdir()
    for file in (disk / "artifacts" / "units" / "x.mp4", disk / "db"):
        file.touch()
    for path in (home, *disk.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    disk.chmod(0o755)
    (home / "artifacts").symlink_to(disk / "artifacts")
    (home / "farm.sqlite").symlink_to("../disk/db")
    (home / "run").symlink_to(tmp_path / "nowhere")
    (tmp_path / "link").symlink_to("target")
    (tmp_path / "link2").symlink_to("link")
    private_files.make(tmp_path / "link2")
    assert mode(home) == mode(disk / "artifacts") == mode(disk / "artifacts" / "units") == 0o700
    assert mode(disk / "db") == mode(disk / "artifacts" / "units" / "x.mp4") == 0o600
    assert mode(disk) == 0o755, "what lies beside a link's target is not the farm's"


def test_a_folder_for_everybody_is_no_home(tmp_path: Path) -> None:
    """A home such as /tmp is refused, and stays open."""
    tmp_path.chmod(0o1777)
    for home in (tmp_path, Path("/")):
        before = mode(home)
        with pytest.raises(BadRequest, match="for everybody"):
            private_files.make(home)
        assert mode(home) == before
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "artifacts").symlink_to(tmp_path)
    with pytest.raises(BadRequest, match="for everybody"):
        private_files.make(tmp_path / "home")
    assert mode(tmp_path) == 0o1777
