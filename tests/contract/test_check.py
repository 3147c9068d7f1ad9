"""Rows that somebody with the database's password might write, and the invariant that names it."""

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
from sqlalchemy import JSON, select, text, type_coerce, update

from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.books import usage
from orchestrator.model import Allowance, Entry, Job, Lease, Unit
from orchestrator.states import Cause, EntryKind, JobState, LeaseState, Outcome, UnitKind
from orchestrator.store import Store
from orchestrator.store.tables import TABLES
from tests.factories import START_MS, Clock, Hand, bound_key, brief, submit


class Tamperer:
    """Changes rows behind the farm's back, triggers first."""

    def __init__(self, farm: Farm, store: Store, job: Job) -> None:
        self.farm, self.store, self.job = farm, store, job
        with store.engine.begin() as connection:
            if store.engine.dialect.name == "sqlite":
                connection.execute(text("DROP TRIGGER IF EXISTS entries_no_update"))
            else:
                connection.execute(text("ALTER TABLE entries DISABLE TRIGGER USER"))

    def of(self, cls: type[Any], **equal: Any) -> list[Any]:
        """Return the job's rows of a kind, oldest first."""
        with self.store.read() as tx:
            return tx.find(cls, job_id=self.job.id, **equal)

    def set(self, row: Any, **values: Any) -> None:
        """Overwrite columns of one row."""
        table = TABLES[type(row)]
        raw = {
            name: type_coerce(value, JSON(none_as_null=True))
            if isinstance(value, dict | list)
            else value
            for name, value in values.items()
        }
        with self.store.engine.begin() as connection:
            query = update(table).where(table.c.id == row.id).values(**raw)
            assert connection.execute(query).rowcount == 1

    def say(self, lease: Lease, **changes: Any) -> None:
        """Rewrite part of what a worker reported."""
        assert lease.receipt
        self.set(lease, receipt=lease.receipt.model_dump(mode="json") | changes)

    def renders(self) -> list[Lease]:
        """Return the accepted leases of render units."""
        found: list[Lease] = self.of(Lease, kind=UnitKind.RENDER, outcome=Outcome.DONE)
        return found

    def allowance(self) -> Allowance:
        """Return the allowance that the job counts against."""
        with self.store.read() as tx:
            found = tx.get(Allowance, self.job.allowance_id)
        assert found
        return found

    def unit(self, kind: UnitKind = UnitKind.RENDER) -> Unit:
        """Return a done unit."""
        found: Unit = self.of(Unit, kind=kind)[0]
        return found


def no_digests(by: Tamperer) -> str:
    """The digests of frames are cut from a receipt."""
    lease = by.renders()[0]
    by.say(lease, frame_sha256=[])
    return f"I10: lease {lease.id} has {lease.frames_done} frames and other digests of them"


def a_digest_that_is_none(by: Tamperer) -> str:
    """One digest of a frame becomes a word."""
    lease = by.renders()[0]
    by.say(lease, frame_sha256=["f" * 64] * (lease.frames_done - 1) + ["F" * 64])
    return f"I10: lease {lease.id} has {lease.frames_done} frames and other digests of them"


def no_files(by: Tamperer) -> str:
    """The files are cut from a receipt."""
    lease = by.renders()[0]
    by.say(lease, artifacts=[])
    return f"I10: the receipt of lease {lease.id} lacks files of its render"


def another_figure(by: Tamperer) -> str:
    """A receipt says that less was measured."""
    lease = by.renders()[0]
    by.say(lease, gpu_ms=1)
    return f"I6: lease {lease.id} and its receipt are not what its entries digested"


def no_receipt(by: Tamperer) -> str:
    """A receipt is gone."""
    lease = by.renders()[0]
    by.set(lease, receipt=None)
    return f"I6: lease {lease.id} has no receipt"


def a_receipt_that_is_none(by: Tamperer) -> str:
    """A receipt is no object any more."""
    lease = by.renders()[0]
    by.set(lease, receipt=["nothing"])
    return f"I6: lease {lease.id} and its receipt are not what its entries digested"


def no_frames(by: Tamperer) -> str:
    """A lease forgets its frames."""
    lease = by.renders()[0]
    by.set(lease, frames_done=0)
    return f"I10: unit {lease.unit_id} has other frames than the lease that it accepted"


