"""The place a file of a job goes to: checked before anything is spent, and whole or not there.

A name is followed through its links. What is there already is replaced at once and keeps its
owner and mode; what is no regular file, or is read-only, is refused. `-` is stdout, and so is
/dev/stdout: the file that a shell sends it to is written on, not replaced.
"""

import errno
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final

import rich_click as click

from orchestrator import programs
from orchestrator.errors import BadRequest, FarmError
from orchestrator.remedies import Say

STDOUT: Final = "-"
OPEN_FILES: Final = re.compile(r"/dev/fd|/proc/(\d+)(/task/\d+)?/fd")
"""Folder of what a process has open, as its real path is: here (macOS), or by process (Linux)."""
MOST_LINKS: Final = 40
FREE: Final = Say("Nothing was started or charged; name another file with -o.")
SLUG_BYTES: Final = 96
"""Of a name made of a prompt's words: some file systems end at 143."""
NAME_BYTES: Final = 255
PIECE: Final = 1 << 20
MODE: Final = 0o777
PALETTE: Final = "[0:v][1:v]paletteuse=dither=sierra2_4a"

ENDINGS: Final = {
    "video": ("mp4", "mov", "mkv", "webm", "gif"),
    "poster": ("jpg", "jpeg"),
    "sheet": ("jpg", "jpeg"),
    "frames": ("zip",),
    "picture": ("png", "jpg", "jpeg", "webp"),
}
"""File of a job or an account -> endings that it may have; the first is what the farm sends."""
MADE_BY: Final = {
    "mov": ("-c", "copy", "-movflags", "+faststart", "-f", "mov"),
    "mkv": ("-c", "copy", "-f", "matroska"),
    "webm": (
        *("-c:v", "libvpx-vp9", "-crf", "24", "-b:v", "0", "-row-mt", "1", "-cpu-used", "4"),
        *("-pix_fmt", "yuv420p", "-f", "webm"),
    ),
    "gif": ("-loop", "0", "-f", "gif"),
}
"""Ending -> how FFmpeg makes that format of the farm's MP4."""
ENCODERS: Final = {"webm": "libvpx-vp9", "gif": "gif"}

output = click.option(
    "-o",
    "--output",
    "target",
    type=click.Path(path_type=str, allow_dash=True),
    metavar="FILE",
    help="Where it goes; a video may end in .mp4, .mov, .mkv, .webm or .gif; `-` is stdout.",
)


class NotKept(FarmError):
    """A file that came from the farm did not get to its place."""


@dataclass(frozen=True, slots=True)
class Destination:
    """A place that was checked."""

    name: str
    """As it is shown: an absolute path, or `-`."""
    made_by: tuple[str, ...] = ()
    """FFmpeg's words, where the file is not what the farm sends."""
    ffmpeg: str = ""

    @property
    def is_stdout(self) -> bool:
        """The bytes go to stdout, and nothing else does."""
        return self.name == STDOUT

    def save(self, fetch: Callable[[IO[bytes]], None]) -> str:
        """Put what `fetch` writes into its place; return the name.

        Raises:
            NotKept: the place takes it no more, or FFmpeg cannot make the format.
            FarmError: as `fetch` says it.
        """
        try:
            if self.is_stdout:
                _print(fetch)
            else:
                self._replace(fetch)
        except OSError as error:
            raise NotKept(f"{self.name}: {error.strerror or error}.") from None
        return self.name

    def _replace(self, fetch: Callable[[IO[bytes]], None]) -> None:
        target = Path(os.path.realpath(self.name))
        parts = [_part_beside(target)]
        try:
            with parts[0].open("wb") as file:
                fetch(file)
            if self.made_by:
                parts.append(_part_beside(target))
                _convert(self.ffmpeg, parts[0], parts[1], self.made_by)
            old = _replaceable(target)
            _like(parts[-1], old)
            parts[-1].replace(target)
        except BadRequest as error:  # something else stands there by now
            raise NotKept(error.message) from None
        finally:
            for part in parts:
                part.unlink(missing_ok=True)


