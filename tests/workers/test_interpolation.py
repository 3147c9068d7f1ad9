"""Frames between painted ones: what moves is half-way there, and cuts stay cuts."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import psutil
import pytest

from orchestrator.model import Size
from orchestrator.states import Cause, Outcome, Verdict
from orchestrator.wire import EncodeWork, SegmentRef
from tests.workers.orders import encode_order
from tests.workers.test_ffmpeg import FPS, read
from workers import video_reading
from workers.encode import encode
from workers.ffmpeg import Frames, Look, SegmentWriter
from workers.interpolation import interpolated
from workers.meter import Meter, Stopped
from workers.video_reading import Master

SIZE = Size(width=96, height=64)
LOOK = Look(size=SIZE, fps=FPS, watermark="")


def scene(frames: int, *, step: int = 3, dark: bool = False, size: Size = SIZE) -> Frames:
    """Return a bright square that moves to the right by `step` a frame, over a fine pattern."""
    rows, columns = np.mgrid[: size.height, : size.width]
    ground = 60 + 20 * np.sin(rows / 3) * np.cos(columns / 4) - (40 if dark else 0)
    film = np.repeat(ground[None, :, :, None], frames, 0).repeat(3, 3)
    for number, picture in enumerate(film):
        left = 6 + step * number
        picture[size.height // 3 : 2 * size.height // 3, left : left + 16] = 230
    return film.astype(np.uint8)


def master(folder: Path, film: Frames, frames: range) -> Master:
    """Write the master of a unit that painted these frames of a film."""
    size = Size(width=film.shape[2], height=film.shape[1])
    reel = SegmentWriter(folder, native=size, output=size, fps=FPS, frames=len(frames))
    reel.write(film[list(frames)])
    return Master(file=reel.finish()[1], frames=frames)


def made(
    folder: Path,
    segments: Sequence[Master],
    *,
    total: int,
    every: int = 2,
    cuts: Sequence[int] = (0,),
    truncated: bool = False,
    look: Look = LOOK,
) -> list[Frames]:
    """Return all frames of the shots that were made."""
    out = folder / "out"
    out.mkdir()
    shots = interpolated(
        segments,
        out,
        every=every,
        cuts=cuts,
        frames_total=total,
        truncated=truncated,
        look=look,
        may_go_on=lambda: None,
    )
    assert [n for shot in shots for n in shot.frames] == list(range(cuts[0], shots[-1].frames.stop))
    found = [frame for shot in shots for frame in read(shot.segment)]
    assert len(found) == sum(len(shot.frames) for shot in shots)
    return found


def place(frame: Frames) -> float:
    """Return where the square is: the mean column of what is bright."""
    return float(np.nonzero(frame.mean(2) > 150)[1].mean())


def error(frame: Frames, other: Frames) -> float:
    """Return the mean difference of two pictures in 8-bit steps."""
    return float(abs(frame.astype(float) - other).mean())


@pytest.mark.parametrize("every", [2, 3])
def test_what_moves_is_on_its_way_between_two_painted_frames(tmp_path: Path, every: int) -> None:
    """Each made frame is nearer to what would have been painted than a held one or a blend."""
    film = scene(12)
    found = made(
        tmp_path, [master(tmp_path / "a", film, range(0, 12, every))], total=12, every=every
    )
    for number in range(0, 12 - every + 1, every):
        assert error(found[number], film[number]) < 3
    between = [number for number in range(12 - every) if number % every]
    for number in between:
        assert place(found[number]) == pytest.approx(place(film[number]), abs=2)
    held = {n: film[n // every * every].astype(float) for n in between}
    blend = {n: (held[n] + film[n // every * every + every]) / 2 for n in between}
    wrong = sum(error(found[n], film[n]) for n in between)
    assert wrong < sum(error(held[n], film[n]) for n in between)
    assert wrong < sum(error(blend[n], film[n]) for n in between)


def test_the_last_painted_frame_stays_to_the_end_of_its_shot(tmp_path: Path) -> None:
    """Nothing is invented of what nobody painted."""
    film = scene(8)
    found = made(tmp_path, [master(tmp_path / "a", film, range(0, 8, 2))], total=8)
    assert error(found[7], found[6]) < 1


def test_nothing_is_made_of_both_sides_of_a_cut(tmp_path: Path) -> None:
    """The last frame of a shot and the first of the next are what was painted for each."""
    film = np.concatenate([scene(6), scene(6, dark=True)])
    segments = [master(tmp_path / "a", film, range(0, 12, 2))]
    found = made(tmp_path, segments, total=12, cuts=(0, 6))
    assert error(found[5], film[4]) < 3
    assert error(found[6], film[6]) < 3


def test_masters_of_several_units_and_passes_are_one_video(tmp_path: Path) -> None:
    """However the frames were shared out, the frames of the video are the same."""
    film = scene(12)
    passes = [range(0, 12, 8), range(4, 12, 8), range(2, 12, 4)]
    parted = [master(tmp_path / str(n), film, part) for n, part in enumerate(passes)]
    runs = [
        master(tmp_path / "r0", film, range(0, 4, 2)),
        master(tmp_path / "r1", film, range(4, 12, 2)),
    ]
    whole = made(tmp_path / "r0", runs[::-1], total=12)
    np.testing.assert_array_equal(made(tmp_path / "0", parted, total=12), whole)


def test_what_was_cut_off_is_filled_in(tmp_path: Path) -> None:
    """Every sixth frame was painted, then the budget ran out: as long, and still in motion."""
    film = scene(18, step=1)
    found = made(
        tmp_path, [master(tmp_path / "a", film, range(0, 18, 6))], total=18, truncated=True
    )
    assert len(found) == 18
    places = [place(frame) for frame in found[:13]]
    assert all(after > before - 1 for before, after in pairwise(places))
    assert places[0] + 1 < places[3] < places[6] < places[9] < places[12] - 1


def test_a_shot_without_a_frame_shows_the_one_before(tmp_path: Path) -> None:
    """And a video whose first frame is missing begins with the first one there is."""
    film = scene(18)
    found = made(
        tmp_path,
        [master(tmp_path / "a", film, range(2, 18, 12))],
        total=18,
        cuts=(0, 6, 12),
        truncated=True,
    )
    assert error(found[0], film[2]) < 3
    assert error(found[11], film[2]) < 3
    assert error(found[12], film[14]) < 3


def test_a_first_shot_without_a_frame_shows_the_first_there_is(tmp_path: Path) -> None:
    """Frames that were finished out of order: the video begins with what comes first."""
    film = scene(18)
    found = made(
        tmp_path,
        [master(tmp_path / "a", film, range(12, 18, 2))],
        total=18,
        cuts=(0, 6, 12),
        truncated=True,
    )
    assert len(found) == 18
    assert error(found[0], film[12]) < 3


@pytest.mark.parametrize("frames", [range(0, 10, 2), range(0, 12, 4), range(1, 12, 2)])
def test_a_whole_video_lacks_no_painted_frame(tmp_path: Path, frames: range) -> None:
    """One is missing, some are, or they are not those that were ordered."""
    painted = master(tmp_path / "a", scene(12), frames)
    with pytest.raises(video_reading.NotTheVideo, match="painted frames"):
        made(tmp_path, [painted], total=12)


def test_a_painted_frame_does_not_come_twice(tmp_path: Path) -> None:
    """Not in a video that was cut off either."""
    painted = master(tmp_path / "a", scene(12), range(0, 12, 2))
    with pytest.raises(video_reading.NotTheVideo, match="painted frames"):
        made(tmp_path, [painted, painted], total=12, truncated=True)


@pytest.mark.parametrize("size", [(16, 16), (24, 40), (130, 34)])
def test_small_and_odd_pictures_are_interpolated_too(tmp_path: Path, size: tuple[int, int]) -> None:
    """Sides that are no whole number of FFmpeg's blocks, and a single painted frame."""
    native = Size(width=size[0], height=size[1])
    for count in (1, 3):
        film = scene(2 * count, size=native)
        folder = tmp_path / str(count)
        painted = master(folder / "a", film, range(0, 2 * count, 2))
        assert len(made(folder, [painted], total=2 * count)) == 2 * count


