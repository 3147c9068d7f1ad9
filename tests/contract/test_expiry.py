"""Files that are kept for a time: when they go, when they may not, and what stays."""

from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text

from orchestrator.dispatcher import Dispatcher, celery_app
from orchestrator.errors import BadRequest, Conflict, Expired, PlanLimit
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.books import receipts, verification
from orchestrator.farm.jobs import deleting, expiry, extensions
from orchestrator.model import Handling, Job
from orchestrator.money.plans import DAY_MS, Plans
from orchestrator.settings import Settings
from orchestrator.store import Store
from orchestrator.store.listings import _TO_REMOVE
from orchestrator.stored_files import NOTE
from tests.contract.test_extensions import extension
from tests.factories import Clock, Hand, account_id, brief, submit

HOUR = 3600
HOUR_MS = 3_600_000


class Files:
    """The keys of the files that were removed."""

    def __init__(self) -> None:
        self.removed: list[str] = []

    def __call__(self, keys: Iterable[str]) -> None:
        """Note which."""
        self.removed += keys


def on_plan(farm: Farm, keep_ms: int | None) -> Farm:
    """Return the farm with a plan of the home account that keeps files for so long."""
    plan = replace(farm.plans.named("studio"), keep_ms=keep_ms)
    return replace(farm, plans=Plans({**farm.plans.plans, "studio": plan}))


def made(farm: Farm, clock: Clock, **handling: int) -> Job:
    """Submit a job that is to be kept so and work it off."""
    job = jobs.submit(
        farm,
        account_id=account_id(farm),
        session_id=None,
        brief=brief(seed=1),
        handling=Handling(**handling),
    ).job
    Hand(farm, clock, job.id).work_off()
    return jobs.get(farm, None, job.id)


def test_files_are_kept_for_ever_unless_somebody_says_otherwise(farm: Farm, clock: Clock) -> None:
    """Without a time in plan or request there is nothing to remove, however late it is."""
    job = made(farm, clock)
    assert (job.expires_at_ms, job.remove_at_ms) == (None, None)
    clock.advance(10_000 * 86_400)
    assert list(expiry.remove_expired(farm, Files())) == []


def test_files_go_when_their_time_is_over_and_the_bill_stays(farm: Farm, clock: Clock) -> None:
    """Video, poster, sheet, segments, masters and strips go; ledger, receipt and job do not."""
    job = made(farm, clock, expires_in_ms=2 * HOUR_MS)
    assert job.finished_at_ms and job.expires_at_ms == job.finished_at_ms + 2 * HOUR_MS
    bill, files = receipts.receipt(farm, None, job.id), Files()
    clock.advance(2 * HOUR - 60)
    assert list(expiry.remove_expired(farm, files)) == []
    clock.advance(60)
    (removed,) = expiry.remove_expired(farm, files)
    assert (removed.job_id, removed.files) == (job.id, len(files.removed))
    assert {key.rpartition("/")[2] for key in files.removed} == {
        *("video.mp4", "poster.jpg", "sheet.jpg", "segment.mp4", "master.mkv", "strip.jpg")
    }
    after = jobs.get(farm, None, job.id)
    assert (after.expired_at_ms, after.artifacts, after.remove_at_ms) == (clock.now_ms, {}, None)
    assert after.expires_at_ms == job.expires_at_ms
    assert all(view.lease is None for view in jobs.units(farm, None, job.id))
    assert receipts.receipt(farm, None, job.id) == bill
    assert verification.verify(farm, None, job.id)["ok"]
    assert check.violations(farm) == []
    assert list(expiry.remove_expired(farm, files)) == [], "once"
    assert deleting.delete(farm, None, job.id), "and it can be deleted still"
    assert check.violations(farm) == []


def test_a_plan_keeps_files_for_a_time_and_a_job_for_no_longer(farm: Farm, clock: Clock) -> None:
    """The plan of its submission counts; a request may name less, and is refused more."""
    month = on_plan(farm, 30 * DAY_MS)
    job = made(month, clock)
    assert job.expires_at_ms == (job.finished_at_ms or 0) + 30 * DAY_MS
    for too_long in ({"expires_in_ms": 31 * DAY_MS}, {"expires_at_ms": clock() + 31 * DAY_MS}):
        with pytest.raises(PlanLimit, match="30 days"):
            made(month, clock, **too_long)
    shorter = made(month, clock, expires_in_ms=HOUR_MS)
    assert shorter.expires_at_ms == (shorter.finished_at_ms or 0) + HOUR_MS
    later = on_plan(farm, DAY_MS)
    assert jobs.get(later, None, job.id).expires_at_ms == job.expires_at_ms
    at = clock() + 5 * DAY_MS
    assert made(month, clock, expires_at_ms=at).expires_at_ms == at


@pytest.mark.parametrize(
    "handling",
    [
        {"expires_in_ms": HOUR_MS - 1},
        {"expires_at_ms": 1},
        {"expires_in_ms": HOUR_MS, "expires_at_ms": 2**42},
    ],
)
def test_a_time_that_cannot_be_is_refused(
    farm: Farm, clock: Clock, handling: dict[str, int]
) -> None:
    """Too short, over already, or two of them: nothing is written or held."""
    with pytest.raises(BadRequest, match="expires_"):
        made(farm, clock, **handling)
    assert jobs.listing(farm, None).items == ()


