"""Pages of a job, at each stage of its life, driven by a hand worker."""

from pathlib import Path

import pytest

from orchestrator.farm import Farm, jobs
from orchestrator.farm.jobs import forecasts
from orchestrator.states import Cause, Outcome
from orchestrator.store import open_store
from tests.factories import Clock, Hand, account_id, brief, make_farm, submit
from web.pages.views import JobView, budget_bar, job_view


@pytest.fixture
def farm(sqlite_url: str, clock: Clock) -> Farm:
    """A farm on SQLite: what a page shows does not depend on the database."""
    return make_farm(open_store(sqlite_url), clock)


@pytest.fixture
def hand(farm: Farm, clock: Clock) -> Hand:
    """A worker moved by hand."""
    return Hand(farm, clock)


def look(farm: Farm, job_id: str) -> JobView:
    """Return the job as its page sees it now."""
    owner = account_id(farm)
    found = jobs.get(farm, owner, job_id)
    how_far = forecasts.of_one(farm, found, None)
    return job_view(found, jobs.units(farm, owner, job_id), how_far)


def test_a_queued_job_shows_the_frames_to_come(farm: Farm) -> None:
    """The reel has a gap for every frame that was quoted."""
    view = look(farm, submit(farm).id)
    assert (view.label, view.tone, view.percent) == ("Queued", "live", 0)
    assert sum(tile.frames for tile in view.tiles) == view.job.frames_total
    assert not view.preview
    assert (view.can_pause, view.can_resume, view.can_cancel) == (True, False, True)


def test_frames_land_in_the_reel_with_the_unit_that_made_them(farm: Farm, hand: Hand) -> None:
    """After the first batch its strip is there, the rest are gaps, and an ETA is named."""
    job_id = submit(farm, brief(seconds=60.0)).id
    for _ in range(2):
        order = hand.claim()
        assert order
        hand.done(order)
    view = look(farm, job_id)
    assert view.tiles[0].strip == f"units/{order.unit_id}/1/strip.jpg"
    assert not any(tile.strip for tile in view.tiles[1:])
    assert view.preview == view.tiles[:1]
    assert view.frames_done == view.tiles[0].frames
    assert 2 < view.percent < 100
    assert view.eta.startswith("about") and " left" in view.eta
    assert [stage.place for stage in view.stages] == ["past", "past", "now", "ahead", "ahead"]


def test_a_long_video_stays_one_page(farm: Farm) -> None:
    """The reel skips frames rather than grow without end."""
    view = look(farm, submit(farm, brief(seconds=120.0)).id)
    cells = sum(len(range(0, tile.frames, view.stride)) for tile in view.tiles)
    assert view.job.frames_total == 1440
    assert cells < 500


def test_a_finished_job_has_its_video_and_no_buttons(farm: Farm, hand: Hand) -> None:
    """Nothing can be paused or cancelled any more, and every stage is past."""
    job_id = submit(farm).id
    hand.work_off()
    view = look(farm, job_id)
    assert view.is_over
    assert view.video
    assert view.percent == 100
    assert not (view.can_pause or view.can_resume or view.can_cancel)
    assert {stage.place for stage in view.stages} == {"past"}


def test_a_failed_job_says_what_was_charged_and_what_to_do(farm: Farm, hand: Hand) -> None:
    """All three sentences are there, with the exact sum."""
    job_id = submit(farm).id
    order = hand.claim()
    assert order
    hand.clock.advance(1)
    hand.complete(order, Outcome.FAILED, gpu_ms=10, cause=Cause.REQUEST)
    notice = look(farm, job_id).notice
    assert notice
    assert notice.what == "said by hand"
    assert notice.charged.startswith("0.010 GPU-seconds were charged")
    assert notice.remedies


def test_a_paused_job_says_what_is_kept(farm: Farm) -> None:
    """A pause by its owner can be taken back."""
    job_id = submit(farm).id
    jobs.pause(farm, account_id(farm), job_id)
    view = look(farm, job_id)
    assert view.can_resume
    assert view.notice
    assert "0 of 24 frames are finished and kept" in view.notice.what


def test_a_cancelled_job_gives_the_rest_back(farm: Farm) -> None:
    """Cancelled before it began: nothing was charged, and no empty reel is shown."""
    job_id = submit(farm).id
    jobs.cancel(farm, account_id(farm), job_id)
    view = look(farm, job_id)
    assert view.notice
    assert view.notice.charged.startswith("0.000 GPU-seconds")
    assert not view.has_reel


def test_the_bar_never_overflows(farm: Farm) -> None:
    """Spent, held and asked fill at most the whole, and a trace of each can be seen."""
    job = submit(farm)
    from orchestrator.farm.accounts import sessions

    session = sessions.get(farm, None, job.session_id)
    bar = budget_bar(session, asked_gpu_ms=10**9)
    assert bar.spent + bar.held + bar.asked == pytest.approx(100)
    assert bar.held >= 1.2


def test_vendored_files_are_the_ones_in_the_manifest() -> None:
    """All that the browser runs is byte for byte what the packages had, licences included."""
    import hashlib
    import json

    folder = Path(__file__).parents[2] / "web" / "static" / "vendor"
    manifest = json.loads((folder / "manifest.json").read_text())
    listed = {
        name: fact["sha256"]
        for package in manifest["packages"]
        for name, fact in package["files"].items()
    }
    found = {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file() and path.name != "manifest.json"
    }
    assert found == listed
    assert all(f"{name.split('/')[0]}/LICENSE" in listed for name in listed)
