"""Videos woven of frames that were painted in passes, whole and cut off."""

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
import pytest

from tests.workers.test_ffmpeg import FPS, NATIVE, OUTPUT, film, read
from workers import ffmpeg, video_reading
from workers.assembly import assemble
from workers.ffmpeg import Frames, SegmentWriter

KEY, HALF, REST = range(0, 24, 4), range(2, 24, 4), range(1, 24, 2)


def calm_film(frames: int) -> Frames:
    """Return a scene that hardly moves, of which an encoder would keep the differences alone."""
    noise = np.random.default_rng(0).integers(0, 200, (48, 64, 3))
    return np.stack([noise + number for number in range(frames)]).astype(np.uint8)


def pass_segment(folder: Path, frames: range, scene: Frames | None = None) -> Path:
    """Write the segment of a pass: key frames only where it has not every frame."""
    size, apart = len(frames), frames.step > 1
    reel = SegmentWriter(folder, native=NATIVE, output=OUTPUT, fps=FPS, frames=size, apart=apart)
    reel.write((film(24) if scene is None else scene)[list(frames)])
    return reel.finish()[0]


def woven(folder: Path, passes: Sequence[range], scene: Frames | None = None) -> Path:
    """Return the video of these passes out of 24 frames."""
    parts = [pass_segment(folder / str(number), part, scene) for number, part in enumerate(passes)]
    return assemble(
        parts,
        folder / "out",
        size=OUTPUT,
        fps=FPS,
        frames_total=24,
        title="a film",
        frames=passes,
        truncated=sum(len(part) for part in passes) < 24,
    )[0]


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
    """Key frames, half-way frames and the rest: each frame at its place, none encoded again."""
    passes = (KEY, HALF, REST)
    video = woven(tmp_path, passes)
    assert times(video) == list(range(25))
    single = {
        index: frame
        for number, part in enumerate(passes)
        for index, frame in zip(part, read(tmp_path / str(number) / "segment.mp4"), strict=True)
    }
    np.testing.assert_array_equal(read(video), [single[index] for index in range(24)])
    with av.open(str(video)) as container:
        assert container.metadata["title"] == "a film"
    assert video.read_bytes().index(b"moov") < video.read_bytes().index(b"mdat")


def test_frames_between_others_lean_on_none_before_them(tmp_path: Path) -> None:
    """In a calm scene, too, each frame that is woven between others' is a key frame."""
    passes = (KEY, HALF, REST)
    video = woven(tmp_path, passes, calm_film(24))
    with av.open(str(video)) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
        assert [p.is_keyframe for p in packets] == [True] * 24
    single = {
        index: frame
        for number, part in enumerate(passes)
        for index, frame in zip(part, read(tmp_path / str(number) / "segment.mp4"), strict=True)
    }
    np.testing.assert_array_equal(read(video), [single[index] for index in range(24)])


def test_frames_that_follow_each_other_lean_on_the_one_before(tmp_path: Path) -> None:
    """A segment of every frame of a calm scene has one key frame: the others are small."""
    with av.open(str(pass_segment(tmp_path, range(24), calm_film(24)))) as container:
        packets = [p for p in container.demux(video=0) if p.pts is not None]
    assert [p.is_keyframe for p in packets] == [True] + [False] * 23


def test_key_frames_alone_tell_the_whole_story(tmp_path: Path) -> None:
    """A quarter of the frames, each shown four times as long: the length of the whole video."""
    video = woven(tmp_path, (KEY,))
    assert times(video) == [0, 4, 8, 12, 16, 20, 24]
    video_reading.verify(video, size=OUTPUT, fps=FPS, shown=list(KEY))


def test_a_pass_that_was_cut_off_fills_in_what_it_has(tmp_path: Path) -> None:
    """More frames make the motion finer; the rest keeps its pace."""
    video = woven(tmp_path, (KEY, range(2, 14, 4)))
    assert times(video) == [0, 2, 4, 6, 8, 10, 12, 16, 20, 24]


def test_a_story_without_its_beginning_starts_with_what_it_has(tmp_path: Path) -> None:
    """Frames that were finished out of order: the first one stands for those before it."""
    video = woven(tmp_path, (range(8, 24, 4),))
    assert times(video) == [0, 12, 16, 20, 24]


def test_runs_of_a_job_that_was_finished_early_are_its_beginning(tmp_path: Path) -> None:
    """Painted in order, the video ends with the last frame; over a missing run one stays."""
    assert times(woven(tmp_path / "a", (range(8), range(8, 12)))) == list(range(13))
    runs = (range(8), range(16, 20))
    video = woven(tmp_path / "b", runs)
    assert times(video) == [*range(8), *range(16, 21)]
    single = [
        frame
        for number in range(len(runs))
        for frame in read(tmp_path / "b" / str(number) / "segment.mp4")
    ]
    np.testing.assert_array_equal(read(video), single)


def test_strands_of_other_encoders_are_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part from a worker with other settings does not break the video."""
    first = pass_segment(tmp_path / "0", KEY)
    monkeypatch.setitem(ffmpeg.X264, "profile:v", "baseline")
    second = pass_segment(tmp_path / "1", HALF)
    video, *_ = assemble(
        [first, second],
        tmp_path / "out",
        size=OUTPUT,
        fps=FPS,
        frames_total=24,
        title="",
        frames=(KEY, HALF),
        truncated=True,
    )
    means = [int(frame.mean()) for frame in read(video)]
    assert means == sorted(means)
    assert len(means) == 12


def test_a_whole_video_lacks_no_frame_and_has_none_twice(tmp_path: Path) -> None:
    """Only a job that was cut off may leave some out."""
    part = pass_segment(tmp_path / "0", KEY)
    for parts, frames in (([part], [KEY]), ([part, part], [KEY, KEY])):
        with pytest.raises(video_reading.NotTheVideo, match=r"twice|ordered"):
            assemble(
                parts,
                tmp_path / "out",
                size=OUTPUT,
                fps=FPS,
                frames_total=24,
                title="",
                frames=frames,
                truncated=len(parts) == 2,
            )
