"""Segments that are none: FFmpeg follows nothing they name and makes no video of them."""

import os
from pathlib import Path

import psutil
import pytest

from tests.workers.test_ffmpeg import FPS, OUTPUT, film, segment, writer
from workers import ffmpeg
from workers.assembly import assemble
from workers.ffmpeg import FFmpegError
from workers.footage import NotTheVideo

SECRET = "the secret beside the farm"
EVIL = {
    "a list of files": "ffconcat version 1.0\nfile {secret}\n",
    "an HLS playlist": "#EXTM3U\n#EXTINF:1,\nfile://{secret}\n#EXT-X-ENDLIST\n",
    "a DASH manifest": '<?xml version="1.0"?><MPD><BaseURL>file://{secret}</BaseURL></MPD>',
    "an SDP": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\n",
    "metadata": ";FFMETADATA1\ntitle={secret}\n",
    "subtitles": "1\n00:00:00,000 --> 00:00:01,000\n{secret}\n",
    "an SVG": '<svg xmlns="http://www.w3.org/2000/svg"><image href="file://{secret}"/></svg>',
    "text": "{secret}",
    "nothing": "",
}


@pytest.mark.parametrize("name", EVIL)
def test_a_segment_that_names_files_makes_no_video(tmp_path: Path, name: str) -> None:
    """Playlists, lists and manifests under the name of a segment are refused unread."""
    secret = tmp_path / "secret.txt"
    secret.write_text(SECRET)
    evil = tmp_path / "segment.mp4"
    evil.write_text(EVIL[name].format(secret=secret))
    with pytest.raises((NotTheVideo, FFmpegError, OSError)) as refused:
        assemble([evil], tmp_path / "out", size=OUTPUT, fps=FPS, frames_total=4, title="x")
    assert SECRET not in str(refused.value)
    assert not list((tmp_path / "out").glob("*.mp4"))


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
    for limit, most in ffmpeg.LIMITS.items():
        assert process.rlimit(limit) == (most, most)
    assert os.getpgid(reel.pid) == reel.pid != os.getpgid(0)
    assert "-nostdin" in process.cmdline()
    reel.abort()
    assert not psutil.pid_exists(reel.pid)
