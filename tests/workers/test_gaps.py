"""Videos of jobs that were cut off: each frame at its time, and stretched over what is missing."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from tests.workers.test_ffmpeg import FPS, NATIVE, OUTPUT, film, read
from workers import ffmpeg, video_reading
from workers.assembly import assemble
from workers.batch_encoding import encoded
from workers.ffmpeg import Look, SegmentWriter
from workers.video_reading import Master

KEY, HALF, REST = range(0, 24, 4), range(2, 24, 4), range(1, 24, 2)


def written(folder: Path, frames: range) -> tuple[Path, ...]:
    """Write the files of a unit that painted these frames of a film."""
    reel = SegmentWriter(folder, native=NATIVE, output=OUTPUT, fps=FPS, frames=len(frames))
    reel.write(film(24)[list(frames)])
    return reel.finish()


def joined(folder: Path, segments: Sequence[Path], frames: Sequence[Sequence[int]]) -> Path:
    """Return the video of segments with these frames out of 24."""
    return assemble(
        segments,
        folder / "out",
        size=OUTPUT,
        fps=FPS,
        frames_total=24,
        title="a film",
        frames=frames,
        truncated=sum(len(part) for part in frames) < 24,
        stride=4,
    )[0]


def painted_in(folder: Path, passes: Sequence[range]) -> Path:
    """Return the video of these passes."""
    masters = [
        Master(file=written(folder / str(n), frames)[1], frames=frames)
        for n, frames in enumerate(passes)
    ]
    look = Look(size=OUTPUT, fps=FPS, watermark="")
    part = encoded(masters, folder / "batch.mp4", look=look, may_go_on=lambda: None)
    return joined(folder, [part.segment], [part.frames])


def times(video: Path) -> list[int]:
    """Return when each frame is shown, in frames, and the end of the last one."""
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        base = stream.time_base
        assert base is not None
        packets = [p for p in container.demux(stream) if p.pts is not None]
        starts = [round(p.pts * base * FPS) for p in packets if p.pts is not None]
        last = packets[-1]
        assert last.pts is not None
        return [*starts, round((last.pts + (last.duration or 0)) * base * FPS)]


def test_all_passes_together_are_the_whole_video(tmp_path: Path) -> None:
    """Key frames, half-way frames and the rest are the video of a unit that painted all."""
    video = painted_in(tmp_path, (KEY, HALF, REST))
    assert times(video) == list(range(25))
    whole = joined(tmp_path / "whole", [written(tmp_path / "all", range(24))[0]], [range(24)])
    assert video.read_bytes() == whole.read_bytes()
    with av.open(str(video)) as container:
        assert container.metadata["title"] == "a film"
    assert video.read_bytes().index(b"moov") < video.read_bytes().index(b"mdat")


def test_key_frames_alone_tell_the_whole_story(tmp_path: Path) -> None:
    """A quarter of the frames, each shown four times as long: the length of the whole video."""
    video = painted_in(tmp_path, (KEY,))
    assert times(video) == [0, 4, 8, 12, 16, 20, 24]
    video_reading.verify(video, size=OUTPUT, fps=FPS, shown=list(KEY))
    assert video.read_bytes().index(b"moov") < video.read_bytes().index(b"mdat")


def test_a_pass_that_was_cut_off_fills_in_what_it_has(tmp_path: Path) -> None:
    """More frames make the motion finer; the rest keeps its pace."""
    video = painted_in(tmp_path, (KEY, range(2, 14, 4)))
    assert times(video) == [0, 2, 4, 6, 8, 10, 12, 16, 20, 24]
    means = [int(frame.mean()) for frame in read(video)]
    assert means == sorted(means)


def test_a_story_without_its_beginning_starts_with_what_it_has(tmp_path: Path) -> None:
    """Frames that were finished out of order: the first one stands for those before it."""
    video = painted_in(tmp_path, (range(8, 24, 4),))
    assert times(video) == [0, 12, 16, 20, 24]


def test_over_a_missing_run_a_frame_stays(tmp_path: Path) -> None:
    """Batches that were painted in order are copied, each to its time."""
    runs = (range(8), range(16, 20))
    segments = [written(tmp_path / str(n), run)[0] for n, run in enumerate(runs)]
    video = joined(tmp_path, segments, runs)
    assert times(video) == [*range(8), *range(16, 20), 23]
    single = [frame for segment in segments for frame in read(segment)]
    np.testing.assert_array_equal(read(video), single)


def test_segments_of_other_encoders_are_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part from a worker with other settings does not break a video with gaps."""
    first = written(tmp_path / "0", range(6))[0]
    monkeypatch.setitem(ffmpeg.X264, "profile:v", "baseline")
    second = written(tmp_path / "1", range(12, 18))[0]
    video = joined(tmp_path, [first, second], [range(6), range(12, 18)])
    means = [int(frame.mean()) for frame in read(video)]
    assert means == sorted(means)
    assert len(means) == 12


def test_a_whole_video_lacks_no_frame_and_has_none_twice(tmp_path: Path) -> None:
    """Only a job that was cut off may leave some out, and none may leave the order."""
    part = written(tmp_path / "0", KEY)[0]
    for frames, truncated in (
        ([KEY], False),
        ([KEY, KEY], True),
        ([KEY, HALF], True),
    ):
        with pytest.raises(video_reading.NotTheVideo, match=r"twice|ordered|out of order"):
            assemble(
                [part] * len(frames),
                tmp_path / "out",
                size=OUTPUT,
                fps=FPS,
                frames_total=24,
                title="",
                frames=frames,
                truncated=truncated,
            )
