"""Segments that are none: FFmpeg follows nothing they name and makes no video of them."""

import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import av
import ffmpeg as ffmpeg_python
import psutil
import pytest

from orchestrator.settings import settings
from tests.evil_media import media
from tests.receiver import receiving
from tests.web.conftest import until
from tests.web.evil_words import words
from tests.workers.test_ffmpeg import FPS, OUTPUT, film, segment, writer
from workers import assembly, ffmpeg
from workers.assembly import assemble
from workers.ffmpeg import FFmpegError
from workers.video_reading import NotTheVideo

SECRET = "the secret beside the farm"


def test_a_segment_that_is_none_makes_no_video(tmp_path: Path) -> None:
    """Playlists, lists and manifests under the name of a segment are refused, what they name too.

    Nothing of a file beside the farm comes through, and no server hears of it.
    """
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    with receiving() as outside:
        corpus = media(str(secret), outside.url)
        assert len(corpus) >= 60
        for name, evil in corpus.items():
            segment = tmp_path / "segment.mp4"
            segment.write_bytes(evil)
            out = tmp_path / "out"
            with pytest.raises((NotTheVideo, FFmpegError, OSError)) as refused:
                assemble([segment], out, size=OUTPUT, fps=FPS, frames_total=4, title=name)
            assert SECRET not in str(refused.value), name
            assert not list(out.glob("*.mp4")), name
            shutil.rmtree(out)
    assert outside.got == []


SLEEPER = """#!/bin/sh
sleep 60.125 &
echo $! > {pid}
wait
"""


def test_an_ffmpeg_that_hangs_is_ended_with_all_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its time it and its whole group are killed; the error says how long that was."""
    program, pid = tmp_path / "ffmpeg", tmp_path / "pid"
    program.write_text(SLEEPER.format(pid=pid))
    program.chmod(0o700)
    monkeypatch.setenv("FARM_FFMPEG", str(program))
    settings.cache_clear()
    try:
        process = ffmpeg.Process(ffmpeg_python.input("a.mp4").output("b.mp4"))
        until(lambda: pid.exists() and pid.read_text().strip())
        with pytest.raises(FFmpegError, match="did not end within"):
            process.wait(0.1)
    finally:
        settings.cache_clear()
    until(lambda: not alive(int(pid.read_text())))


def alive(pid: int) -> bool:
    """Tell whether a process runs; one that nobody has waited for does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_what_is_joined_is_opened_by_named_demuxers_alone(tmp_path: Path) -> None:
    """Files alone, in them MP4 and H.264 alone, and a list that leaves its folder is unsafe."""
    assert assembly.CHECKED == {
        "protocol_whitelist": "file",
        "format_whitelist": "concat,mov",
        "codec_whitelist": "h264",
    }
    out = tmp_path / "out"
    made = segment(tmp_path / "a", 4)
    argvs: list[list[str]] = []
    with spied(argvs):
        assemble([made], out, size=OUTPUT, fps=FPS, frames_total=4, title="x")
    reads = [argv for argv in argvs if "-i" in argv]
    assert reads
    for argv in reads:
        assert {"-nostdin", "-protocol_whitelist", "-format_whitelist"} <= set(argv), argv


@contextmanager
def spied(argvs: list[list[str]]) -> Iterator[None]:
    """Note every command line of FFmpeg that is run."""

    def note(event: str, facts: tuple[Any, ...]) -> None:
        if event == "subprocess.Popen" and watching and "ffmpeg" in str(facts[0]):
            argvs.append([str(word) for word in facts[1]])

    watching = [True]
    sys.addaudithook(note)
    yield
    watching.clear()


TITLES = [
    "x';[0:v]movie=/etc/passwd[a];[a]null",
    "concat:/etc/passwd|/etc/shadow",
    "-i /etc/passwd -map 1",
    "a\nb\x00\x1b[31m=c;d#e\\f %{pict_type} \ud83d",
    "title=x:comment=y",
    "$(touch /tmp/planted) `id` ; id",
]


def test_a_title_is_one_argument_and_comes_back_as_it_is(tmp_path: Path) -> None:
    """Filters, protocols, options and shells' words in a title are its text in the video."""
    part = segment(tmp_path / "a", 4)
    for number, title in enumerate(TITLES):
        out = tmp_path / f"out{number}"
        made = assemble([part], out, size=OUTPUT, fps=FPS, frames_total=4, title=title)
        with av.open(str(made[0])) as video:
            told = video.metadata["title"]
        plain = "".join(c if c.isprintable() else " " for c in title.replace("\ud83d", "?"))
        assert told == " ".join(plain.split())
        assert len(video_streams(made[0])) == 1


def video_streams(path: Path) -> list[str]:
    """Return the kinds of a file's streams."""
    with av.open(str(path)) as video:
        return [stream.type for stream in video.streams]


def test_no_title_of_the_corpus_has_an_unseen_character() -> None:
    """Text that becomes an argument is one line of at most some hundred characters in UTF-8."""
    for word in words().values():
        title = assembly._plain(word.text)
        assert len(title) <= assembly.TITLE_CHARS
        assert not [c for c in title if c < " " or "\x7f" <= c <= "\x9f"]
        title.encode()


@pytest.mark.parametrize("part", [0.1, 0.5, 0.9])
def test_half_a_segment_makes_no_video(tmp_path: Path, part: float) -> None:
    """A segment that was cut off is not joined as if it were whole."""
    whole = segment(tmp_path / "a", 6).read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(whole[: int(len(whole) * part)])
    with pytest.raises((NotTheVideo, FFmpegError, OSError)):
        assemble([cut], tmp_path / "out", size=OUTPUT, fps=FPS, frames_total=6, title="x")


@pytest.mark.skipif(not hasattr(psutil.Process, "rlimit"), reason="limits are read on Linux alone")
def test_ffmpeg_runs_under_limits(tmp_path: Path) -> None:
    """Its memory, CPU time and files are bounded, and it is alone in its group."""
    reel = writer(tmp_path, 4)
    reel.write(film(2))
    assert reel.pid
    process = psutil.Process(reel.pid)
    try:
        for limit, most in ffmpeg.LIMITS.items():
            assert process.rlimit(limit) == (most, most)
        assert os.getpgid(reel.pid) == reel.pid != os.getpgid(0)
        until(process.cmdline)  # for a moment a program that begins has none
        assert "-nostdin" in process.cmdline()
    finally:
        reel.abort()
    assert not psutil.pid_exists(reel.pid)