def a_strangers_lease(by: Tamperer) -> str:
    """A render unit accepts what the parse unit did."""
    unit, plan = by.unit(), by.unit(UnitKind.PARSE)
    by.set(unit, accepted_lease_id=plan.accepted_lease_id)
    return f"I5: unit {unit.id} accepted a lease that is another unit's"


def a_failed_lease(by: Tamperer) -> str:
    """A unit accepts a lease that failed."""
    lease = by.renders()[0]
    by.set(lease, outcome=Outcome.FAILED)
    return f"I5: unit {lease.unit_id} accepted a lease that is failed"


def a_lapsed_lease(by: Tamperer) -> str:
    """A unit accepts a lease of a lost worker."""
    lease = by.renders()[0]
    by.set(lease, state=LeaseState.LAPSED)
    return f"I5: unit {lease.unit_id} accepted a lease that is lapsed"


def no_lease_at_all(by: Tamperer) -> str:
    """A unit accepts a lease that there never was; what else is wrong is told all the same."""
    unit, other = by.unit(), by.unit(UnitKind.PARSE)
    by.set(unit, accepted_lease_id="lea_none")
    by.set(other, fence=7)
    assert f"I5: the fence of unit {other.id} is not that of its newest lease" in found(by)
    return f"I5: unit {unit.id} accepted a lease that there is not"


def a_lower_fence(by: Tamperer) -> str:
    """A unit's fence is lowered, so that an old holder fits again."""
    unit = by.unit()
    by.set(unit, fence=0)
    return f"I5: the fence of unit {unit.id} is not that of its newest lease"


def a_unit_let_go(by: Tamperer) -> str:
    """A unit says that somebody has it."""
    unit = by.unit()
    by.set(unit, state="leased", accepted_lease_id=None)
    return f"I5: unit {unit.id} is leased and has 0 open leases"


def a_failure_that_is_charged(by: Tamperer) -> str:
    """A failure of the worker's is charged."""
    lease = by.of(Lease, outcome=Outcome.FAILED)[0]
    by.set(lease, settled_gpu_ms=1)
    return f"I11: lease {lease.id} failed by the fault of the worker and was charged"


def a_stop_that_is_charged(by: Tamperer) -> str:
    """A stop that left nothing is charged, and nobody cancelled."""
    lease = by.of(Lease, outcome=Outcome.STOPPED)[0]
    by.set(lease, settled_gpu_ms=1)
    return f"I11: lease {lease.id} stopped with nothing to keep and was charged"


def a_failed_job_that_is_charged(by: Tamperer) -> str:
    """A job that the farm could not do keeps its charges."""
    by.set(by.job, state=JobState.FAILED, error={"code": "unit_failed", "message": "", "next": ""})
    return f"I11: job {by.job.id} failed by the farm's fault and is still charged"


def a_job_that_ran_too_far(by: Tamperer) -> str:
    """A job ran on beyond where the farm ends it."""
    spent = by.job.spent_gpu_ms
    by.set(by.job, ceiling_gpu_ms=spent, runaway_gpu_ms=spent - 1)
    return f"I16: job {by.job.id} ran on beyond where the farm ends it"


def time_over_no_quote(by: Tamperer) -> str:
    """A metered job says that the farm bore some of its time."""
    by.set(by.job, over_quote_gpu_ms=5)
    return f"I16: job {by.job.id} is metered and has time over its quote"


def a_lease_over_its_quote(by: Tamperer) -> str:
    """A lease says so of which no entry does."""
    lease = by.renders()[0]
    by.set(lease, over_quote_gpu_ms=5)
    return f"I16: lease {lease.id} ran over its quote for something else than its entry says"


def a_job_over_its_quote(by: Tamperer) -> str:
    """A job says so of which its leases do not."""
    by.set(by.job, ceiling_gpu_ms=10**6, runaway_gpu_ms=10**6, over_quote_gpu_ms=5)
    return f"I16: job {by.job.id} ran over its quote for something else than its leases"


def a_run_away_that_is_charged(by: Tamperer) -> str:
    """A job that was made for nothing keeps its charges."""
    by.set(by.job, ran_away=True)
    return f"I11: job {by.job.id} failed by the farm's fault and is still charged"


def a_refund_that_was_none(by: Tamperer) -> str:
    """A job says that it got something back."""
    by.set(by.job, refunded_gpu_ms=77)
    return f"I13: job {by.job.id} was refunded something else than its entries say"


