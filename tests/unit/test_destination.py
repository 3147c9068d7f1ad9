"""Places that files of jobs go to: the refused ones, and what a name keeps."""

import os
import pty
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO

import av
import click
import pytest

from orchestrator import programs
from orchestrator.cli import destination
from orchestrator.errors import BadRequest

VIDEO = b"a video"


def send(file: IO[bytes]) -> None:
    """Write what the farm would send."""
    file.write(VIDEO)


def _write(file: IO[bytes], content: bytes) -> None:
    file.write(content)


def pipe(path: Path) -> None:
    """Make a pipe with a name."""
    os.mkfifo(path)


def sock(path: Path) -> None:
    """Make a socket with a name."""
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))


def device(path: Path) -> None:
    """Make a link to a device."""
    path.symlink_to("/dev/null")


def loop(path: Path) -> None:
    """Make a link that leads to itself."""
    path.symlink_to(path)


def read_only(path: Path) -> None:
    """Make a file that nobody may write, root included."""
    path.touch(mode=0o444)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (pipe, "a pipe"),
        (sock, "a socket"),
        (device, "a device"),
        (loop, "leads nowhere"),
        (read_only, "read-only"),
        (Path.mkdir, "a folder"),
    ],
)
def test_what_is_no_file_to_replace_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], None], says: str
) -> None:
    """A device, a pipe, a socket or a read-only file stays what it is, behind a link too."""
    monkeypatch.chdir(tmp_path)  # a socket's path is short
    make(Path("x.mp4"))
    Path("link.mp4").symlink_to("x.mp4")
    before = Path("x.mp4").lstat()
    for name in ("x.mp4", "link.mp4"):
        with pytest.raises(BadRequest, match=says):
            destination.checked(name)
    after = Path("x.mp4").lstat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)
    assert {each.name for each in tmp_path.iterdir()} == {"x.mp4", "link.mp4"}


@pytest.mark.parametrize("name", ["/dev/null", "/dev/full", "/proc/self/fd/0"])
def test_a_device_is_refused_as_root_too(name: str) -> None:
    """`-o /dev/null` once replaced the device."""
    read, write = os.pipe()
    argv = [sys.executable, "-m", "orchestrator.cli", "render", "a dog", "-o", name]
    done = subprocess.run(argv, stdin=read, capture_output=True, check=False)
    os.close(read)
    os.close(write)
    assert done.returncode == 2
    assert b"no regular file" in done.stderr
    assert done.stdout == b""
    assert not Path("/dev/null").is_file()


@pytest.mark.parametrize(
    ("name", "what", "says"),
    [
        ("x.avi", "video", ".mp4, .mov, .mkv, .webm, .gif"),
        ("x.mp4.part", "video", ".part"),
        (".avi", "video", ".avi"),
        (".webm", "frames", ".webm"),
        ("x.mp4", "poster", ".jpg"),
        ("x.png", "sheet", ".jpg"),
        ("x.tar", "frames", ".zip"),
        ("new/", "video", "a folder"),
        ("", "video", "a folder"),
        ("none/x.mp4", "video", "does not exist"),
        ("é" * 126 + ".mp4", "video", "256 bytes"),
        ("y" * 300 + "/x.mp4", "video", "too long"),
        ("y/" * 3000 + "x.mp4", "video", "too long"),
        ("file/x.mp4", "video", "ot a directory"),
    ],
)
def test_a_name_is_checked_before_anything_is_spent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, what: str, says: str
) -> None:
    """Endings name a format that is made, and lengths are counted in bytes."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(BadRequest) as refused:
        destination.checked(name, what)
    assert says in f"{refused.value.message} {refused.value.advice}"


@pytest.mark.parametrize("name", ["x.mp4", "X.MP4", "x", "é" * 125 + ".mp4", "é" * 127])
def test_a_new_file_has_the_mode_of_any(tmp_path: Path, name: str) -> None:
    """A name of 255 bytes and one without an ending are taken; the umask says who may read."""
    old = os.umask(0o027)
    try:
        told = destination.checked(str(tmp_path / name)).save(send)
    finally:
        os.umask(old)
    assert told == str(tmp_path / name)
    assert (tmp_path / name).read_bytes() == VIDEO
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o640
    assert len(list(tmp_path.iterdir())) == 1


def test_what_is_there_is_replaced_through_its_links(tmp_path: Path) -> None:
    """A link stays a link, to a file with new content, the old mode and the old owner."""
    (tmp_path / "deep").mkdir()
    kept = tmp_path / "deep" / "film.bin"
    kept.write_bytes(b"old")
    kept.chmod(0o604)
    if os.geteuid() == 0:
        os.chown(kept, 1234, 1234)
    before = kept.stat()
    link = tmp_path / "x.mp4"
    link.symlink_to("deep/film.bin")
    assert destination.checked(str(link)).save(send) == str(link)
    assert link.is_symlink()
    assert kept.read_bytes() == VIDEO
    after = kept.stat()
    assert (after.st_mode, after.st_uid, after.st_gid) == (
        before.st_mode,
        before.st_uid,
        before.st_gid,
    )
    assert list(kept.parent.iterdir()) == [kept]


def test_a_link_to_a_file_to_be_makes_it(tmp_path: Path) -> None:
    """A link whose file is not there yet stays a link."""
    link = tmp_path / "x.mp4"
    link.symlink_to("later.mp4")
    destination.checked(str(link)).save(send)
    assert link.is_symlink()
    assert (tmp_path / "later.mp4").read_bytes() == VIDEO


def test_what_changed_meanwhile_is_kept(tmp_path: Path) -> None:
    """A pipe that stands there after the rendering is not replaced, and no part is left."""
    place = destination.checked(str(tmp_path / "x.mp4"))
    os.mkfifo(tmp_path / "x.mp4")
    with pytest.raises(destination.NotKept, match="a pipe"):
        place.save(send)
    assert [each.is_fifo() for each in tmp_path.iterdir()] == [True]


def test_a_folder_that_went_away_is_told(tmp_path: Path) -> None:
    """An error of the disk after the rendering names the place."""
    (tmp_path / "folder").mkdir()
    place = destination.checked(str(tmp_path / "folder" / "x.mp4"))
    (tmp_path / "folder").rmdir()
    with pytest.raises(destination.NotKept, match=r"x\.mp4: No such file"):
        place.save(send)


def test_stdout_is_for_the_bytes_alone(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """`-o -` writes what the farm sends; a terminal and --json are refused."""
    destination.checked("-").save(send)
    assert capfdbinary.readouterr().out == VIDEO
    with pytest.raises(click.UsageError, match="--json"):
        destination.checked("-", as_json=True)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "w") as terminal:
        monkeypatch.setattr(sys, "stdout", terminal)
        with pytest.raises(BadRequest, match="terminal"):
            destination.checked("-")
    os.close(ours)


@pytest.mark.parametrize(
    "name",
    ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "/proc/thread-self/fd/1", "out.mp4", "-"],
)
def test_the_file_that_stdout_goes_to_is_added_to(tmp_path: Path, name: str) -> None:
    """`farm download -o /dev/stdout >> log` keeps the log, by a link to it too."""
    log = tmp_path / "log"
    log.write_bytes(b"earlier ")
    (tmp_path / "out.mp4").symlink_to("/dev/stdout")
    (tmp_path / "main.py").write_text(
        f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
        "from orchestrator.cli import destination as to\n"
        "to.checked(sys.argv[1]).save(lambda file: file.write(b'a video'))\n"
    )
    with log.open("ab") as out:
        argv = [sys.executable, "main.py", name]
        subprocess.run(argv, stdout=out, check=True, cwd=tmp_path)
    assert log.read_bytes() == b"earlier a video"


def test_a_file_that_is_open_is_not_replaced(tmp_path: Path) -> None:
    """/dev/stderr and its kind are refused where they are files, and so are other processes'."""
    with (tmp_path / "log").open("w") as log, pytest.raises(BadRequest, match="has open"):
        destination.checked(f"/dev/fd/{log.fileno()}")


