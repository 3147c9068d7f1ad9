"""A finished video is looked at: container, streams, size, frames, times, and that it decodes."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from flask import Flask

from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.farm.leases import fleet
from orchestrator.farm.leases import worker_calls as verbs
from orchestrator.farm.leases.orders import VideoOrdered
from orchestrator.model import Lease, Size
from orchestrator.states import Cause, JobState, OnExhausted, Outcome, UnitKind
from orchestrator.wire import POSTER, VIDEO, EncodeWork
from tests import videos
from tests.evil_media import media
from tests.factories import Clock, Hand, account_id, brief, submit
from tests.web.test_reports import Reporter
from web.media import finals
from workers.assembly import assemble
from workers.encode import encode
from workers.ffmpeg import SegmentWriter
from workers.meter import Meter

GOOD: Final = VideoOrdered(size=Size(width=64, height=48), fps=6, shown=range(13), end=13)


def fault(tmp_path: Path, data: bytes, ordered: VideoOrdered = GOOD) -> str:
    """Return what is wrong with these bytes."""
    file = tmp_path / "video.mp4"
    file.write_bytes(data)
    return finals.fault(file, ordered)


def test_what_was_ordered_is_no_fault(tmp_path: Path) -> None:
    """A worker's video, with key frames every two seconds and without."""
    assert fault(tmp_path, videos.video(64, 48, 6, 13)) == ""
    assert fault(tmp_path, videos.video(64, 48, 6, 13, "-g", "1")) == ""
    assert fault(tmp_path, videos.video(64, 48, 6, 1), replace(GOOD, shown=[0], end=1)) == ""


OTHERS: Final = {
    "a frame too few": (videos.video, (64, 48, 6, 12), "12 frames"),
    "a frame too many": (videos.video, (64, 48, 6, 14), "more than 13 frames"),
    "another size": (videos.video, (48, 64, 6, 13), "48x64"),
    "another rate": (videos.video, (64, 48, 5, 13), "at the time of frame"),
    "another codec": (videos.video, (64, 48, 6, 13, "-c:v", "mpeg4"), "mpeg4"),
    "other pictures": (videos.video, (64, 48, 6, 13, "-pix_fmt", "yuv444p"), "yuv420p"),
    "sound beside it": (partial(videos.video, sound=True), (64, 48, 6, 13), "one stream"),
}


@pytest.mark.parametrize(("make", "asked", "said"), OTHERS.values(), ids=OTHERS)
def test_another_video_is_told_from_the_ordered_one(
    tmp_path: Path, make: object, asked: tuple[int | str, ...], said: str
) -> None:
    """Each is a video that plays; the fault names what differs."""
    assert callable(make)
    assert said in fault(tmp_path, make(*asked))


def test_another_container_is_told(tmp_path: Path) -> None:
    """Matroska and QuickTime are no MP4, whatever they are called."""
    for suffix in (".mkv", ".mov", ".avi"):
        assert "no MP4" in fault(tmp_path, videos.video(64, 48, 6, 13, suffix=suffix)), suffix


def test_damaged_pictures_are_found(tmp_path: Path) -> None:
    """Right packets by their number and times, whose first or last picture is noise; a file cut."""
    good = videos.video(64, 48, 6, 13, "-g", "1", "-movflags", "+faststart")
    data = good.index(b"mdat") + 4
    noise = bytes(range(7, 256)) * 40
    assert fault(tmp_path, good[: data + 750] + noise[:400] + good[data + 1150 :])
    assert fault(tmp_path, good[:-300] + noise[:300])
    assert fault(tmp_path, good[:-500])
    assert fault(tmp_path, good[:data])


def test_media_that_wants_more_than_to_be_seen_is_a_fault(tmp_path: Path) -> None:
    """None of the corpus is read as the video, opens another file, or breaks the look."""
    secret = tmp_path / "secret"
    secret.write_text("secret")
    for name, data in media(str(secret), "http://127.0.0.1:9").items():
        assert fault(tmp_path, data), name