def three_leases_at_once(by: Tamperer) -> str:
    """Three leases of one device in one second, each paid for most of it."""
    first, *others = by.renders()[1:4]
    for lease in others:
        by.set(lease, granted_at_ms=first.granted_at_ms, resolved_at_ms=first.resolved_at_ms)
    return f"I9: worker {first.worker_id} was paid twice for one time, by lease {others[0].id}"


def an_open_lease_of_nothing(by: Tamperer) -> str:
    """A job has ended and somebody may still report, be it at no cost."""
    lease = by.of(Lease, outcome=Outcome.STOPPED)[0]
    by.set(lease, state=LeaseState.OPEN, resolved_at_ms=None, gpu_ms_limit=0)
    return f"I7: lease {lease.id} is open and its job has ended"


def a_gift(by: Tamperer) -> str:
    """A settlement has no price."""
    entry = by.of(Entry, kind=EntryKind.SETTLE)[0]
    by.set(entry, price_microusd=0)
    return f"I13: lease {entry.lease_id} has another price on its receipt than in its entries"


def no_rate_card(by: Tamperer) -> str:
    """A settlement names no rate card."""
    entry = by.of(Entry, kind=EntryKind.SETTLE)[0]
    by.set(entry, rates="")
    return "I13: there is no rate card '' any more, by which entries were priced"


def another_loss(by: Tamperer) -> str:
    """One lease's loss is said to be another's."""
    lease = by.of(Lease, outcome=Outcome.FAILED)[0]
    by.set(lease, lost_gpu_ms=0)
    by.set(by.renders()[0], lost_gpu_ms=lease.lost_gpu_ms)
    return f"I2: lease {lease.id} lost something else than its entries say"


def a_loss_of_more_than_its_time(by: Tamperer) -> str:
    """A lease of a second lost an hour."""
    lease = by.of(Lease, outcome=Outcome.FAILED)[0]
    by.set(lease, lost_gpu_ms=3_600_000)
    return f"I9: lease {lease.id} lost more than the time the farm saw"


def another_video(by: Tamperer) -> str:
    """The owner is told of another file than was brought."""
    files = {n: asdict(file) | {"sha256": "0" * 64} for n, file in by.job.artifacts.items()}
    by.set(by.job, artifacts=files)
    return f"I10: the files of job {by.job.id} are not those that its encode unit brought"


def no_video(by: Tamperer) -> str:
    """A job that succeeded has no files."""
    by.set(by.job, artifacts={})
    return f"I10: the files of job {by.job.id} are not those that its encode unit brought"


def _kept(by: Tamperer, change: str, *, span_ms: int) -> int:
    """Change the sums of an hour or a day; return when that begins."""
    from_ms = START_MS // span_ms * span_ms
    with by.store.engine.begin() as connection:
        of = {"span": span_ms, "start": from_ms}
        where = "WHERE span_ms = :span AND from_ms = :start"
        assert connection.execute(text(f"{change} {where}"), of).rowcount > 0
    return from_ms


def a_dearer_day(by: Tamperer) -> str:
    """A day's sums say more than its leases were charged."""
    from_ms = _kept(by, "UPDATE usage_sums SET gpu_ms = gpu_ms + 1", span_ms=usage.DAY_MS)
    return (
        f"I15: the usage of session {by.job.session_id} in the day from {from_ms} is kept as "
        "something else than its leases add up to"
    )


def an_hour_without_sums(by: Tamperer) -> str:
    """The sums of an hour are gone, in which units were charged."""
    from_ms = _kept(by, "DELETE FROM usage_sums", span_ms=usage.HOUR_MS)
    return (
        f"I15: the usage of session {by.job.session_id} in the hour from {from_ms} is kept as "
        "something else than its leases add up to"
    )


def an_allowance_that_forgets(by: Tamperer) -> str:
    """A key says that its jobs were charged less."""
    key = by.allowance()
    by.set(key, spent_gpu_ms=key.spent_gpu_ms - 1)
    return f"I14: key {key.id} spent something else than its jobs' entries say"


def an_allowance_that_holds_nothing(by: Tamperer) -> str:
    """A key says that its jobs hold something."""
    key = by.allowance()
    by.set(key, held_gpu_ms=1)
    return f"I14: key {key.id} holds something else than its jobs together"


def an_allowance_that_is_passed(by: Tamperer) -> str:
    """A key's allowance is made less than its jobs were charged."""
    key = by.allowance()
    by.set(key, limit_gpu_ms=1, spent_gpu_ms=0)
    return f"I14: key {key.id} holds and spent more than its allowance"


