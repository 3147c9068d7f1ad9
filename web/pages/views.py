"""Views of pages, made from what the farm says. Pure: no request, no SQL."""

from dataclasses import dataclass
from typing import Final, Literal

from orchestrator.farm.jobs import UnitView, forecasts, shortage
from orchestrator.farm.jobs.forecasts import Forecast
from orchestrator.farm.jobs.waiting import Waiting
from orchestrator.model import FileRef, Job, Month, RenderPlan, Session
from orchestrator.receipt import KeptReceipt
from orchestrator.remedies import Remedy, Rerun, Resume, Say
from orchestrator.scheduling import positions
from orchestrator.states import Intent, JobState, PauseReason, UnitKind, UnitState
from orchestrator.wire import STRIP
from web.pages import words

STAGES: Final = (
    (JobState.QUEUED, "Queued"),
    (JobState.PARSING, "Reading"),
    (JobState.RENDERING, "Rendering"),
    (JobState.ENCODING, "Encoding"),
    (JobState.SUCCEEDED, "Done"),
)
LONG_PROMPT: Final = 140
REEL_FRAMES: Final = 240
PREVIEW_FRAMES: Final = 96
"""More than this and the preview shows only its newest batches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One step of the way, as the page draws it."""

    name: str
    place: Literal["past", "now", "ahead"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """One batch of frames in the reel: its strip, or the gap where it will be."""

    unit_id: str
    first_frame: int
    frames: int
    stride: int
    strip: str
    """Artifact key; empty while there is none."""
    running: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """Parts of a budget as shares of 100, drawn as three rectangles."""

    spent: float
    held: float
    asked: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice:
    """News of a job: what happened, what was charged, what helps."""

    tone: Literal["warn", "danger", ""]
    title: str
    what: str
    charged: str
    remedies: tuple[Remedy, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class JobView:
    """A job with everything its page says about it."""

    job: Job
    prompt: str
    render_plan: RenderPlan
    label: str
    tone: str
    stages: tuple[Stage, ...]
    tiles: tuple[Tile, ...]
    preview: tuple[Tile, ...]
    """Finished batches in frame order, for the moving preview."""
    frames_done: int
    percent: float
    quoted_p50_gpu_ms: int
    quoted_p90_gpu_ms: int
    eta: str
    """`about 20 s left`, or empty where nobody can tell."""
    notice: Notice | None
    can_pause: bool
    can_resume: bool
    can_finish: bool
    """End with a video of the frames there are."""
    can_cancel: bool

    @property
    def is_over(self) -> bool:
        """Nothing about it will change any more."""
        return self.job.state.is_terminal

    @property
    def has_reel(self) -> bool:
        """There are frames to show, or there will be."""
        return bool(self.preview) or not self.is_over

    @property
    def stride(self) -> int:
        """Every how many-th frame the reel shows, so that a long video stays one page."""
        return -(-self.job.frames_total // REEL_FRAMES)

    @property
    def is_long(self) -> bool:
        """Its prompt is too long for a headline."""
        return len(self.prompt) > LONG_PROMPT

    @property
    def video(self) -> FileRef | None:
        """The finished video's file, if there is one."""
        return self.job.artifacts.get("video")


def job_view(
    job: Job,
    units: tuple[UnitView, ...],
    how_far: Forecast | None = None,
    waits: Waiting | None = None,
) -> JobView:
    """Put together what the page of a job shows."""
    how_far = how_far or forecasts.still(job)
    tiles = reel(job, units)
    done = tuple(tile for tile in tiles if tile.strip)
    frames_done = min(job.frames_total, max(job.frames_done, sum(tile.frames for tile in done)))
    open_to = not job.state.is_terminal and job.intent is not Intent.CANCEL
    pausing = job.state is JobState.PAUSED or job.intent is Intent.PAUSE
    return JobView(
        job=job,
        prompt=job.brief.prompt,
        render_plan=job.render_plan,
        label=words.state(job.state, job.intent, job.pause_reason, truncated=job.truncated),
        tone=words.tone(job.state, truncated=job.truncated),
        stages=_stages(job),
        tiles=tiles,
        preview=_newest(done),
        frames_done=frames_done,
        percent=how_far.percent,
        quoted_p50_gpu_ms=job.quote.p50_gpu_ms,
        quoted_p90_gpu_ms=job.quote.p90_gpu_ms,
        eta=_eta(job, how_far, waits),
        notice=_notice(job, frames_done, waits),
        can_pause=open_to and not pausing,
        can_resume=open_to and pausing,
        can_finish=shortage.may_finish(job),
        can_cancel=open_to,
    )


def reel(job: Job, units: tuple[UnitView, ...]) -> tuple[Tile, ...]:
    """Return the batches of a job in frame order; before its plan is done, those it was quoted."""
    renders = [view for view in units if view.unit.kind is UnitKind.RENDER]
    if not renders:
        plan = job.render_plan
        return tuple(
            Tile(
                unit_id=f"batch-{batch.first_frame}",
                first_frame=batch.first_frame,
                frames=batch.frames,
                stride=batch.stride,
                strip="",
                running=False,
            )
            for batch in plan.batches
        )
    return tuple(_tile(view) for view in renders if _shows(view))


def budget_bar(budget: Session | Month, asked_gpu_ms: int = 0) -> Bar:
    """Return how a budget is divided; what is not zero is always wide enough to see."""
    limit = max(budget.limit_gpu_ms or 0, budget.spent_gpu_ms + budget.held_gpu_ms, 1)

    def share(gpu_ms: int) -> float:
        return max(100 * gpu_ms / limit, 1.2) if gpu_ms else 0.0

    spent = min(share(budget.spent_gpu_ms), 100.0)
    held = min(share(budget.held_gpu_ms), 100.0 - spent)
    return Bar(spent=spent, held=held, asked=min(share(asked_gpu_ms), 100.0 - spent - held))


def job_bar(job: Job) -> Bar:
    """Return what a job used and holds, of all that it may."""
    most = job.ceiling_gpu_ms or job.quote.p90_gpu_ms
    whole = max(job.spent_gpu_ms + job.held_gpu_ms, most, 1)
    return Bar(spent=100 * job.spent_gpu_ms / whole, held=100 * job.held_gpu_ms / whole, asked=0.0)


# --- inside -------------------------------------------------------------------------------


def _stages(job: Job) -> tuple[Stage, ...]:
    order = [state for state, _ in STAGES]
    here = order.index(job.state) if job.state in order else _reached(job, order)
    return tuple(
        Stage(
            name=name,
            place="past"
            if index < here or job.state is JobState.SUCCEEDED
            else "now"
            if index == here
            else "ahead",
        )
        for index, (_, name) in enumerate(STAGES)
    )


def _reached(job: Job, order: list[JobState]) -> int:
    """Return how far a paused or ended job had come."""
    if job.frames_done >= job.frames_total:
        return order.index(JobState.ENCODING)
    return order.index(JobState.RENDERING if job.parsed else JobState.QUEUED)


def _shows(view: UnitView) -> bool:
    """A dropped unit has no place in the reel, unless it left frames behind."""
    return bool(view.unit.frames) and (
        view.unit.state is not UnitState.DROPPED or bool(_tile(view).strip)
    )


def _tile(view: UnitView) -> Tile:
    unit, lease = view.unit, view.lease
    strip = ""
    if unit.state is UnitState.DONE and lease is not None and _has_strip(lease.receipt):
        strip = lease.key(STRIP)
    return Tile(
        unit_id=unit.id,
        first_frame=unit.first_frame,
        frames=unit.frames,
        stride=unit.stride,
        strip=strip,
        running=unit.state is UnitState.LEASED,
    )


def _has_strip(receipt: KeptReceipt | None) -> bool:
    return receipt is not None and any(file.name == STRIP for file in receipt.artifacts)


def _newest(done: tuple[Tile, ...]) -> tuple[Tile, ...]:
    kept: list[Tile] = []
    for tile in reversed(done):
        if kept and sum(each.frames for each in kept) + tile.frames > PREVIEW_FRAMES:
            break
        kept.insert(0, tile)
    return tuple(kept)


def _eta(job: Job, how_far: Forecast, waits: Waiting | None) -> str:
    if job.state.is_terminal or job.state is JobState.PAUSED or job.intent is not None:
        return ""
    if how_far.left_ms is None or how_far.left_p90_ms is None:
        return waits.what if waits else ""
    likely = positions.about(how_far.left_ms)
    latest = positions.about(how_far.left_p90_ms)
    told = f"about {likely} left" if latest == likely else f"about {likely} left, at most {latest}"
    return f"{waits.what} {told[0].upper()}{told[1:]} in all." if waits else told


def _notice(job: Job, frames_done: int, waits: Waiting | None) -> Notice | None:
    charged = f"{words.exact(job.spent_gpu_ms)} GPU-seconds were charged"
    if job.expired_at_ms is not None and job.state is JobState.SUCCEEDED:
        return Notice(
            tone="",
            title="Its files were kept for a time, which is over",
            what="The video and its frames were removed; the receipt below stays.",
            charged=f"{charged}.",
            remedies=(Rerun(job.id),),
        )
    if job.state is JobState.FAILED:
        error = job.error
        return Notice(
            tone="danger",
            title="This video could not be made",
            what=error.message if error else "The farm gave no reason.",
            charged=f"{charged}; attempts that failed on the farm’s side cost you nothing."
            if job.spent_gpu_ms
            else "Nothing was charged.",
            remedies=error.remedies if error else (Rerun(job.id),),
        )
    if job.truncated and job.state is JobState.SUCCEEDED:
        return Notice(
            tone="warn",
            title="Cut off: it was made of what was finished",
            what=f"The video has {frames_done} of {job.frames_total} frames.",
            charged=f"{charged}.",
            remedies=(Say("Make a variation with a larger budget for the whole video."),),
        )
    if job.state is JobState.CANCELLED:
        return Notice(
            tone="",
            title="Cancelled",
            what=f"It was stopped after {frames_done} of {job.frames_total} frames.",
            charged=f"{charged} for what had been rendered; the rest of the hold was given back.",
            remedies=(Say("Make a variation to start over with the same words."),),
        )
    if job.state is JobState.PAUSED:
        return _paused(job, frames_done, charged, waits)
    return None


def _paused(job: Job, frames_done: int, charged: str, waits: Waiting | None) -> Notice:
    kept = f"{frames_done} of {job.frames_total} frames are finished and kept."
    if job.pause_reason is PauseReason.BUDGET:
        why = waits.what if waits else "The next frames would cost more than there is."
        return Notice(
            tone="warn",
            title="Paused: the budget is used up",
            what=f"{why} {kept}",
            charged=f"{charged} so far.",
            remedies=waits.remedies if waits else (Resume(job.id),),
        )
    return Notice(
        tone="warn",
        title=words.PAUSE.get(job.pause_reason, "Paused") if job.pause_reason else "Paused",
        what=kept,
        charged=f"{charged} so far.",
        remedies=(Say("Resume it whenever you like."),),
    )
