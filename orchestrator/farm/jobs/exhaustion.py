"""When the budget runs out: wait for more, end with what is finished, or end."""

from dataclasses import replace

from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.model import JobError, Unit
from orchestrator.states import JobEvent, OnExhausted, PauseReason, UnitKind, UnitState
from orchestrator.wire import ENCODE_QUEUE


def exhausted(loaded: LoadedJob, unit: Unit) -> None:
    """Do what the job asked for; `unit` found no budget and no lease of the job is open."""
    match loaded.job.on_exhausted:
        case OnExhausted.CANCEL:
            loaded.end(
                JobEvent.CANCEL,
                error=JobError(
                    code="budget_exceeded",
                    message="What it may spend ran out, and the job was to be cancelled then.",
                    next="Run it again with more (a top-up, or a higher max_gpu_seconds); "
                    "`on_exhausted: pause` would have waited.",
                ),
            )
        case OnExhausted.FINISH if loaded.job.frames_done and unit.kind is UnitKind.RENDER:
            finish(loaded)
        case _:
            loaded.pause(PauseReason.BUDGET)


def assemble(loaded: LoadedJob) -> None:
    """Make the unit that joins the finished frames into the video."""
    reserve = loaded.job.encode_reserve_gpu_ms
    loaded.tx.add(
        Unit(
            id=loaded.farm.new_id("unt", loaded.now_ms),
            job_id=loaded.job.id,
            session_id=loaded.books.session.id,
            kind=UnitKind.ENCODE,
            queue=ENCODE_QUEUE,
            p50_gpu_ms=reserve,
            p90_gpu_ms=reserve,
            minimum_gpu_ms=max(1, reserve // 4),
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