def test_a_moment_before_the_end_is_an_hour_after_it(farm: Farm, clock: Clock) -> None:
    """Somebody can fetch a video that was finished later than was thought."""
    at = clock() + HOUR_MS
    job = jobs.submit(
        farm,
        account_id=account_id(farm),
        session_id=None,
        brief=brief(),
        handling=Handling(expires_at_ms=at),
    ).job
    clock.advance(5 * HOUR)
    Hand(farm, clock).work_off()
    ended = jobs.get(farm, None, job.id)
    assert ended.expires_at_ms == (ended.finished_at_ms or 0) + HOUR_MS


def test_a_cancelled_jobs_frames_go_too(farm: Farm, clock: Clock) -> None:
    """Whatever way it ended, it has a time from then on."""
    job = jobs.submit(
        farm,
        account_id=account_id(farm),
        session_id=None,
        brief=brief(),
        handling=Handling(expires_in_ms=HOUR_MS),
    ).job
    jobs.cancel(farm, None, job.id)
    assert jobs.get(farm, None, job.id).expires_at_ms == clock() + HOUR_MS


def test_a_video_stays_while_an_extension_needs_it(farm: Farm, clock: Clock) -> None:
    """It is looked at again until that has ended; then it goes, and cannot be extended any more."""
    source = made(farm, clock, expires_in_ms=HOUR_MS)
    longer = submit(farm, extension(source))
    clock.advance(HOUR)
    files = Files()
    (kept,) = expiry.remove_expired(farm, files)
    assert (kept.needed_by, files.removed) == (longer.id, [])
    assert "video" in jobs.get(farm, None, source.id).artifacts
    assert list(expiry.remove_expired(farm, files)) == [], "not at every round"
    with pytest.raises(Conflict):
        deleting.delete(farm, None, source.id)
    Hand(farm, clock).work_off()
    assert jobs.get(farm, None, longer.id).artifacts
    clock.advance(HOUR)
    (removed,) = expiry.remove_expired(farm, files)
    assert (removed.job_id, bool(files.removed)) == (source.id, True)
    with pytest.raises(Expired):
        submit(farm, extension(source))
    assert extensions.find_video(farm, account_id(farm), "ab" * 32) == jobs.get(
        farm, None, longer.id
    ), "a file is looked for among those that are kept"
    assert check.violations(farm) == []


def test_what_could_not_be_removed_is_tried_again_behind_the_others(
    farm: Farm, clock: Clock
) -> None:
    """A store that fails, or a process that is killed, leaves nothing behind and delays nobody."""
    first, second = (made(farm, clock, expires_in_ms=HOUR_MS) for _ in range(2))
    clock.advance(2 * HOUR)

    def broken(_: Iterable[str]) -> None:
        raise OSError("the store is away")

    with pytest.raises(OSError, match="away"):
        list(expiry.remove_expired(farm, broken))
    files = Files()
    assert [each.job_id for each in expiry.remove_expired(farm, files)] == [second.id]
    assert jobs.get(farm, None, first.id).artifacts == {}
    clock.advance(HOUR)
    (again,) = expiry.remove_expired(farm, files)
    assert (again.job_id, again.files > 0) == (first.id, True)
    assert jobs.get(farm, None, first.id).remove_at_ms is None


def test_a_round_is_bounded(farm: Farm, clock: Clock) -> None:
    """So many jobs at a time, those that are due longest first."""
    ids = [made(farm, clock, expires_in_ms=HOUR_MS).id for _ in range(3)]
    clock.advance(DAY_MS / 1000)
    rounds = [
        [each.job_id for each in expiry.remove_expired(farm, Files(), most=2)] for _ in range(3)
    ]
    assert rounds == [ids[:2], ids[2:], []]


def test_what_is_due_is_found_by_its_index(store: Store) -> None:
    """However many jobs there are, only those with something to remove are looked at."""
    with store.engine.connect() as connection:
        sqlite = connection.dialect.name == "sqlite"
        if not sqlite:
            connection.execute(text("SET enable_seqscan = off"))
        asked = str(_TO_REMOVE.compile(compile_kwargs={"literal_binds": False}))
        query = text(f"EXPLAIN {'QUERY PLAN ' if sqlite else ''}{asked}")
        rows = connection.execute(query, {"now_ms": 1, "limit": 50})
        plan = "\n".join(str(row[-1]) for row in rows)
    assert "ix_jobs_remove" in plan and "Seq Scan" not in plan and "B-TREE" not in plan, plan


def test_the_dispatcher_removes_files_where_they_are(
    farm: Farm, clock: Clock, tmp_path: Path
) -> None:
    """It takes file and note from the farm's folder, and touches no job where that is not there."""
    job = made(farm, clock, expires_in_ms=HOUR_MS)
    clock.advance(HOUR)
    config = Settings(home=tmp_path)
    elsewhere = Dispatcher(farm, celery_app("memory://"), config)
    elsewhere.clean_once()
    assert jobs.get(farm, None, job.id).expired_at_ms is None
    place = tmp_path / "artifacts" / job.artifacts["video"].key
    place.parent.mkdir(parents=True)
    beside = place.with_name("other.bin")
    for file in (place, place.with_name(place.name + NOTE), beside):
        file.write_bytes(b"x")
    Dispatcher(farm, celery_app("memory://"), config).clean_once()
    assert jobs.get(farm, None, job.id).expired_at_ms == clock()
    assert list(place.parent.iterdir()) == [beside]