@pytest.mark.parametrize(("name", "begins"), [(".gif", b"GIF8"), (".webm", b"\x1a\x45\xdf\xa3")])
def test_a_name_that_is_an_ending_alone_is_that_format(
    tmp_path: Path, mp4: bytes, name: str, begins: bytes
) -> None:
    """`-o .gif` is a GIF, although no name stands before its dot."""
    destination.checked(str(tmp_path / name)).save(lambda out: _write(out, mp4))
    assert (tmp_path / name).read_bytes().startswith(begins)


@pytest.fixture(scope="module")
def mp4(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A video as the farm sends it: H.264 in MP4, 12 frames, 12 a second."""
    file = tmp_path_factory.mktemp("mp4") / "x.mp4"
    source = ["-f", "lavfi", "-i", "testsrc=size=64x32:rate=12:duration=1"]
    argv = [programs.ffmpeg(), "-v", "error", *source, "-c:v", "libx264", "-pix_fmt", "yuv420p"]
    subprocess.run([*argv, str(file)], check=True)
    return file.read_bytes()


@pytest.mark.parametrize(
    ("ending", "format_", "codec"),
    [
        ("mp4", "mp4", "h264"),
        ("mov", "mov", "h264"),
        ("mkv", "matroska", "h264"),
        ("webm", "webm", "vp9"),
        ("gif", "gif", "gif"),
        ("GIF", "gif", "gif"),
    ],
)
def test_an_ending_is_the_format(
    tmp_path: Path, mp4: bytes, ending: str, format_: str, codec: str
) -> None:
    """A file is what its name says, with every frame, in a folder with any name."""
    folder = tmp_path / "50%03d off: 'é\""
    folder.mkdir()
    file = folder / f"-x.{ending}"
    destination.checked(str(file)).save(lambda out: _write(out, mp4))
    with av.open(str(file)) as video:
        stream = video.streams.video[0]
        assert format_ in video.format.name.split(",")
        assert stream.codec_context.name.removeprefix("libvpx-") == codec
        assert (stream.width, stream.height) == (64, 32)
        assert sum(1 for _ in video.decode(stream)) == 12
        assert stream.average_rate == pytest.approx(12, rel=0.05)  # a GIF counts in 1/100 s
    magic = {"mov": b"ftypqt", "mkv": b"matroska", "webm": b"webm", "gif": b"GIF89a"}
    assert magic.get(ending.lower(), b"ftyp") in file.read_bytes()[:64]
    assert list(folder.iterdir()) == [file]


def test_what_ffmpeg_cannot_read_is_told(tmp_path: Path) -> None:
    """A film that FFmpeg refuses leaves no file, and its words are said."""
    place = destination.checked(str(tmp_path / "x.gif"))
    with pytest.raises(destination.NotKept, match="FFmpeg"):
        place.save(send)
    assert not list(tmp_path.iterdir())


def test_an_ffmpeg_without_the_format_is_known_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ffmpeg that has no encoder for it is refused before anything is spent."""
    monkeypatch.setitem(destination.ENCODERS, "webm", "no_such_encoder")
    with pytest.raises(BadRequest, match="no_such_encoder"):
        destination.checked(str(tmp_path / "x.webm"))
