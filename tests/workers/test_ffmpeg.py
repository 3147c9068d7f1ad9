"""Frames through the real FFmpeg: nothing lost, nothing doubled, nothing left behind."""

import os
import time
from pathlib import Path

import av
import numpy as np
import psutil
import pytest
from PIL import Image

from orchestrator import programs
from orchestrator.errors import Unavailable
from orchestrator.model import Size
from orchestrator.settings import settings
from workers import ffmpeg, video_reading
from workers.assembly import assemble
from workers.ffmpeg import FFmpegError, Frames, SegmentWriter

NATIVE = Size(width=64, height=48)
OUTPUT = Size(width=128, height=96)
FPS = 12


def film(frames: int, first: int = 0) -> Frames:
    """Return frames that say their number by their brightness, with noise to make them honest."""
    noise = np.random.default_rng(first).integers(0, 8, (frames, 48, 64, 3))
    level = 8 * (np.arange(first, first + frames) % 30)
    return (noise + level[:, None, None, None]).astype(np.uint8)


def writer(folder: Path, frames: int, *, native: Size = NATIVE) -> SegmentWriter:
    """Return a writer of the sizes used here."""
    return SegmentWriter(folder, native=native, output=OUTPUT, fps=FPS, frames=frames)


def segment(folder: Path, frames: int, first: int = 0) -> Path:
    """Write one segment and return its file."""
    reel = writer(folder, frames)
    reel.write(film(frames, first))
    return reel.finish()[0]


def read(path: Path) -> list[Frames]:
    """Return all frames of a file."""
    with av.open(str(path)) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


@pytest.mark.parametrize("written", [12, 8, 1])
def test_the_files_hold_exactly_the_frames_that_were_written(tmp_path: Path, written: int) -> None:
    """A unit of 12 frames, ended after 12, 8 or 1: the segment, master and strip all agree."""
    frames = film(written)
    reel = writer(tmp_path, 12)
    for first in range(0, written, 4):
        reel.write(frames[first : first + 4])
    delivered, master, strip = reel.finish()
    assert len(read(delivered)) == written
    np.testing.assert_array_equal(read(master), frames)
    with Image.open(strip) as picture:
        assert picture.size == (written * 128, 96)


def test_the_same_frames_make_the_same_files(tmp_path: Path) -> None:
    """No clock, random id or library version gets into them."""
    for name in "ab":
        reel = writer(tmp_path / name, 6)
        reel.write(film(6))
        reel.finish()
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_a_long_unit_has_a_strip_of_several_rows(tmp_path: Path) -> None:
    """A strip ends at 16,000 pixels, so 130 frames of 128 pixels need two rows."""
    reel = writer(tmp_path, 130)
    reel.write(film(130))
    with Image.open(reel.finish()[2]) as picture:
        assert picture.size == (125 * 128, 2 * 96)


def test_segments_are_joined_by_copying_their_packets(tmp_path: Path) -> None:
    """Segments of 12, 8, 1 and 5 frames: 26 frames in order, and the very packets of the parts."""
    lengths = (12, 8, 1, 5)
    parts = [
        segment(tmp_path / str(n), length, sum(lengths[:n])) for n, length in enumerate(lengths)
    ]
    files = assemble(parts, tmp_path / "out", size=OUTPUT, fps=FPS, frames_total=26, title="a film")
    assert [file.name for file in files] == ["video.mp4", "poster.jpg", "sheet.jpg"]
    assert sorted(file.name for file in (tmp_path / "out").iterdir()) == sorted(
        file.name for file in files
    )
    single = [frame for part in parts for frame in read(part)]
    np.testing.assert_array_equal(read(files[0]), single)
    assert files[0].read_bytes().index(b"moov") < files[0].read_bytes().index(b"mdat")
    with Image.open(files[1]) as poster, Image.open(files[2]) as sheet:
        assert poster.size == (128, 96)
        assert sheet.size == (4 * 132 - 4, 4 * 100 - 4)


