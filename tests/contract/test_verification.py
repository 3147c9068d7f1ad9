"""Bills that anyone can check: receipts recomputed from the ledger, and every way to bend one."""

from collections import Counter
from dataclasses import replace

import pytest
from sqlalchemy import text

from orchestrator.farm import Farm, check
from orchestrator.farm.accounts import sessions
from orchestrator.farm.books import receipts, verification
from orchestrator.farm.leases import worker_calls
from orchestrator.model import Entry, Job, Json, Session, Worker
from orchestrator.money import ledger
from orchestrator.money.hash_chain import chained
from orchestrator.money.rates import RateCard, Rates
from orchestrator.states import Cause, EntryKind, Outcome
from orchestrator.store import Store
from orchestrator.wire import ReleaseRequest
from tests.factories import START_MS, Clock, Hand, account_id, brief, submit


def bill(farm: Farm, clock: Clock) -> Job:
    """Return a finished job with a failure, a unit handed back and a model load on its bill."""
    sessions.create(farm, account_id=account_id(farm), name="billed", budget_gpu_ms=60_000)
    job = submit(farm, brief(), session="billed")
    hand = Hand(farm, clock)
    order = hand.claim()
    assert order
    hand.done(order, 12)
    order = hand.claim()
    assert order
    clock.advance(1)
    hand.complete(order, Outcome.FAILED, gpu_ms=70, cause=Cause.WORKER)
    order = hand.claim()
    assert order
    clock.advance(1)
    worker_calls.release(
        farm, hand.id, ReleaseRequest(lease_id=order.lease_id, fence=order.fence, gpu_ms=30)
    )
    order = hand.claim()
    assert order
    clock.advance(1)
    hand.complete(order, Outcome.DONE, gpu_ms=200, load_gpu_ms=500)
    hand.work_off()
    return job


def tamper(store: Store, statement: str, **values: object) -> None:
    """Change rows as somebody with the database's password would: triggers first."""
    with store.engine.begin() as connection:
        if store.engine.dialect.name == "sqlite":
            connection.execute(text("DROP TRIGGER IF EXISTS entries_no_update"))
            connection.execute(text("DROP TRIGGER IF EXISTS entries_no_delete"))
        else:
            connection.execute(text("ALTER TABLE entries DISABLE TRIGGER USER"))
        assert connection.execute(text(statement), values).rowcount == 1


def entries(farm: Farm, job: Job) -> list[Entry]:
    """Return the entries of the job's session, oldest first."""
    with farm.store.read() as tx:
        return tx.find(Entry, session_id=job.session_id, order="number")


def fault(farm: Farm, job: Job) -> Json:
    """Return what is wrong with a job's bill."""
    told = verification.verify(farm, None, job.id)
    assert told["ok"] is False
    found: Json = told["fault"]
    return found


def test_an_honest_bill_is_computed_anew(farm: Farm, clock: Clock) -> None:
    """The entries add up to the receipt: charged, lost, priced; the checker agrees."""
    job = bill(farm, clock)
    told = verification.verify(farm, None, job.id)
    shown = receipts.receipt(farm, None, job.id)
    assert told["ok"], told
    assert told["fault"] is None
    assert told["checked"]["gpu_ms"] == shown["gpu_ms"] > 0
    assert told["checked"]["lost_gpu_ms"] == shown["lost_gpu_ms"] == 600
    assert told["checked"]["price_microusd"] == shown["price_microusd"] > 0
    assert told["checked"]["leases"] == len(shown["lines"])
    assert check.violations(farm) == []


def test_a_receipt_says_what_was_not_charged_and_why(farm: Farm, clock: Clock) -> None:
    """A failure, a unit handed back and a model load stand on the bill at nothing."""
    shown = receipts.receipt(farm, None, bill(farm, clock).id)
    assert {lost["why"]: lost["gpu_ms"] for lost in shown["not_charged"]} == {
        "model load and checkpoints": 500,
        "failed: worker": 70,
        "handed back": 30,
    }
    assert shown["rates"] == ["2026-11"]
    attempts = [line["attempt"] for line in shown["lines"] if line["not_charged"]]
    assert attempts == [1, 2, 3]
    assert shown["energy_mj"] is None


