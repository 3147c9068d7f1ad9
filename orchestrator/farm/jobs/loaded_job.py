"""A job loaded into a transaction: its books, its open leases, and how it moves along its life."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypedDict, Unpack

from orchestrator.farm import webhook_queue
from orchestrator.farm.books import cap_hits
from orchestrator.farm.books.job_books import JobBooks
from orchestrator.farm.jobs import keeping
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import UnitMatch
from orchestrator.model import (
    FileRef,
    Job,
    JobError,
    JobSample,
    Json,
    Lease,
    Ruling,
    Unit,
)
from orchestrator.scheduling import scheduler
from orchestrator.states import (
    FARMS_FAULT,
    Intent,
    JobEvent,
    LeaseState,
    PauseReason,
    UnitState,
    step,
)


class Changes(TypedDict, total=False):
    """Fields of a job that change beside its books."""

    intent: Intent | None
    pause_reason: PauseReason | None
    parsed: bool
    truncated: bool
    ran_away: bool
    frames_done: int
    error: JobError | None
    artifacts: Mapping[str, FileRef]
    rulings: Mapping[str, Ruling]
    started_at_ms: int | None
    resumed_at_ms: int | None
    finished_at_ms: int | None
    deleted_at_ms: int | None
    tags: tuple[str, ...]
    metadata: Mapping[str, str]
    expires_at_ms: int | None
    expired_at_ms: int | None
    remove_at_ms: int | None


class LoadedJob:
    """One job with its books, and what its watchers are to be told when the transaction ends."""

    def __init__(
        self, farm: Farm, tx: Transaction, job_id: str, session_id: str, now_ms: int
    ) -> None:
        self.farm, self.tx, self.now_ms = farm, tx, now_ms
        self.books = JobBooks(farm, tx, job_id, session_id, now_ms)
        self._told: list[tuple[str, Json]] = []

    @property
    def job(self) -> Job:
        """The job as this transaction has changed it so far."""
        return self.books.job

    def close(self) -> Job:
        """Write what changed and return the job as it now is."""
        self.books.write()
        self.tx.deliveries.tell(self.job.id, self._told, self.now_ms)
        for kind, data in self._told:
            if kind == "state":
                webhook_queue.tell_of_job(self.farm, self.tx, self.job, data["state"], self.now_ms)
        self._told = []
        return self.job

    # --- life ----------------------------------------------------------------------------

    def change(self, **changes: Unpack[Changes]) -> None:
        """Change fields of the job."""
        self.books.job = replace(self.job, **changes)

    def step(self, event: JobEvent, **changes: Unpack[Changes]) -> None:
        """Move the job along its life and tell its watchers, if that changes its state."""
        state = step(self.job.state, event)
        moved = state is not self.job.state
        self.books.job = replace(self.job, state=state, **changes)
        if moved:
            self.tell(
                "state",
                state=state.value,
                pause_reason=self.job.pause_reason,
                error=self.job.error.as_json() if self.job.error else None,
            )

    def tell(self, kind: str, **data: object) -> None:
        """Append an event for the job's watchers."""
        self._told.append((kind, data))

    def join(self) -> None:
        """Bring a session that had no work to the current virtual time before it gets some.

        What paused jobs keep held is no work: their session would come back with its old pass.
        """
        session, own = self.books.session, self.job.id
        if not self.tx.turns.is_at_work(session.id, but=own):
            now = self.tx.turns.current_virtual_us(but=own, model=self.job.model)
            self.books.session = replace(
                session,
                virtual_us=scheduler.join_at(session, now),
                plan=self.books.month.plan,
                waits_from_ms=self.now_ms,
            )

    def open_leases(self) -> list[Lease]:
        """Return the job's unresolved leases."""
        return self.tx.find(Lease, job_id=self.job.id, state=LeaseState.OPEN)

    def units(self, **where: Unpack[UnitMatch]) -> list[Unit]:
        """Return the job's units that match, in frame order."""
        return self.tx.find(Unit, job_id=self.job.id, order="first_frame,id", **where)

    def end(self, event: JobEvent, *, error: JobError | None = None) -> None:
        """Bring the job to a terminal state: hold released, open units dropped.

        One that the farm could not finish costs nothing, whatever it was charged on its way.
        """
        self.books.release()
        spent = self.job.spent_gpu_ms + self.job.over_quote_gpu_ms  # what it took
        code = self.job.error.code if self.job.error else ""
        if (event is JobEvent.FAIL and code in FARMS_FAULT) or self.job.ran_away:
            self.books.refund()
        whole = event is JobEvent.FINISH and not self.job.truncated  # else the quote was for more
        if whole or spent > self.job.quote.p90_gpu_ms:
            self.tx.add(_against_quote(self, spent))
        for unit in self.units(state=(UnitState.READY, UnitState.LEASED)):
            self.tx.save(unit, replace(unit, state=UnitState.DROPPED))
        expires = keeping.expires_at_ms(self.job, self.now_ms)
        self.step(
            event,
            intent=None,
            pause_reason=None,
            error=error or self.job.error,
            finished_at_ms=self.now_ms,
            expires_at_ms=expires,
            remove_at_ms=expires,
        )

    def fail(self, error: JobError) -> None:
        """End the job with an error as soon as no lease is open.

        Until then its intent is to be cancelled; `error` says which of the two it will be.
        """
        self.change(error=self.job.error or error, intent=Intent.CANCEL)
        self.carry_out()

    def pause(self, reason: PauseReason) -> None:
        """Pause: finished frames and the encode reserve are kept, the rest is released."""
        if reason is PauseReason.BUDGET:
            cap_hits.hit(self.tx, self.job.account_id, self.job.model, cap_hits.PAUSED, self.now_ms)
        keep = self.job.encode_reserve_gpu_ms if self.job.frames_done else 0
        self.books.release(keep_gpu_ms=keep)
        self.step(JobEvent.PAUSE, intent=None, pause_reason=reason)

    def carry_out(self) -> None:
        """Carry out the intent of its owner, once no lease is open."""
        if self.job.intent is None or self.open_leases():
            return
        if self.job.intent is Intent.PAUSE:
            self.pause(PauseReason.USER)
        elif self.job.error:
            self.end(JobEvent.FAIL)
        else:
            self.end(JobEvent.CANCEL)


def _against_quote(loaded: LoadedJob, spent_gpu_ms: int) -> JobSample:
    """Return the job beside what was quoted for it, for the quotes to come."""
    quote = loaded.job.quote
    return JobSample(
        id=loaded.farm.new_id("jsm", loaded.now_ms),
        job_id=loaded.job.id,
        model=loaded.job.model,
        device_class=quote.device_class,
        p50_gpu_ms=quote.p50_gpu_ms,
        p90_gpu_ms=quote.p90_gpu_ms,
        spent_gpu_ms=spent_gpu_ms,
        measured=quote.measured,
        at_ms=loaded.now_ms,
    )