def test_the_watermark_is_in_the_corner_alone(tmp_path: Path) -> None:
    """Masters have none, so it is laid over what is made of them."""
    painted = master(tmp_path / "a", scene(6), range(0, 6, 2))
    look = Look(size=SIZE, fps=FPS, watermark="Framefarm")
    plain = made(tmp_path / "a", [painted], total=6)
    for frame, marked in zip(plain, made(tmp_path, [painted], total=6, look=look), strict=True):
        assert error(frame[48:, 40:], marked[48:, 40:]) > 5
        assert error(frame[:40], marked[:40]) < 2


# --- as a unit ----------------------------------------------------------------------------


def unit(folder: Path, **facts: object) -> tuple[EncodeWork, dict[str, Path]]:
    """Return the work of twelve frames, six of them painted by two units, and where they are."""
    film = scene(12)
    segments = [master(folder / n, film, part) for n, part in zip("ab", _HALVES, strict=True)]
    inputs = {f"units/{n}/1/master.mkv": s.file for n, s in zip("ab", segments, strict=True)}
    order = encode_order({key: path.read_bytes() for key, path in inputs.items()}, 3)
    work = order.work
    assert isinstance(work, EncodeWork)
    masters = tuple(
        segment.model_copy(update={"first_frame": part.start, "stride": part.step})
        for segment, part in zip(work.segments, _HALVES, strict=True)
    )
    size = {"width": SIZE.width, "height": SIZE.height, "frames_total": 12}
    asked = {"segments": (), "masters": (masters,), "interpolate": 2, "cuts": (0,), **size, **facts}
    return work.model_copy(update=asked), inputs