@pytest.mark.parametrize(
    "change",
    [
        "gpu_ms = gpu_ms - 1",
        "note = 'a gift'",
        "price_microusd = 0",
        "at_ms = at_ms + 1",
        "credit = 'spent:somebody'",
        "receipt_sha256 = ''",
    ],
)
def test_a_changed_entry_is_named(farm: Farm, clock: Clock, store: Store, change: str) -> None:
    """Whatever of an entry is changed behind the triggers' back, the audit names that entry."""
    job = bill(farm, clock)
    victim = next(e for e in entries(farm, job) if e.kind is EntryKind.SETTLE)
    tamper(store, f"UPDATE entries SET {change} WHERE id = :id", id=victim.id)
    found = fault(farm, job)
    assert (found["entry_id"], found["number"]) == (victim.id, victim.number)
    assert any(victim.id in line for line in check.violations(farm))


def test_an_entry_taken_out_is_missed(farm: Farm, clock: Clock, store: Store) -> None:
    """The entry after a missing one is named."""
    job = bill(farm, clock)
    chain = entries(farm, job)
    tamper(store, "DELETE FROM entries WHERE id = :id", id=chain[3].id)
    assert fault(farm, job)["entry_id"] == chain[4].id


def test_a_chain_that_is_cut_off_is_missed(farm: Farm, clock: Clock, store: Store) -> None:
    """Without its newest entry the chain does not reach what the session says."""
    job = bill(farm, clock)
    chain = entries(farm, job)
    tamper(store, "DELETE FROM entries WHERE id = :id", id=chain[-1].id)
    found = fault(farm, job)
    assert found["entry_id"] is None
    assert f"{len(chain)} entries" in found["why"]


def test_a_chain_digested_anew_still_does_not_fit_the_sums(
    farm: Farm, clock: Clock, store: Store
) -> None:
    """Whoever rewrites an entry and every digest after it is betrayed by lease, job and price."""
    job = bill(farm, clock)
    chain = entries(farm, job)
    victim = next(e for e in chain if e.kind is EntryKind.SETTLE)
    session = Session(id=job.session_id, account_id="a", name="n", limit_gpu_ms=0, created_at_ms=0)
    for entry in chain:
        cheaper = replace(entry, gpu_ms=entry.gpu_ms - 1) if entry == victim else entry
        session, forged = chained(session, cheaper)
        tamper(
            store,
            "UPDATE entries SET gpu_ms = :ms, previous_sha256 = :before, sha256 = :own "
            "WHERE id = :id",
            ms=forged.gpu_ms,
            before=forged.previous_sha256,
            own=forged.sha256,
            id=forged.id,
        )
    tamper(
        store,
        "UPDATE sessions SET head_sha256 = :head WHERE id = :id",
        head=session.head_sha256,
        id=session.id,
    )
    assert "entries" in fault(farm, job)["why"]
    assert any(line.startswith("I2") for line in check.violations(farm))


def forge(farm: Farm, store: Store, job: Job, cheaper_by: int) -> None:
    """Rewrite the whole ledger of a session consistently: sums, rows, every digest, the head."""
    chain = entries(farm, job)
    victim = next(e for e in chain if e.kind is EntryKind.GRANT)
    session = Session(id=job.session_id, account_id="a", name="n", limit_gpu_ms=0, created_at_ms=0)
    for entry in chain:
        other = replace(entry, gpu_ms=entry.gpu_ms - cheaper_by) if entry == victim else entry
        session, forged = chained(session, other)
        tamper(
            store,
            "UPDATE entries SET gpu_ms = :ms, previous_sha256 = :before, sha256 = :own "
            "WHERE id = :id",
            ms=forged.gpu_ms,
            before=forged.previous_sha256,
            own=forged.sha256,
            id=forged.id,
        )
    tamper(
        store,
        "UPDATE sessions SET head_sha256 = :head, limit_gpu_ms = limit_gpu_ms - :by WHERE id = :id",
        head=session.head_sha256,
        by=cheaper_by,
        id=session.id,
    )