def checked(asked: str, what: str = "video", *, as_json: bool = False) -> Destination:
    """Return where a file goes, checked before anything is spent. `ffmpeg` is asked for there too.

    Raises:
        BadRequest: nothing can be written there, or not in that format.
        UsageError: `-` and --json would both go to stdout.
    """
    if asked == STDOUT or _is_stdout(path := Path(asked).absolute()):
        return _stdout(as_json=as_json)
    endings = ENDINGS[what]
    if asked.endswith(("/", "/.", "/..")) or os.path.isdir(path):  # noqa: PTH112 - never raises
        raise BadRequest(f"{path} is a folder.", Say(f"Name a file: -o {what}.{endings[0]}."))
    _check_name(path)
    with suppress(OSError):
        _check_kind(path, path.stat())  # follows /dev/stdout, which no path leads to
    _check_folder(target := Path(os.path.realpath(path)))
    _replaceable(target)
    ending = path.name.rpartition(".")[2].lower() if "." in path.name else ""
    ending = ending or endings[0]
    if ending not in endings:
        listed = ", ".join(f".{each}" for each in endings)
        raise BadRequest(
            f"A {what} cannot be written as .{ending}.",
            Say(f"Let the name end in {listed}; nothing was started or charged."),
        )
    made_by = MADE_BY.get(ending, ())
    return Destination(str(path), made_by, _ffmpeg(ending) if made_by else "")


def free_name(prompt: str) -> str:
    """Return a file name made of the prompt's first words, with a number when it is taken."""
    slug = "-".join(re.findall(r"[^\W_]+", prompt.lower()))[:48]
    slug = slug.encode()[:SLUG_BYTES].decode(errors="ignore").strip("-") or "video"
    path, number = f"{slug}.mp4", 1
    while os.path.lexists(path):
        number += 1
        path = f"{slug}-{number}.mp4"
    return path


# --- checks -------------------------------------------------------------------------------


def _is_stdout(path: Path) -> bool:
    """Tell whether a name leads to this process's stdout: /dev/stdout, /dev/fd/1 and their kind.

    Raises:
        BadRequest: it leads to something else that a process has open, which is nobody's to
            replace.
    """
    for _ in range(MOST_LINKS):
        folder = os.path.realpath(path.parent)
        if found := OPEN_FILES.fullmatch(folder):
            if path.name == "1" and found[1] in {None, str(os.getpid())}:
                return True
            if path.name != "1" and os.path.isfile(path):  # noqa: PTH113 - never raises
                raise BadRequest(f"{path} is a file that a process has open.", FREE)
            return False
        try:
            path = Path(folder, os.readlink(Path(folder, path.name)))  # noqa: PTH115 - readlink of pathlib drops a dot
        except (OSError, ValueError):  # no link
            return False
    return False


def _stdout(*, as_json: bool) -> Destination:
    if as_json:
        raise click.UsageError("-o - and --json both go to stdout; ask for one.")
    if sys.stdout.isatty():
        raise BadRequest(
            "-o - would write the file's bytes onto this terminal.",
            Say("Send them on (`farm … -o - | mpv -`), or name a file; nothing was charged."),
        )
    return Destination(STDOUT)


def _check_name(path: Path) -> None:
    """Refuse a name that is too long for its folder: in bytes, as file systems count."""
    most = NAME_BYTES
    with suppress(OSError, ValueError):
        most = os.pathconf(path.parent, "PC_NAME_MAX")
    if (length := len(os.fsencode(path.name))) > most:
        raise BadRequest(f"The name of the file has {length} bytes; {most} is the most.", FREE)


def _check_folder(target: Path) -> None:
    """Refuse a folder that is not there, or takes no new file."""
    folder = target.parent
    try:
        found = folder.stat()
        if not stat.S_ISDIR(found.st_mode):
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    except FileNotFoundError:
        raise BadRequest(
            f"The folder {folder} does not exist.", Say(f"Make it first: mkdir -p {folder}")
        ) from None
    except OSError as error:
        raise BadRequest(f"{folder}: {error.strerror}.", FREE) from None
    try:  # asking the permission bits is not enough: /proc and full quotas say yes
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise BadRequest(
            f"Nothing can be written into {folder}: {error.strerror}.",
            Say("Name a file in a folder of yours; nothing was started or charged."),
        ) from None