CUT_OFF: Final = {
    "every fourth": ([range(0, 12, 4)], [0, 4, 8], 12),
    "one pass and a bit": ([range(0, 12, 4), range(2, 6, 4)], [0, 2, 4, 8], 12),
    "the beginning alone": ([range(5)], [0, 1, 2, 3, 4], 5),
    "to the last frame": ([range(0, 16, 4)], [0, 4, 8, 12], 13),
}


@pytest.mark.parametrize(("parts", "shown", "end"), CUT_OFF.values(), ids=CUT_OFF)
def test_a_truncated_video_stays_where_its_plan_says(
    tmp_path: Path, parts: list[range], shown: Sequence[int], end: int
) -> None:
    """A worker's join of the frames there are is no fault; other times and ends are one."""
    frames = sorted(chain.from_iterable(parts))
    segment = tmp_path / "batch.mp4"
    segment.write_bytes(videos.video(64, 48, 6, len(frames)))
    made, *_ = assemble(
        [segment],
        tmp_path / "made",
        size=GOOD.size,
        fps=GOOD.fps,
        frames_total=13,
        title="t",
        frames=[frames],
        truncated=True,
        stride=max(part.step for part in parts),
    )
    ordered = replace(GOOD, shown=shown, end=end)
    assert finals.fault(made, ordered) == ""
    assert finals.fault(made, replace(ordered, end=end + 2))
    assert finals.fault(made, replace(ordered, shown=[*shown[:-1], shown[-1] + 1]))
    assert finals.fault(made, GOOD)


def test_a_worker_that_brings_another_video_loses_it(
    app: Flask, web_farm: Farm, clock: Clock
) -> None:
    """The unit failed by its fault, nobody is charged, it has a flag, and another may try again."""
    submit(web_farm)
    liar = Reporter(app, web_farm, clock)
    order = liar.claim(UnitKind.ENCODE)
    assert isinstance(order.work, EncodeWork)
    before = sessions.find(web_farm, account_id(web_farm), None).spent_gpu_ms
    clock.advance(1)
    wrong = replace_video(order.work)
    answer = liar.report(order, brought=wrong)
    assert (answer.status_code, answer.get_json()["settled_gpu_ms"]) == (200, 0)
    assert answer.get_json()["lost_gpu_ms"] == 100
    job = jobs.get(web_farm, None, order.job_id)
    assert job.state is JobState.ENCODING
    assert sessions.find(web_farm, account_id(web_farm), None).spent_gpu_ms == before
    with web_farm.store.read() as tx:
        lease = tx.get(Lease, order.lease_id)
    assert lease and lease.receipt
    assert (lease.outcome, lease.receipt.cause) == (Outcome.FAILED, Cause.WORKER)
    assert "ordered were" in lease.receipt.message
    assert next(w for w in fleet.workers(web_farm) if w.id == liar.hand.id).flags == 1
    honest = Reporter(app, web_farm, clock)
    again = honest.claim(UnitKind.ENCODE)
    assert again.unit_id == order.unit_id
    clock.advance(1)
    assert honest.report(again).get_json()["settled_gpu_ms"] == 100
    assert jobs.get(web_farm, None, order.job_id).state is JobState.SUCCEEDED
    assert check.violations(web_farm) == []


def replace_video(work: EncodeWork) -> dict[str, bytes]:
    """Return the files of an encode unit whose video has one frame too few."""
    short = videos.video(work.width, work.height, work.fps, work.frames_total - 1)
    return videos.files(work) | {VIDEO: short}


SWAPS: Final = {
    "the video": ({VIDEO}, False),
    "the poster": ({POSTER}, False),
    "the video to and fro": ({VIDEO}, True),
}