def test_a_head_that_was_kept_shows_a_whole_forgery(farm: Farm, clock: Clock, store: Store) -> None:
    """A rewriting unseen inside is seen by a digest outside: it is in the new chain no more."""
    job = bill(farm, clock)
    kept = sessions.get(farm, None, job.session_id).head_sha256
    submit(farm, session="billed")  # the chain goes on after the kept head
    told = verification.verify_ledger(farm, None, job.session_id, kept)
    assert told["ok"], told["fault"]
    assert told["head_sha256"] != kept
    forge(farm, store, job, 5)
    assert verification.verify_ledger(farm, None, job.session_id, None)["ok"], (
        "consistent in itself"
    )
    told = verification.verify_ledger(farm, None, job.session_id, kept)
    assert "the digest that you kept" in told["fault"]["why"]


def test_a_session_that_says_something_else_than_its_ledger(
    farm: Farm, clock: Clock, store: Store
) -> None:
    """Balances on the session's row are held against its entries, and so is the chain."""
    job = bill(farm, clock)
    told = verification.verify_ledger(farm, None, job.session_id, None)
    shown = receipts.receipt(farm, None, job.id)
    assert told["checked"]["spent_gpu_ms"] == shown["gpu_ms"]
    assert told["checked"]["price_microusd"] == shown["price_microusd"]
    tamper(
        store,
        "UPDATE sessions SET limit_gpu_ms = limit_gpu_ms + 1 WHERE id = :id",
        id=job.session_id,
    )
    assert (
        "available" in verification.verify_ledger(farm, None, job.session_id, None)["fault"]["why"]
    )
    tamper(store, "UPDATE entries SET note = 'x' WHERE number = 2 AND session_id = :id",
           id=job.session_id)  # fmt: skip
    assert verification.verify_ledger(farm, None, job.session_id, None)["fault"]["number"] == 2


def test_a_changed_report_is_named(farm: Farm, clock: Clock, store: Store) -> None:
    """A worker's measurements cannot be replaced either: their digest stands in the ledger."""
    job = bill(farm, clock)
    settled = [e for e in entries(farm, job) if e.kind is EntryKind.SETTLE]
    tamper(
        store,
        "UPDATE leases SET receipt = :json WHERE id = :id",
        json='{"gpu_ms": 1}',
        id=settled[1].lease_id,
    )
    found = fault(farm, job)
    assert "what was reported" in found["why"]
    of_lease = [e.id for e in entries(farm, job) if e.lease_id == settled[1].lease_id]
    assert found["entry_id"] == of_lease[0]


@pytest.mark.parametrize(
    "change",
    [
        "fence = fence + 7",
        "frames_done = frames_done + 1",
        "outcome = 'stopped'",
        "worker_id = :other",
        "worker_name = 'somebody'",
        "device = 'cuda:0'",
        "device_class = 'nvidia-t4'",
        "kind = 'encode'",
    ],
)
@pytest.mark.parametrize("kind", [EntryKind.SETTLE, EntryKind.LOSS])
def test_a_changed_lease_is_named(
    farm: Farm, clock: Clock, store: Store, kind: EntryKind, change: str
) -> None:
    """Worker, device, attempt and end of a lease stand under its entries."""
    job = bill(farm, clock)
    other = Hand(farm, clock, name="other").id
    victim = next(e for e in entries(farm, job) if e.kind is kind and e.gpu_ms != 12)
    values = {"id": victim.lease_id} | ({"other": other} if ":other" in change else {})
    tamper(store, f"UPDATE leases SET {change} WHERE id = :id", **values)
    found = fault(farm, job)
    assert "its lease was changed" in found["why"]
    of_lease = [e.id for e in entries(farm, job) if e.lease_id == victim.lease_id]
    assert found["entry_id"] == of_lease[0]


def test_a_worker_that_comes_back_as_another_changes_no_bill(farm: Farm, clock: Clock) -> None:
    """A receipt names the device as it was: a new name or class leaves bill and price alone."""
    job = bill(farm, clock)
    before = receipts.receipt(farm, None, job.id)
    with farm.store.write() as tx:
        for worker in tx.find(Worker):
            tx.save(worker, replace(worker, name="renamed", device_class="nvidia-t4"))
    assert receipts.receipt(farm, None, job.id) == before
    assert verification.verify(farm, None, job.id)["ok"]
    assert check.violations(farm) == []


def broken_bill(farm: Farm, clock: Clock) -> Job:
    """Return a job that the farm could not finish: what it was charged was given back."""
    job = submit(farm)
    hands = [Hand(farm, clock, name=name) for name in ("one", "two")]
    order = hands[0].claim()
    assert order
    hands[0].done(order, 12)
    for attempt in range(farm.terms.max_attempts):
        hand = hands[attempt % 2]
        order = hand.claim()
        assert order
        clock.advance(1)
        hand.complete(order, Outcome.FAILED, gpu_ms=70, cause=Cause.FARM)
    return job


