"""The ledger's arithmetic under every order of movements (T2 of docs/reliability.md)."""

from collections import Counter
from dataclasses import replace
from itertools import count

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from orchestrator.errors import BudgetExceeded
from orchestrator.model import Entry, Job, Month, Session
from orchestrator.money import hash_chain, ledger, monthly
from orchestrator.money.ledger import Movement
from orchestrator.states import EntryKind, JobState

CHANGES: tuple[dict[str, object], ...] = (
    {"gpu_ms": 1},
    {"note": "changed"},
    {"credit": "spent:other"},
    {"job_id": "j999"},
    {"at_ms": 1},
    {"price_microusd": 1},
    {"number": 1},
    {"previous_sha256": ""},
    {"sha256": "0" * 64},
)
amounts = st.integers(min_value=1, max_value=10_000)


def job(name: str, cap: int | None) -> Job:
    """Return a job that holds nothing yet."""
    return Job(
        id=name,
        account_id="a",
        session_id="s",
        month_id="m",
        state=JobState.RENDERING,
        brief={},
        render_plan={},
        quote={},
        model="m",
        width=2,
        height=2,
        fps=1,
        steps=1,
        seed=0,
        frames_total=1,
        cap_gpu_ms=cap,
        created_at_ms=0,
    )


class LedgerMachine(RuleBasedStateMachine):
    """One session and its jobs; rules are the ledger's movements in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.session = Session(id="s", account_id="a", name="s", limit_gpu_ms=0, created_at_ms=0)
        self.month = Month(id="a.2026-11", account_id="a", plan="t")
        self.jobs: dict[str, Job] = {}
        self.entries: list[Entry] = []
        self.leases: list[tuple[str, int]] = []
        self.failed: set[str] = set()
        self.owed: Counter[str] = Counter()
        """Micro-USD by job, as whoever reads the bills would add them up."""
        self.ids = (f"e{n}" for n in count())

    def move(self, movement: Movement) -> None:
        """Take over a movement as the farm does: first the account's month, which may refuse."""
        if movement.entry and movement.entry.month_id:
            self.month = monthly.follow(self.month, movement.entry)
        self.session = movement.session
        if movement.job:
            self.jobs[movement.job.id] = movement.job
        if movement.entry:
            self.entries.append(movement.entry)

    def try_to(self, movement: Movement) -> None:
        """Take over a hold, unless the month has too little left."""
        entry = movement.entry
        assert entry
        room = self.month.available_gpu_ms
        try:
            self.move(movement)
        except BudgetExceeded:
            assert room is not None
            assert entry.gpu_ms > room

    @initialize(budget=amounts)
    def open_session(self, budget: int) -> None:
        """A session opens with a budget."""
        self.move(
            ledger.give(self.session, budget, entry_id=next(self.ids), now_ms=0, top_up=False)
        )

    @rule(gpu_ms=amounts)
    def top_up(self, gpu_ms: int) -> None:
        """Its limit is raised."""
        self.move(ledger.give(self.session, gpu_ms, entry_id=next(self.ids), now_ms=0, top_up=True))

    @rule(cap=st.none() | st.integers(0, 20_000))
    def change_plan(self, cap: int | None) -> None:
        """The account gets a plan with another cap, which may lie below what is in use."""
        self.month = monthly.capped(self.month, cap)

    @rule(gpu_ms=amounts)
    def take(self, gpu_ms: int) -> None:
        """Its limit is lowered by what is there."""
        some = min(gpu_ms, self.session.available_gpu_ms)
        self.move(ledger.take(self.session, some, entry_id=next(self.ids), now_ms=0))

    @rule(gpu_ms=amounts, cap=st.none() | amounts)
    def submit(self, gpu_ms: int, cap: int | None) -> None:
        """A job is submitted, or refused without a trace."""
        new = job(f"j{len(self.jobs)}", cap)
        try:
            movement = ledger.hold(
                self.session, new, gpu_ms, entry_id=next(self.ids), now_ms=0, first=True
            )
        except BudgetExceeded as refused:
            assert gpu_ms > refused.data["available_gpu_ms"]
        else:
            self.try_to(movement)

    @precondition(lambda self: self.jobs)
    @rule(data=st.data(), p90=amounts, floor=amounts, reserve=st.integers(0, 2_000))
    def grant(self, data: st.DataObject, p90: int, floor: int, reserve: int) -> None:
        """A lease is granted within the hold, which grows where it can."""
        name = data.draw(st.sampled_from(sorted(self.jobs)))
        held = self.jobs[name]
        limit = ledger.lease_limit(
            self.session,
            held,
            self.month,
            None,
            open_gpu_ms=sum(ms for owner, ms in self.leases if owner == name),
            reserve_gpu_ms=reserve,
            p90_gpu_ms=p90,
            minimum_gpu_ms=floor,
            margin=1.5,
        )
        if limit.extend_gpu_ms:
            self.move(
                ledger.hold(
                    self.session,
                    held,
                    limit.extend_gpu_ms,
                    entry_id=next(self.ids),
                    now_ms=0,
                    first=False,
                )
            )
        if limit.gpu_ms:
            assert limit.gpu_ms >= floor
            self.leases.append((name, limit.gpu_ms))

    @precondition(lambda self: self.leases)
    @rule(
        data=st.data(),
        reported=st.integers(0, 100_000),
        seen=st.integers(0, 100_000),
        microusd=st.integers(0, 500),
    )
    def settle(self, data: st.DataObject, reported: int, seen: int, microusd: int) -> None:
        """A lease ends, whatever its worker says it used; a GPU-ms costs so much, or nothing."""
        lease = data.draw(st.sampled_from(sorted(self.leases)))
        self.leases.remove(lease)
        name, limit = lease
        charged = ledger.charge(reported_gpu_ms=reported, limit_gpu_ms=limit, seen_gpu_ms=seen)
        assert charged <= min(reported, limit, seen)
        self.move(
            ledger.settle(
                self.session,
                self.jobs[name],
                charged,
                lease_id="l",
                entry_id=next(self.ids),
                now_ms=0,
                price_microusd=charged * microusd,
            )
        )
        self.owed[name] += charged * microusd

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """A job without open leases ends and gives its hold back."""
        name = data.draw(st.sampled_from(sorted(self.jobs)))
        if all(owner != name for owner, _ in self.leases):
            self.move(
                ledger.release(self.session, self.jobs[name], entry_id=next(self.ids), now_ms=0)
            )
            assert self.jobs[name].held_gpu_ms == 0

    @precondition(lambda self: self.jobs)
    @rule(data=st.data())
    def fail(self, data: st.DataObject) -> None:
        """A job without open leases fails by the farm's fault and gets all back."""
        name = data.draw(st.sampled_from(sorted(self.jobs)))
        if name not in self.failed and all(owner != name for owner, _ in self.leases):
            self.move(
                ledger.release(self.session, self.jobs[name], entry_id=next(self.ids), now_ms=0)
            )
            before = self.session.available_gpu_ms + self.jobs[name].spent_gpu_ms
            settled = [e for e in self.entries if e.job_id == name and e.kind is EntryKind.SETTLE]
            for entry in settled:
                self.move(
                    ledger.refund(
                        self.session, self.jobs[name], entry, entry_id=next(self.ids), now_ms=0
                    )
                )
            self.failed.add(name)
            self.owed[name] = 0
            assert self.session.available_gpu_ms == before
            assert self.jobs[name].spent_gpu_ms == 0

    @invariant()
    def never_overspent(self) -> None:
        """I1: held + spent never exceeds the limit, and nothing is negative."""
        s = self.session
        assert min(s.available_gpu_ms, s.held_gpu_ms, s.spent_gpu_ms) >= 0

    @invariant()
    def months_hold(self) -> None:
        """I12: the month has what its jobs hold and spent, and never more than its limit."""
        m = self.month
        assert m.held_gpu_ms == sum(one.held_gpu_ms for one in self.jobs.values())
        assert m.spent_gpu_ms == sum(one.spent_gpu_ms for one in self.jobs.values())
        assert m.available_gpu_ms is None or m.available_gpu_ms >= 0
        if m.cap_gpu_ms is not None:
            assert m.limit_gpu_ms == max(m.cap_gpu_ms, m.held_gpu_ms + m.spent_gpu_ms)

    @invariant()
    def caps_hold(self) -> None:
        """No job holds and spends more than its own cap."""
        for one in self.jobs.values():
            assert one.cap_gpu_ms is None or one.held_gpu_ms + one.spent_gpu_ms <= one.cap_gpu_ms

    @invariant()
    def leases_fit_holds(self) -> None:
        """I4: the open leases of a job never promise more than it holds."""
        for name, one in self.jobs.items():
            assert sum(ms for owner, ms in self.leases if owner == name) <= one.held_gpu_ms

    @invariant()
    def every_entry_balances(self) -> None:
        """One account gets what another one gives, and it is more than nothing."""
        for entry in self.entries:
            assert entry.gpu_ms > 0
            assert entry.debit != entry.credit

    @invariant()
    def money_is_owed_and_earned(self) -> None:
        """I13: what the session owes is what the farm earned: prices, less those given back."""
        balances: Counter[str] = Counter()
        for entry in self.entries:
            if moved := ledger.money(entry):
                assert moved.microusd > 0
                balances[moved.credit] += moved.microusd
                balances[moved.debit] -= moved.microusd
        assert balances["revenue"] == self.owed.total()
        assert balances["receivable:s"] == -self.owed.total()
        for name in self.jobs:
            prices = sum(each.price_microusd for each in self.entries if each.job_id == name)
            assert prices == self.owed[name]

    @invariant()
    def entries_are_a_chain(self) -> None:
        """I6: every entry follows the one before, and the session knows the last."""
        assert hash_chain.chain_fault(self.session, self.entries[::-1]) is None

    @precondition(lambda self: self.entries)
    @rule(data=st.data(), change=st.sampled_from(CHANGES))
    def tamper(self, data: st.DataObject, change: dict[str, object]) -> None:
        """A changed, missing or added entry is found, and none before it is accused."""
        at = data.draw(st.integers(0, len(self.entries) - 1))
        victim = self.entries[at]
        changed = replace(victim, **change)  # type: ignore[arg-type]
        if changed == victim:
            return
        forged = [*self.entries[:at], changed, *self.entries[at + 1 :]]
        found = hash_chain.chain_fault(self.session, forged)
        assert found
        assert found.entry is None or found.entry.number >= min(victim.number, changed.number)
        assert hash_chain.chain_fault(self.session, self.entries[:at] + self.entries[at + 1 :])
        assert hash_chain.chain_fault(self.session, [*self.entries, victim])

    @invariant()
    def entries_are_the_balances(self) -> None:
        """I2: every balance is the sum of its entries."""
        sums: Counter[str] = Counter()
        for entry in self.entries:
            sums[entry.credit] += entry.gpu_ms
            sums[entry.debit] -= entry.gpu_ms
        assert sum(sums.values()) == 0
        assert sums["available:s"] == self.session.available_gpu_ms
        assert sums["spent:s"] == self.session.spent_gpu_ms
        for name, one in self.jobs.items():
            assert sums[f"held:{name}"] == one.held_gpu_ms


TestLedger = LedgerMachine.TestCase
TestLedger.settings = settings(
    max_examples=settings().max_examples * 3 // 2, stateful_step_count=40
)


def test_a_closed_session_extends_nothing() -> None:
    """A job of a closed session lives on what it holds."""
    from orchestrator.states import SessionState

    session = Session(id="s", account_id="a", name="s", limit_gpu_ms=100, created_at_ms=0)
    closed = replace(session, state=SessionState.CLOSED)
    assert ledger.extendable_gpu_ms(session, job("j", None), None, None) == 100
    assert ledger.extendable_gpu_ms(closed, job("j", None), None, None) == 0
