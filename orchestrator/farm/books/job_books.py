"""The books of a job: its hold, its session and its account's month, moved together."""

from dataclasses import replace
from typing import TypedDict

from orchestrator.farm.books import months, usage
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Allowance, Entry, Job, Lease, Month, Session, UsageSum
from orchestrator.money import allowances, hash_chain, ledger, monthly
from orchestrator.money.ledger import Movement
from orchestrator.states import EntryKind


class Stamp(TypedDict):
    """Id and time of a new entry."""

    entry_id: str
    now_ms: int


class JobBooks:
    """One job, its session and its key's allowance, locked until the transaction ends.

    The month is, too, when it moves. Changes gather here and `write()` writes them, each row once.
    Rows are locked in the order worker, session, job, allowance, unit, month, everywhere, so that
    no two transactions wait for each other.
    """

    def __init__(
        self, farm: Farm, tx: Transaction, job_id: str, session_id: str, now_ms: int
    ) -> None:
        self.farm, self.tx, self.now_ms = farm, tx, now_ms
        session = tx.get(Session, session_id, lock=True)
        job = tx.get(Job, job_id, lock=True)
        assert session and job, "rows are never deleted"
        self.session = self._session = session
        self.job = self._job = job
        self.allowance = self._allowance = tx.get(Allowance, job.allowance_id, lock=True)
        self._months: dict[str, tuple[Month, Month]] = {}
        self._entries: list[Entry] = []
        self._usage: list[UsageSum] = []

    @property
    def month(self) -> Month:
        """The account's month that the job's hold is in; the last row that is locked."""
        return self._month(self.job.month_id)

    def write(self) -> None:
        """Write what changed."""
        for month_id, (was, now) in self._months.items():
            if now != was:
                self._months[month_id] = (now, self.tx.save(was, now))
        if self.session != self._session:
            self._session = self.tx.save(self._session, self.session)
        if self._allowance and self.allowance:
            self._allowance = self.tx.save(self._allowance, self.allowance)
        if self.job != self._job:
            self.job = replace(self.job, revision=self._job.revision + 1)
            self._job = self.tx.save(self._job, self.job)
        self.tx.add(*self._entries)
        self._entries = []
        self.tx.books.add_usage(usage.added_up(self._usage))
        self._usage = []

    def stamp(self) -> Stamp:
        """Return a new entry's id and time."""
        return {"entry_id": self.farm.new_id("ent", self.now_ms), "now_ms": self.now_ms}

    def move(self, movement: Movement) -> None:
        """Take over the balances of a movement, its account's and key's too, and write its entry.

        Raises:
            BudgetExceeded: the account's month or the key's allowance has less than a hold takes.
        """
        entry, allowance = movement.entry, self.allowance
        if allowance and movement.job:  # before anything is turned: it may refuse
            allowance = allowances.follow(allowance, self.job, movement.job)
        if entry and entry.month_id:
            self.turn(monthly.follow(self._month(entry.month_id), entry))
        self.allowance = allowance
        self.session = movement.session
        self.job = movement.job or self.job
        if entry:
            self._entries.append(entry)

    def hold(self, gpu_ms: int, *, first: bool = False) -> None:
        """Place or extend the job's hold."""
        self.move(
            ledger.hold(
                self.session,
                self.job,
                gpu_ms,
                **self.stamp(),
                first=first,
            )
        )

    def carry(self, month: Month) -> None:
        """Bring the job and what it holds into another month of its account.

        Raises:
            BudgetExceeded: that month has less.
        """
        if month.id == self.job.month_id:
            return
        self._months.setdefault(month.id, (month, month))
        self.job, old, new = monthly.carry(self.job, self.month, self._month(month.id))
        self.turn(old)
        self.turn(new)

    def _month(self, month_id: str) -> Month:
        if month_id not in self._months:
            month = self.tx.get(Month, month_id, lock=True)
            assert month, "rows are never deleted"
            self._months[month_id] = (month, months.renewed(self.farm, self.tx, month))
        return self._months[month_id][1]

    def turn(self, month: Month) -> None:
        """Take over a month as it became."""
        self._months[month.id] = (self._months[month.id][0], month)

    def release(self, *, keep_gpu_ms: int = 0) -> None:
        """Give back the hold, all but `keep_gpu_ms`."""
        self.move(
            ledger.release(
                self.session,
                self.job,
                keep_gpu_ms=keep_gpu_ms,
                **self.stamp(),
            )
        )
        self._sink()

    def settle(self, lease: Lease, gpu_ms: int) -> None:
        """Spend what a lease measured, at the price of its device."""
        card = self.farm.rates.at(self.now_ms)
        self.move(
            ledger.settle(
                self.session,
                self.job,
                gpu_ms,
                lease_id=lease.id,
                **self.stamp(),
                price_microusd=card.price_microusd(gpu_ms, lease.device_class),
                rates=card.version,
                receipt_sha256=hash_chain.lease_digest(lease),
            )
        )
        self._usage += usage.of(lease, self.job, units=int(gpu_ms > 0), gpu_ms=gpu_ms)

    def over_quote(self, gpu_ms: int) -> None:
        """Count device time that the job took beyond what it held; its loss is an entry."""
        self.job = replace(self.job, over_quote_gpu_ms=self.job.over_quote_gpu_ms + gpu_ms)

    def refund(self) -> None:
        """Take back every settlement of the job, those of this transaction too.

        The farm pays for what it could not finish. Doing it again changes nothing.
        """
        both = (EntryKind.SETTLE, EntryKind.REFUND)
        written = self.tx.find(Entry, job_id=self.job.id, kind=both)
        entries = [*written, *(entry for entry in self._entries if entry.kind in both)]
        given_back = {entry.lease_id for entry in entries if entry.kind is EntryKind.REFUND}
        for settled in entries:
            if settled.lease_id in given_back:
                continue
            self.move(
                ledger.refund(
                    self.session,
                    self.job,
                    settled,
                    **self.stamp(),
                )
            )
            lease = self.tx.get(Lease, settled.lease_id)
            assert lease, "its entry names it"
            back = settled.gpu_ms
            self._usage += usage.of(lease, self.job, gpu_ms=-back, lost_gpu_ms=back)
        self._sink()

    def _sink(self) -> None:
        """Take what came back of a limit that was asked to be lower."""
        if sink := ledger.sink_gpu_ms(self.session):
            self.move(ledger.take(self.session, sink, **self.stamp()))

    def lose(self, lease: Lease, gpu_ms: int, note: str) -> None:
        """Book device time that nobody is charged for."""
        self.move(
            ledger.lose(
                self.session,
                self.job,
                gpu_ms,
                lease_id=lease.id,
                **self.stamp(),
                note=note,
                receipt_sha256=hash_chain.lease_digest(lease),
            )
        )
        self._usage += usage.of(lease, self.job, lost_gpu_ms=gpu_ms)
