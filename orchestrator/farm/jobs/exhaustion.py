"""When the budget runs out: wait for more, end with what is finished, or end."""

from dataclasses import replace

from orchestrator.farm.books import pacing
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.model import JobError, Unit
from orchestrator.remedies import Rerun, Say
from orchestrator.states import (
    RAN_AWAY,
    JobEvent,
    OnExhausted,
    PauseReason,
    UnitKind,
    UnitState,
)
from orchestrator.wire import ENCODE_QUEUE


def exhausted(loaded: LoadedJob, unit: Unit) -> None:
    """Do what the job asked for; `unit` found no budget and no lease of the job is open."""
    if loaded.job.runaway_gpu_ms is not None:
        _ran_away(loaded, unit)
        return
    match loaded.job.on_exhausted:
        case OnExhausted.CANCEL:
            loaded.end(
                JobEvent.CANCEL,
                error=JobError(
                    code="budget_exceeded",
                    message="What it may spend ran out, and the job was to be cancelled then.",
                    remedies=(
                        Rerun(loaded.job.id),
                        Say("Give it more; or let it pause then, so that it waits for more."),
                    ),
                ),
            )
        case OnExhausted.FINISH if loaded.job.frames_done and unit.kind is UnitKind.RENDER:
            finish(loaded)
        case _:
            loaded.pause(PauseReason.BUDGET)


def _ran_away(loaded: LoadedJob, unit: Unit) -> None:
    """End a job that took many times what was said at most: nothing of it is charged.

    One that wished for a video of its finished frames gets it, at the farm's cost too.
    """
    job = loaded.job
    wants_video = job.on_exhausted is OnExhausted.FINISH
    if wants_video and job.frames_done and unit.kind is UnitKind.RENDER:
        finish(loaded)  # what it then costs to encode is given back with its end
        loaded.change(ran_away=True)
        loaded.books.refund()
        return
    loaded.fail(
        JobError(
            code=RAN_AWAY,
            message=f"It took {loaded.farm.terms.runaway:g} times the most it was quoted and was "
            "not done, so the farm ended it: nothing is charged, and what was charged before was "
            "given back.",
            remedies=(
                Say("Ask for less, or for a quote: by now it knows how long such jobs take."),
                Rerun(job.id),
            ),
        )
    )


def assemble(loaded: LoadedJob) -> None:
    """Make the unit that joins the finished frames into the video."""
    job = loaded.job
    cost, _ = pacing.encoding(loaded.farm, loaded.tx, job, pacing.seen(loaded.tx, job))
    loaded.tx.add(
        Unit(
            id=loaded.farm.new_id("unt", loaded.now_ms),
            job_id=loaded.job.id,
            session_id=loaded.books.session.id,
            kind=UnitKind.ENCODE,
            queue=ENCODE_QUEUE,
            p50_gpu_ms=cost.p50_gpu_ms,
            p90_gpu_ms=max(cost.p90_gpu_ms, job.encode_reserve_gpu_ms),
            minimum_gpu_ms=max(1, job.encode_reserve_gpu_ms // 4),  # what it holds is enough
            created_at_ms=loaded.now_ms,
        )
    )
    if loaded.job.intent is None:
        loaded.step(JobEvent.ENCODE, pause_reason=None)


def finish(loaded: LoadedJob) -> None:
    """Render no more, and make a video of what there is out of the encode reserve."""
    for rest in loaded.units(state=UnitState.READY):
        loaded.tx.save(rest, replace(rest, state=UnitState.DROPPED))
    loaded.books.release(keep_gpu_ms=loaded.job.encode_reserve_gpu_ms)
    loaded.change(truncated=True)
    assemble(loaded)
