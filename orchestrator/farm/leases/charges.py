"""Charges of a reported lease: its session's part, and the part that nobody pays."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.model import Job, Lease, Sample, Unit, Worker
from orchestrator.money import ledger, pricing
from orchestrator.receipt import DECODE, DENOISE, TRANSFER
from orchestrator.states import Cause, Intent, Outcome, UnitKind
from orchestrator.wire import CompleteRequest


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A report, split into who bears it."""

    settled_gpu_ms: int
    credit_gpu_ms: int
    """Payment of the session before, for steps that were done again."""
    over_quote_gpu_ms: int
    """Part of the losses that lies beyond what the job held."""
    losses: tuple[tuple[int, str], ...]
    """GPU-ms that nobody is charged for, each with the reason: at most what the farm saw."""

    @property
    def lost_gpu_ms(self) -> int:
        """All losses together."""
        return sum(gpu_ms for gpu_ms, _ in self.losses)

    @property
    def paid_gpu_ms(self) -> int:
        """Payment of the session, now or before, for what this lease did."""
        return self.settled_gpu_ms + self.credit_gpu_ms


def charge(
    job: Job, unit: Unit, lease: Lease, request: CompleteRequest, *, seen_gpu_ms: int
) -> Charge:
    """Return min(reported, limit, device time the farm saw) for work that counts.

    Of a job with a ceiling it is at most what the job holds; the rest is lost `over quote`.

    Work counts when it is kept: frames, or the steps of a checkpoint. A cancelled unit keeps
    nothing, and its owner pays for the steps done until the cancel was heard.
    """
    due = _due(job, request)
    credit = min(unit.prepaid_gpu_ms, due)
    counts = ledger.charge(
        reported_gpu_ms=due - credit, limit_gpu_ms=lease.gpu_ms_limit, seen_gpu_ms=seen_gpu_ms
    )
    settled = ledger.payable(job, unit.kind, counts)
    over = (counts - settled, ledger.OVER_QUOTE)
    told = _losses(request, due, credit, lease.gpu_ms_limit)
    losses = tuple(_bounded((over, *told), max(0, seen_gpu_ms - settled)))
    return Charge(
        settled_gpu_ms=settled,
        credit_gpu_ms=credit,
        over_quote_gpu_ms=counts - settled,
        losses=losses,
    )


def _due(job: Job, request: CompleteRequest) -> int:
    receipt = request.receipt
    if request.outcome is Outcome.FAILED and request.cause is not Cause.REQUEST:
        return 0
    kept = receipt.frames_done or receipt.checkpoint_step or job.intent is Intent.CANCEL
    if request.outcome is Outcome.STOPPED and not kept:
        return 0
    return receipt.gpu_ms


def _losses(
    request: CompleteRequest, due: int, credit: int, limit: int
) -> Iterator[tuple[int, str]]:
    receipt = request.receipt
    yield receipt.load_gpu_ms, "model load and checkpoints"
    if request.outcome is Outcome.FAILED and request.cause is not Cause.REQUEST:
        yield receipt.gpu_ms + receipt.wasted_gpu_ms, f"failed: {request.cause}"
        return
    yield receipt.wasted_gpu_ms + receipt.gpu_ms - due, "stopped and not kept"
    yield credit, "steps done again, paid before"
    yield max(0, due - credit - limit), "over the lease's limit"


def _bounded(told: Iterable[tuple[int, str]], seen_gpu_ms: int) -> Iterator[tuple[int, str]]:
    """Yield the losses that are none of nothing, until they are all that the farm saw."""
    for gpu_ms, why in told:
        if lost := min(gpu_ms, seen_gpu_ms):
            seen_gpu_ms -= lost
            yield lost, why


def sample(loaded: LoadedJob, unit: Unit, lease: Lease, worker: Worker) -> None:
    """Remember what a done unit cost, for the next quotes: at most the time the farm saw.

    One report of a thousand seconds after one would else make everybody's next job too dear.
    """
    receipt = lease.receipt
    assert receipt, "it was just written"
    seen_ms = (lease.resolved_at_ms or lease.granted_at_ms) - lease.granted_at_ms
    gpu_ms = min(receipt.gpu_ms, seen_ms)
    work = pricing.work_of(unit.kind, loaded.job.render_plan, unit.frames)
    whole = unit.checkpoint is None and not receipt.checkpoint_step
    render = unit.kind is UnitKind.RENDER
    share = gpu_ms / max(1, receipt.gpu_ms)
    stages = {stage: round(ms * share) for stage, ms in receipt.by_stage.items()}
    if whole and work > 0 and gpu_ms > 0:
        loaded.tx.add(
            Sample(
                id=loaded.farm.new_id("smp", loaded.now_ms),
                model=loaded.job.model,
                device_class=worker.device_class,
                kind=unit.kind,
                gpu_ms=gpu_ms,
                work=work,
                steps=loaded.job.steps if render else 0,
                megapixels=pricing.megapixels_of(loaded.job.render_plan) if render else 0.0,
                denoise_gpu_ms=min(gpu_ms, stages.get(DENOISE, 0)),
                decode_gpu_ms=min(gpu_ms, stages.get(DECODE, 0) + stages.get(TRANSFER, 0)),
                worker_id=worker.id,
                load_gpu_ms=receipt.load_gpu_ms,
                at_ms=loaded.now_ms,
            )
        )