_HALVES = (range(0, 6, 2), range(6, 12, 2))


def running_ffmpegs() -> list[str]:
    """Return the FFmpegs that this process has started and that still run."""
    names = [child.name() for child in psutil.Process().children(recursive=True)]
    return [name for name in names if "ffmpeg" in name]


def test_an_encode_unit_makes_the_video(tmp_path: Path) -> None:
    """Video, poster and sheet, twelve frames of six; the device time is under one stage."""
    work, inputs = unit(tmp_path)
    result = encode(work, inputs, tmp_path / "out", Meter(limit_gpu_ms=60_000))
    assert result.outcome is Outcome.DONE, result.message
    assert [file.name for file in result.files] == ["video.mp4", "poster.jpg", "sheet.jpg"]
    video_reading.verify(result.files[0], size=SIZE, fps=FPS, shown=range(12))
    assert result.receipt.by_stage == {"encode": result.receipt.gpu_ms}


def test_a_video_that_was_cut_off_ends_with_what_there_is(tmp_path: Path) -> None:
    """The first of two units was done: its frames, those between, and the last a little longer."""
    work, inputs = unit(tmp_path)
    short = work.model_copy(update={"masters": (work.masters[0][:1],), "truncated": True})
    result = encode(short, inputs, tmp_path / "out", Meter(limit_gpu_ms=60_000))
    assert result.outcome is Outcome.DONE, result.message
    video_reading.verify(result.files[0], size=SIZE, fps=FPS, shown=range(6))


def test_what_an_extension_goes_on_from_is_joined_as_it_is(tmp_path: Path) -> None:
    """A finished video first, its frames untouched, then the frames that were made."""
    work, inputs = unit(tmp_path)
    video, *_ = encode(work, inputs, tmp_path / "lead", Meter(limit_gpu_ms=60_000)).files
    lead = SegmentRef(first_frame=0, frames=12, key="jobs/1/video.mp4", sha256="0" * 64)
    behind = tuple(s.model_copy(update={"first_frame": s.first_frame + 12}) for s in work.inputs)
    longer = work.model_copy(
        update={"segments": (lead,), "masters": (behind,), "cuts": (12,), "frames_total": 24}
    )
    inputs |= {lead.key: video}
    result = encode(longer, inputs, tmp_path / "out", Meter(limit_gpu_ms=60_000))
    assert result.outcome is Outcome.DONE, result.message
    found = read(result.files[0])
    np.testing.assert_array_equal(found[:12], read(video))
    np.testing.assert_array_equal(found[12:], read(video))


def test_a_broken_master_fails_as_ours(tmp_path: Path) -> None:
    """Half of a file: the unit fails, nothing is charged, and no FFmpeg is left."""
    work, inputs = unit(tmp_path)
    file = inputs["units/b/1/master.mkv"]
    file.write_bytes(file.read_bytes()[:2000])
    result = encode(work, inputs, tmp_path / "out", Meter(limit_gpu_ms=60_000))
    assert (result.outcome, result.cause, result.files) == (Outcome.FAILED, Cause.FARM, ())
    assert "master.mkv" in result.message
    assert result.receipt.gpu_ms == 0
    assert not running_ffmpegs()


def test_a_cancelled_job_stops_between_two_frames(tmp_path: Path) -> None:
    """The wish is heard while frames are made, and FFmpeg ends with it."""
    work, inputs = unit(tmp_path)
    asked = iter([None, None, None, *[Verdict.CANCEL] * 20])
    meter = Meter(limit_gpu_ms=60_000, stop=lambda: next(asked))
    result = encode(work, inputs, tmp_path / "out", meter)
    assert (result.outcome, result.message) == (Outcome.STOPPED, "cancel")
    assert next(asked) is Verdict.CANCEL
    assert not running_ffmpegs()


def test_what_may_not_go_on_ends_at_once(tmp_path: Path) -> None:
    """The error of whoever was asked is the caller's to read."""
    painted = master(tmp_path / "a", scene(6), range(0, 6, 2))

    def stop() -> None:
        raise Stopped("pause")

    with pytest.raises(Stopped):
        interpolated(
            [painted],
            tmp_path,
            every=2,
            cuts=(0,),
            frames_total=6,
            truncated=False,
            look=LOOK,
            may_go_on=stop,
        )
    assert not running_ffmpegs()
