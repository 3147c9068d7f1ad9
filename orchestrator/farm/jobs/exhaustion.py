"""When the budget runs out: wait for more, end with what is finished, or end."""

from dataclasses import replace

from orchestrator.farm.jobs.loaded_job import Case
from orchestrator.model import Unit
from orchestrator.states import JobEvent, OnExhausted, PauseReason, UnitKind, UnitState
from orchestrator.wire import ENCODE_QUEUE


def exhausted(case: Case, unit: Unit) -> None:
    """Do what the job asked for; `unit` found no budget and no lease of the job is open."""
    match case.job.on_exhausted:
        case OnExhausted.CANCEL:
            case.end(
                JobEvent.CANCEL,
                error={
                    "code": "budget_exceeded",
                    "message": "What it may spend ran out, and the job was to be cancelled then.",
                    "next": "Run it again with more (a top-up, or a higher max_gpu_seconds); "
                    "`on_exhausted: pause` would have waited.",
                },
            )
        case OnExhausted.FINISH if case.job.frames_done and unit.kind is UnitKind.RENDER:
            finish(case)
        case _:
            case.pause(PauseReason.BUDGET)


def assemble(case: Case) -> None:
    """Make the unit that joins the finished frames into the video."""
    reserve = case.job.encode_reserve_gpu_ms
    case.tx.add(
        Unit(
            id=case.farm.new_id("unt", case.now_ms),
            job_id=case.job.id,
            session_id=case.session.id,
            kind=UnitKind.ENCODE,
            queue=ENCODE_QUEUE,
            p50_gpu_ms=reserve,
            p90_gpu_ms=reserve,
            floor_gpu_ms=max(1, reserve // 4),
            created_at_ms=case.now_ms,
        )
    )
    if case.job.wish is None:
        case.step(JobEvent.ENCODE, pause_reason=None)


def finish(case: Case) -> None:
    """Render no more, and make a video of what there is out of the encode reserve."""
    for rest in case.units(state=UnitState.READY):
        case.tx.save(rest, replace(rest, state=UnitState.DROPPED))
    case.release(keep_gpu_ms=case.job.encode_reserve_gpu_ms)
    case.change(truncated=True)
    assemble(case)
