"""Orders: what a worker is told about a unit. Nothing outside of one decides a pixel."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import groupby

from orchestrator.farm.jobs import extensions
from orchestrator.farm.jobs.loaded_job import LoadedJob
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.leases import checkpoints
from orchestrator.model import Job, Lease, RenderPlan, Size, Unit, indices
from orchestrator.planning import planner
from orchestrator.states import UnitKind, UnitState
from orchestrator.wire import (
    MASTER,
    SEGMENT,
    EncodeWork,
    FrameSpec,
    Order,
    ParseWork,
    RenderWork,
    SegmentRef,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VideoOrdered:
    """Size, rate and times that the video of an encode unit has to have."""

    size: Size
    fps: int
    shown: Sequence[int]
    """When each of its frames is shown, counted in frames."""
    end: int
    """When its last one ends, likewise."""


def video_ordered(tx: Transaction, job: Job) -> VideoOrdered:
    """Return what the video of a job's finished frames has to be, as its encode unit orders it.

    A truncated one shows a missing frame as the one before it, and ends with its last frame, which
    stays as long as the widest gap; what is between painted frames is made as far as that.
    """
    total, every = extensions.video_frames(job), job.interpolate
    shown: Sequence[int] = range(total)
    if job.truncated:
        lead = extensions.lead(tx, job)
        before = lead.frames if lead else 0
        done = tx.find(Unit, job_id=job.id, kind=UnitKind.RENDER, state=UnitState.DONE)
        own = [indices(before + every * u.first_frame, u.frames, every * u.stride) for u in done]
        painted = sorted(frame for part in own for frame in part)
        total = min(total, painted[-1] + max(part.step for part in own))
        first, *rest = [*range(before), *painted]
        shown = range(total) if every > 1 else [min(first, 0), *rest]
    size = Size(width=job.width, height=job.height)
    return VideoOrdered(size=size, fps=job.fps, shown=shown, end=total)


def order(loaded: LoadedJob, unit: Unit, lease: Lease) -> Order:
    """Return everything a worker needs to do this unit under this lease."""
    work: ParseWork | RenderWork | EncodeWork
    match unit.kind:
        case UnitKind.PARSE:
            work = ParseWork(brief=loaded.job.brief, seed=loaded.job.seed)
        case UnitKind.RENDER:
            work = _render(loaded, unit)
        case UnitKind.ENCODE:
            work = _encode(loaded)
    return Order(
        lease_id=lease.id,
        unit_id=unit.id,
        job_id=unit.job_id,
        fence=lease.fence,
        epoch=lease.epoch,
        # What was paid for steps that have to be done again may be used for them.
        gpu_ms_limit=lease.gpu_ms_limit + unit.prepaid_gpu_ms,
        expires_in_ms=max(0, lease.expires_at_ms - loaded.now_ms),
        work=work,
    )


def _render(loaded: LoadedJob, unit: Unit) -> RenderWork:
    job, plan = loaded.job, loaded.job.render_plan
    card = loaded.farm.catalog.card(job.model)
    step_ms, decode_ms = job.quote.step_prior
    frames = planner.frames(plan, unit.first_frame, unit.frames, card, unit.stride)
    return RenderWork(
        model=plan.model,
        model_version=plan.model_version,
        width=plan.native.width,
        height=plan.native.height,
        output_width=plan.output.width,
        output_height=plan.output.height,
        fps=plan.painted_fps,
        steps=plan.steps,
        guidance_scale=plan.guidance_scale,
        micro_batch=plan.micro_batch,
        frames=tuple(FrameSpec.model_validate(asdict(frame)) for frame in frames),
        watermark=_watermark(job),
        image=job.brief.image,
        image_background=job.brief.image_background,
        step_gpu_ms_prior=step_ms,
        decode_gpu_ms_prior=decode_ms,
        checkpoint=checkpoints.ref(unit),
    )


def _encode(loaded: LoadedJob) -> EncodeWork:
    job = loaded.job
    done = loaded.units(kind=UnitKind.RENDER, state=UnitState.DONE)
    leases = {lease.id: lease for lease in loaded.tx.find(Lease, job_id=job.id)}
    lead = extensions.lead(loaded.tx, job)
    before, every = lead.frames if lead else 0, job.interpolate
    assert job.truncated or sum(unit.frames for unit in done) == job.frames_total

    def named(unit: Unit, name: str) -> SegmentRef:
        return _file(unit, leases[unit.accepted_lease_id or ""], name, before, every)

    segments = [lead] if lead else []
    masters = []
    for units in _together(job.render_plan, done):
        if len(units) == 1 and every == 1:
            segments.append(named(units[0], SEGMENT))
        else:
            masters.append(tuple(named(unit, MASTER) for unit in units))
    return EncodeWork(
        width=job.width,
        height=job.height,
        fps=job.fps,
        frames_total=extensions.video_frames(job),
        truncated=job.truncated,
        title=job.brief.prompt[:200],
        segments=tuple(segments),
        masters=tuple(masters),
        interpolate=every,
        cuts=tuple(before + every * shot.first_frame for shot in job.render_plan.shots),
        watermark=_watermark(job),
    )


def _together(plan: RenderPlan, done: Sequence[Unit]) -> Iterator[list[Unit]]:
    """Yield the units whose frames are encoded in one go: those of a batch, as it was planned.

    Where its units were stopped and what their shares are must not show in the video. What
    passes have painted lies between each other's, so all of it is together.
    """
    if plan.interpolate > 1 or plan.passes > 1:
        yield list(done)
        return
    in_order = sorted(done, key=lambda unit: unit.first_frame)
    for _, units in groupby(in_order, lambda unit: unit.batch):
        yield list(units)


def _file(unit: Unit, lease: Lease, name: str, before: int, every: int) -> SegmentRef:
    """Return a file of a unit's frames, numbered as the video's: after `before`, `every` apart."""
    assert lease.receipt, "an accepted lease has a receipt"
    file = next((file for file in lease.receipt.artifacts if file.name == name), None)
    assert file, f"an accepted lease of these frames has its {name}"
    return SegmentRef(
        first_frame=before + every * unit.first_frame,
        frames=unit.frames,
        stride=every * unit.stride,
        key=lease.key(name),
        sha256=file.sha256,
    )


def _watermark(job: Job) -> str:
    return job.quote.watermark.text if job.quote.watermark else ""