def test_money_is_what_receipts_cost(farm: Farm, clock: Clock) -> None:
    """Revenue is the sum of all receipts, each session owes its own, refunds went back, and all
    money together is 0."""
    jobs = [bill(farm, clock), broken_bill(farm, clock)]
    shown = {job.session_id: receipts.receipt(farm, None, job.id) for job in jobs}
    balances: Counter[str] = Counter()
    moved = 0
    for job in jobs:
        for entry in entries(farm, job):
            leg = ledger.money(entry)
            assert (leg is None) == (entry.price_microusd == 0)
            if leg:
                balances[leg.credit] += leg.microusd
                balances[leg.debit] -= leg.microusd
                moved += leg.microusd
    assert balances.total() == 0
    assert balances["revenue"] == sum(told["price_microusd"] for told in shown.values())
    for session_id, told in shown.items():
        assert balances[f"receivable:{session_id}"] == -told["price_microusd"]
    assert shown[jobs[1].session_id]["price_microusd"] == 0
    assert moved == balances["revenue"] + 2, "a settlement of 1 micro-USD and its refund"
    assert check.violations(farm) == []


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE entries SET price_microusd = price_microusd + 1 WHERE id = :settle", "revenue"),
        ("UPDATE entries SET price_microusd = -1 WHERE id = :settle", "no entry of its kind"),
        ("UPDATE entries SET price_microusd = 0 WHERE id = :refund", "lease"),
        ("UPDATE leases SET device_class = 'nvidia-a100' WHERE id = :lease", "lease"),
        ("UPDATE jobs SET refunded_gpu_ms = 13 WHERE id = :broken", "refunded"),
        ("UPDATE jobs SET refunded_gpu_ms = 13 WHERE id = :job", "refunded"),
    ],
)
def test_money_that_does_not_add_up_is_told(
    farm: Farm, clock: Clock, store: Store, change: str, said: str
) -> None:
    """I13: a price, a class or a refund that somebody changed shows in the check of the money."""
    job, broken = bill(farm, clock), broken_bill(farm, clock)
    settle = next(e for e in entries(farm, job) if e.kind is EntryKind.SETTLE)
    refund = next(e for e in entries(farm, broken) if e.kind is EntryKind.REFUND)
    named = {
        "settle": settle.id, "refund": refund.id, "lease": settle.lease_id, "broken": broken.id,
        "job": job.id,
    }  # fmt: skip
    tamper(store, change, **{k: v for k, v in named.items() if f":{k}" in change.split()})
    told = [line for line in check.violations(farm) if line.startswith("I13")]
    assert any(said in line for line in told), told
    if "jobs" in change:
        victim = broken if ":broken" in change else job
        assert "refunded" in fault(farm, victim)["why"]


def test_what_was_settled_keeps_its_price(farm: Farm, clock: Clock) -> None:
    """A new rate card prices what comes; a receipt with both names both and still verifies."""
    old = farm.rates.cards[0]
    new = RateCard(
        version="2027-02", from_ms=START_MS + 3_000, price={"otherwise": 1000}, cost=old.cost
    )
    changed = replace(farm, rates=Rates((old, new)))
    job = submit(changed)
    hand = Hand(changed, clock)
    for _ in range(3):
        order = hand.claim()
        assert order
        hand.done(order, 100, seconds=1.6)
    shown = receipts.receipt(changed, None, job.id)
    assert shown["rates"] == ["2026-11", "2027-02"]
    assert [line["price_microusd"] for line in shown["lines"]] == [2, 100, 100]
    assert verification.verify(changed, None, job.id)["ok"]


def test_sessions_have_chains_of_their_own(farm: Farm, clock: Clock) -> None:
    """Each session counts from 1, and its row names its newest entry."""
    first, second = bill(farm, clock), submit(farm)
    for job in (first, second):
        chain = entries(farm, job)
        assert [e.number for e in chain] == list(range(1, len(chain) + 1))
        session = sessions.get(farm, None, job.session_id)
        assert (session.entries, session.head_sha256) == (len(chain), chain[-1].sha256)