def _replaceable(target: Path) -> os.stat_result | None:
    """Return what is known of a file that is there already.

    Raises:
        BadRequest: it is no regular file, it is read-only, or it is somebody else's.
    """
    try:
        found = target.lstat()  # its links were followed: one that is left leads nowhere
    except FileNotFoundError:
        return None
    except OSError as error:
        raise BadRequest(f"{target}: {error.strerror}.", FREE) from None
    _check_kind(target, found)
    folder = target.parent.stat()
    owners = (found.st_uid, folder.st_uid, 0)
    read_only = not found.st_mode & stat.S_IWUSR  # root may write it, and was told not to
    if not read_only and not (folder.st_mode & stat.S_ISVTX and os.geteuid() not in owners):
        with suppress(OSError), target.open("r+b"):
            return found
    raise BadRequest(f"{target} is there already and is read-only.", FREE)


def _check_kind(path: Path, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise BadRequest(
            f"{path} is {_kind(found.st_mode)}, no regular file.",
            Say("Name a file, or `-o -` for stdout; nothing was started or charged."),
        )


def _kind(mode: int) -> str:
    if stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        return "a device"
    if stat.S_ISFIFO(mode):
        return "a pipe"
    if stat.S_ISSOCK(mode):
        return "a socket"
    return "a folder" if stat.S_ISDIR(mode) else "a link that leads nowhere"


def _ffmpeg(ending: str) -> str:
    """Return the ffmpeg that makes a format.

    Raises:
        BadRequest: it cannot.
        Unavailable: there is none.
    """
    from orchestrator.cli.client import config

    program = programs.ffmpeg(config().ffmpeg)
    if encoder := ENCODERS.get(ending):
        asked = [program, "-hide_banner", "-h", f"encoder={encoder}"]
        told = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if f"Encoder {encoder} ".encode() not in told.stdout:
            raise BadRequest(
                f"{program} cannot make .{ending}: it has no {encoder}.",
                Say("Let the name end in .mp4, or set FARM_FFMPEG to a fuller ffmpeg."),
            )
    return program


# --- writing ------------------------------------------------------------------------------


def _print(fetch: Callable[[IO[bytes]], None]) -> None:
    with tempfile.TemporaryFile() as file:
        fetch(file)
        file.seek(0)
        shutil.copyfileobj(file, sys.stdout.buffer, PIECE)
        sys.stdout.buffer.flush()


def _part_beside(target: Path) -> Path:
    number, name = tempfile.mkstemp(prefix=".farm-", suffix=".part", dir=target.parent)
    os.close(number)
    return Path(name)


def _like(part: Path, old: os.stat_result | None) -> None:
    """Give a new file the mode and owner of the one it replaces, or those of any new file."""
    if old is None:
        umask = os.umask(0o077)
        os.umask(umask)
        part.chmod(0o666 & ~umask)
        return
    with suppress(OSError):  # another's file stays another's under root alone
        os.chown(part, old.st_uid, old.st_gid)
    with suppress(OSError):  # some file systems have no modes
        part.chmod(stat.S_IMODE(old.st_mode) & MODE)


def _convert(ffmpeg: str, source: Path, made: Path, words: tuple[str, ...]) -> None:
    """Make another format of an MP4.

    Raises:
        NotKept: FFmpeg ended with an error, which the message has.
    """
    begin = [ffmpeg, "-nostdin", "-v", "error", "-y", "-i", str(source)]
    if words != MADE_BY["gif"]:
        _run([*begin, "-map", "0:v:0", *words, str(made)])
        return
    # In two runs: one would keep all frames in memory. No `image2`: it counts at a `%`.
    with tempfile.NamedTemporaryFile(suffix=".png") as palette:
        _run([*begin, "-vf", "palettegen", "-frames:v", "1", "-f", "image2pipe", palette.name])
        picture = ["-f", "png_pipe", "-i", palette.name, "-lavfi", PALETTE]
        _run([*begin, *picture, *words, str(made)])


def _run(argv: list[str]) -> None:
    done = subprocess.run(
        argv,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        check=False,
    )
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        raise NotKept(f"FFmpeg could not make the file: {said[-1] if said else done.returncode}.")