def test_segments_of_encoders_that_disagree_are_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part from a worker with other settings does not break the video."""
    first = segment(tmp_path / "0", 6)
    monkeypatch.setitem(ffmpeg.X264, "profile:v", "baseline")
    second = segment(tmp_path / "1", 6, 6)
    assert video_reading.head(first) != video_reading.head(second)
    video, *_ = assemble(
        [first, second], tmp_path / "out", size=OUTPUT, fps=FPS, frames_total=12, title=""
    )
    means = [int(frame.mean()) for frame in read(video)]
    assert means == sorted(means)
    assert len(means) == 12


def test_colours_come_back_as_they_were_painted(tmp_path: Path) -> None:
    """Pure red, green and blue survive BT.709 and its tags within two levels of 255."""
    frames = np.zeros((3, 48, 64, 3), np.uint8)
    for channel in range(3):
        frames[channel, ..., channel] = 200
    reel = writer(tmp_path, 3)
    reel.write(frames)
    delivered = reel.finish()[0]
    for picture, painted in zip(
        video_reading.pictures(delivered, FPS, [0, 1, 2]), frames, strict=True
    ):
        seen = np.asarray(picture)[48, 64].astype(int)
        assert np.abs(seen - painted[24, 32]).max() <= 2


@pytest.mark.parametrize(
    "title",
    [
        'it\'s "the" -i $(ls) `x`; end',
        "-f null",
        "line one\nline two\ttab\x00nul\x1b[31m",
        "رحلة 🚀 到月球",
        "broken \ud800 half",
        "title=x=y",
        "",
        "long " * 2000,
    ],
)
def test_any_title_is_only_a_title(tmp_path: Path, title: str) -> None:
    """Quotes, options, control characters and emoji of a prompt end up as plain text."""
    part = segment(tmp_path / "0", 2)
    video, *_ = assemble(
        [part], tmp_path / "out", size=OUTPUT, fps=FPS, frames_total=2, title=title
    )
    with av.open(str(video)) as container:
        found = container.metadata.get("title", "")
    assert "\n" not in found
    assert len(found) <= 200
    assert found[:8] == " ".join(title.replace("\ud800", "?").split())[:8]


@pytest.mark.parametrize(
    ("facts", "complaint"),
    [
        ({"frames_total": 13}, "has 12 frames, ordered were 13"),
        ({"size": NATIVE}, "ordered was h264, yuv420p, 64x48"),
        ({"fps": 24}, "Frame 1 is shown at the time of frame 2.00"),
    ],
)
def test_a_video_that_is_not_as_ordered_is_refused(
    tmp_path: Path, facts: dict[str, object], complaint: str
) -> None:
    """Missing frames, another size or another pace never leave the worker as a video."""
    part = segment(tmp_path / "0", 12)
    ordered = {"size": OUTPUT, "fps": FPS, "frames_total": 12, **facts}
    with pytest.raises(video_reading.NotTheVideo, match=complaint):
        assemble([part], tmp_path / "out", title="", **ordered)  # type: ignore[arg-type]


def test_a_segment_that_is_no_video_is_refused(tmp_path: Path) -> None:
    """Rubbish under the name of a segment is named, not joined."""
    rubbish = tmp_path / "segment.mp4"
    rubbish.write_bytes(b"rubbish" * 100)
    with pytest.raises(video_reading.NotTheVideo, match=r"segment\.mp4 cannot be read"):
        assemble([rubbish], tmp_path / "out", size=OUTPUT, fps=FPS, frames_total=1, title="")


def test_an_abort_leaves_neither_process_nor_file(tmp_path: Path) -> None:
    """FFmpeg is dead and its files are gone when `abort` returns."""
    reel = writer(tmp_path, 100)
    reel.write(film(4))
    pid = reel.pid
    assert pid is not None
    assert psutil.pid_exists(pid)
    reel.abort()
    assert not psutil.pid_exists(pid)
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_got_no_frame_aborts_quietly(tmp_path: Path) -> None:
    """There is no process to start for a unit that never painted."""
    reel = writer(tmp_path, 4)
    reel.abort()
    assert (reel.pid, list(tmp_path.iterdir())) == (None, [])


def test_ffmpegs_own_words_are_in_the_error(tmp_path: Path) -> None:
    """A segment that cannot be written ends the next write, with the reason."""
    (tmp_path / "segment.mp4").mkdir()
    reel = writer(tmp_path, 1000)
    with pytest.raises(FFmpegError, match="Is a directory"):
        for _ in range(1000):
            reel.write(film(4))
    assert reel.pid is not None
    assert not psutil.pid_exists(reel.pid)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said_in_words(tmp_path: Path) -> None:
    """The error of a disk without room says so, and is an OSError: the machine's fault."""
    (tmp_path / "segment.mp4").symlink_to("/dev/full")
    reel = writer(tmp_path, 4)
    with pytest.raises(OSError, match="No space left"):
        reel.write(film(4))
        reel.finish()


def test_a_frozen_ffmpeg_is_killed_at_its_timeout(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that does not end is not waited for for ever."""
    monkeypatch.setattr(ffmpeg, "FINISH_SECONDS", 0.2)
    reel = writer(tmp_path, 4)
    reel.write(film(4))
    assert reel.pid is not None
    os.kill(reel.pid, 19)
    started = time.monotonic()
    with pytest.raises(FFmpegError, match="did not end within"):
        reel.finish()
    assert time.monotonic() - started < 60
    assert not psutil.pid_exists(reel.pid)


def test_the_ffmpeg_that_the_settings_name_is_used(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """FARM_FFMPEG wins; where it names nothing, the error says what to correct."""
    fake = tmp_path / "ffmpeg"
    fake.write_text("#!/bin/sh\n")
    fake.chmod(0o755)
    assert programs.ffmpeg(str(fake)) == str(fake)
    with pytest.raises(Unavailable, match="FARM_FFMPEG"):
        programs.ffmpeg(str(tmp_path / "missing"))
    assert settings().ffmpeg == ""
    assert Path(programs.ffmpeg("")).exists()