@pytest.mark.parametrize(("names", "back"), SWAPS.values(), ids=SWAPS)
def test_what_is_sent_while_the_farm_looks_is_not_accepted(
    app: Flask,
    web_farm: Farm,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    names: set[str],
    back: bool,
) -> None:
    """A file swapped during the look is refused, even where the reported one lies there again."""
    submit(web_farm)
    liar = Reporter(app, web_farm, clock)
    order = liar.claim(UnitKind.ENCODE)
    assert isinstance(order.work, EncodeWork)
    good = videos.files(order.work)
    look = finals.fault

    def swap(*asked: object) -> str:
        sent = [b"another file", good[VIDEO]] if back else [b"another file"]
        for body in sent:
            assert all(liar.put(order, name, body).status_code == 201 for name in names)
        monkeypatch.setattr(finals, "fault", look)
        return ""

    monkeypatch.setattr(finals, "fault", swap)
    clock.advance(1)
    refused = liar.report(order, brought=good)
    assert (refused.status_code, refused.get_json()["code"]) == (422, "bad_request")
    assert "sent anew" in refused.text
    assert jobs.get(web_farm, None, order.job_id).state is JobState.ENCODING
    assert liar.report(order, brought=good).get_json()["settled_gpu_ms"] == 100
    assert jobs.get(web_farm, None, order.job_id).state is JobState.SUCCEEDED
    late = liar.put(order, VIDEO, b"another file")
    assert late.status_code == 409, "what was accepted stays"


def test_a_poster_that_is_no_picture_is_a_lie_too(app: Flask, web_farm: Farm, clock: Clock) -> None:
    """Browsers are shown it."""
    job = submit(web_farm)
    liar = Reporter(app, web_farm, clock)
    order = liar.claim(UnitKind.ENCODE)
    assert isinstance(order.work, EncodeWork)
    clock.advance(1)
    page = videos.files(order.work) | {POSTER: b"<script>alert(1)</script>"}
    assert liar.report(order, brought=page).get_json()["settled_gpu_ms"] == 0
    assert jobs.get(web_farm, None, job.id).state is JobState.ENCODING


def test_three_lies_quarantine(app: Flask, web_farm: Farm, clock: Clock) -> None:
    """Three videos that were none end a worker's work, as other reports do that are not true."""
    liar = Reporter(app, web_farm, clock)
    for _ in range(3):
        submit(web_farm)
        order = liar.claim(UnitKind.ENCODE)
        assert isinstance(order.work, EncodeWork)
        clock.advance(1)
        liar.report(order, brought=replace_video(order.work))
    row = next(w for w in fleet.workers(web_farm) if w.id == liar.hand.id)
    assert (row.flags, row.state) == (3, "quarantined")


@pytest.mark.parametrize("interpolate", [1, 2])
@pytest.mark.parametrize("wish", [OnExhausted.PAUSE, OnExhausted.FINISH])
@pytest.mark.parametrize("units", [1, 2, None])
def test_what_a_worker_makes_of_an_order_is_what_the_farm_expects(
    tmp_path: Path,
    web_farm: Farm,
    clock: Clock,
    interpolate: int,
    wish: OnExhausted,
    units: int | None,
) -> None:
    """Cut off after some units or whole, painted by half or not: worker and farm count alike."""
    hand = Hand(web_farm, clock)
    asked = brief(
        "a dog runs; then it sleeps", seconds=6.0, interpolate=interpolate, on_exhausted=wish
    )
    job = submit(web_farm, asked)
    order = hand.claim()
    for _ in range(99 if units is None else units + 1):
        assert order
        if order.work.kind is UnitKind.ENCODE:
            break
        hand.done(order, 50)
        order = hand.claim()
    if units is not None:
        assert order
        hand.release(order)
        jobs.pause(web_farm, None, job.id)
        jobs.finish(web_farm, None, job.id)
        order = hand.claim()
    assert order and isinstance(order.work, EncodeWork)
    assert order.work.truncated is (units is not None)
    size = Size(width=order.work.width, height=order.work.height)
    inputs = {}
    for number, part in enumerate(order.work.inputs):
        writer = SegmentWriter(
            tmp_path / str(number),
            native=size,
            output=size,
            fps=order.work.fps // interpolate,
            frames=part.frames,
        )
        writer.write(np.full((part.frames, size.height, size.width, 3), 60, np.uint8))
        files = {file.name: file for file in writer.finish()}
        inputs[part.key] = files[part.key.rpartition("/")[2]]
    made = encode(order.work, inputs, tmp_path / "out", Meter(limit_gpu_ms=10**6))
    assert made.outcome is Outcome.DONE, made.message
    ordered = verbs.video_ordered(web_farm, hand.id, order.lease_id)
    assert ordered
    assert finals.fault(made.files[0], ordered) == ""
