"""Extensions: a finished video and new frames behind it, on both databases."""

from dataclasses import replace
from typing import cast

import pytest

from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.farm import Farm, jobs
from orchestrator.farm.jobs import deleting, extensions
from orchestrator.model import Brief, Job, Size, indices
from orchestrator.wire import EncodeWork
from tests.factories import Clock, Hand, brief, submit


def extension(source: Job, **changes: object) -> Brief:
    """Return a brief for two seconds more of a finished job."""
    like = brief(
        "it falls", fps=source.fps, size=Size(width=source.width, height=source.height), seed=1
    )
    return replace(like, origin=extensions.origin(source), **changes)  # type: ignore[arg-type]


def finished(farm: Farm, hand: Hand) -> Job:
    """Return a finished job of two seconds."""
    job = submit(farm, brief(seed=1))
    hand.work_off()
    return jobs.get(farm, None, job.id)


def test_the_finished_video_is_the_first_segment(farm: Farm, clock: Clock) -> None:
    """The encode unit joins the video as it is and the new segments; only those are painted."""
    hand = Hand(farm, clock)
    source = finished(farm, hand)
    longer = submit(farm, extension(source))
    assert longer.frames_total == source.frames_total
    order = hand.claim()
    while order and not isinstance(order.work, EncodeWork):
        hand.done(order)
        order = hand.claim()
    assert order
    work = cast(EncodeWork, order.work)
    assert work.segments[0].key == source.artifacts["video"].key
    assert work.segments[0].frames == source.frames_total
    assert work.segments[1].first_frame == source.frames_total
    assert work.frames_total == sum(each.frames for each in work.segments) == 48
    hand.done(order)
    again = extensions.origin(jobs.get(farm, None, longer.id))
    assert again.frames == 48, "an extension of it comes after all of its frames"


def test_frames_made_behind_a_video_are_numbered_after_it(farm: Farm, clock: Clock) -> None:
    """The video has its own frames; of the new ones every second is painted, as a master."""
    hand = Hand(farm, clock)
    source = finished(farm, hand)
    longer = submit(farm, extension(source, interpolate=2))
    assert longer.frames_total == source.frames_total // 2
    while (order := hand.claim()) and not isinstance(order.work, EncodeWork):
        hand.done(order)
    assert order
    work = cast(EncodeWork, order.work)
    (lead,), (own,) = work.segments, work.masters
    assert (lead.key, lead.frames) == (source.artifacts["video"].key, 24)
    painted = [n for each in own for n in indices(each.first_frame, each.frames, each.stride)]
    assert sorted(painted) == list(range(24, 48, 2))
    assert all(each.key.endswith("master.mkv") for each in own)
    assert (work.interpolate, work.cuts, work.frames_total) == (2, (24,), 48)
    hand.done(order)
    again = extensions.origin(jobs.get(farm, None, longer.id))
    assert (again.frames, again.last and again.last.frames) == (48, 24), "of the video"


def test_the_noise_goes_on(farm: Farm, clock: Clock) -> None:
    """The first new shot has the seed of the last one, whatever came before that."""
    hand = Hand(farm, clock)
    source = finished(farm, hand)
    longer = submit(farm, extension(source))
    seeds = [shot.seed for job in (source, longer) for shot in job.render_plan.shots]
    assert len(set(seeds)) == 1


def test_joining_is_in_the_quote(farm: Farm, clock: Clock) -> None:
    """An extension costs more to encode than its own frames alone would."""
    hand = Hand(farm, clock)
    source = finished(farm, hand)
    alone, longer = submit(farm, brief(seed=1)), submit(farm, extension(source))
    assert longer.encode_reserve_gpu_ms > alone.encode_reserve_gpu_ms


@pytest.mark.parametrize("odd", [{"fps": 24}, {"size": Size(width=32, height=32)}])
def test_what_cannot_be_joined_is_refused(farm: Farm, clock: Clock, odd: dict[str, object]) -> None:
    """Another size or frame rate cannot share one stream; nothing is started."""
    source = finished(farm, Hand(farm, clock))
    with pytest.raises(BadRequest):
        submit(farm, extension(source, **odd))
    assert len(jobs.listing(farm, None).items) == 1


def test_a_source_stays_while_it_is_needed(farm: Farm, clock: Clock) -> None:
    """It cannot be deleted before its extension has ended, nor extended after it was deleted."""
    hand = Hand(farm, clock)
    source = finished(farm, hand)
    asked = extension(source)
    longer = submit(farm, asked)
    with pytest.raises(Conflict):
        deleting.delete(farm, None, source.id)
    jobs.cancel(farm, None, longer.id)
    deleting.delete(farm, None, source.id)
    with pytest.raises(NotFound):
        submit(farm, asked)