def a_job_outside_its_allowance(by: Tamperer) -> str:
    """A job of a key with an allowance counts against none."""
    by.set(by.job, allowance_id=None)
    return f"I14: job {by.job.id} does not count against the allowance of its key"


TAMPERED: tuple[Callable[[Tamperer], str], ...] = (
    no_digests,
    a_digest_that_is_none,
    no_files,
    another_figure,
    no_receipt,
    a_receipt_that_is_none,
    no_frames,
    a_strangers_lease,
    a_failed_lease,
    a_lapsed_lease,
    no_lease_at_all,
    a_lower_fence,
    a_unit_let_go,
    a_failure_that_is_charged,
    a_stop_that_is_charged,
    a_failed_job_that_is_charged,
    a_job_that_ran_too_far,
    time_over_no_quote,
    a_lease_over_its_quote,
    a_job_over_its_quote,
    a_run_away_that_is_charged,
    a_refund_that_was_none,
    three_leases_at_once,
    an_open_lease_of_nothing,
    a_gift,
    no_rate_card,
    another_loss,
    a_loss_of_more_than_its_time,
    another_video,
    no_video,
    a_dearer_day,
    an_hour_without_sums,
    an_allowance_that_forgets,
    an_allowance_that_holds_nothing,
    an_allowance_that_is_passed,
    a_job_outside_its_allowance,
)


@pytest.fixture
def by(farm: Farm, store: Store, clock: Clock) -> Tamperer:
    """A farm with a finished job that failed and stopped once on its way."""
    hand = Hand(farm, clock)
    job = submit(farm, brief(seconds=8.0), asker=bound_key(farm, gpu_ms=10**6))
    for _ in range(2):
        order = hand.claim()
        assert order
        hand.done(order)
    for outcome, cause in ((Outcome.FAILED, Cause.WORKER), (Outcome.STOPPED, None)):
        order = hand.claim()
        assert order
        clock.advance(1)
        hand.complete(order, outcome, cause=cause)
    hand.work_off(600)
    ended = jobs.get(farm, None, job.id)
    assert ended.state is JobState.SUCCEEDED
    assert check.violations(farm) == []
    return Tamperer(farm, store, ended)


def found(by: Tamperer) -> list[str]:
    """Return what the checker says."""
    return check.violations(by.farm)


@pytest.mark.parametrize("tampered", TAMPERED, ids=lambda tampered: tampered.__name__)
def test_what_was_tampered_with_is_named(by: Tamperer, tampered: Callable[[Tamperer], str]) -> None:
    """Each change of a row that breaks an invariant is told by that invariant's number."""
    expected = tampered(by)
    assert expected in found(by)


def test_a_refund_is_of_the_settlement(farm: Farm, store: Store, clock: Clock) -> None:
    """A lease cannot be refunded something else than it was settled for, nor at another price."""
    hand = Hand(farm, clock)
    job = submit(farm)
    order = hand.claim()
    assert order
    hand.done(order)
    for _ in range(farm.terms.max_attempts):
        order = hand.claim()
        assert order
        clock.advance(1)
        hand.complete(order, Outcome.FAILED, cause=Cause.FARM)
    assert check.violations(farm) == []
    by = Tamperer(farm, store, jobs.get(farm, None, job.id))
    assert by.job.refunded_gpu_ms
    (refund,) = by.of(Entry, kind=EntryKind.REFUND)
    wrong = f"I3: lease {refund.lease_id} was refunded something else than it was settled for"
    by.set(refund, gpu_ms=refund.gpu_ms - 1)
    assert wrong in found(by)
    by.set(refund, gpu_ms=refund.gpu_ms)
    assert wrong not in found(by)
    by.set(by.job, error=None)
    assert f"I2: job {by.job.id} was refunded, although the farm did not fail it" in found(by)


def test_a_receipt_is_read_as_it_is_stored(by: Tamperer) -> None:
    """The JSON of every lease comes with its id, once."""
    with by.store.read() as tx:
        told = dict(tx.books.receipts())
        leases = tx.find(Lease)
    assert sorted(told) == [lease.id for lease in leases]
    assert all('"frame_sha256"' in (receipt or "") for receipt in told.values())
    with by.store.engine.connect() as connection:
        assert len(connection.execute(select(TABLES[Lease].c.id)).all()) == len(told)
