"""A job as OpenAI's `Video`, with what only this farm can say beside it."""

from typing import Final

from orchestrator.farm.jobs.extensions import video_frames
from orchestrator.farm.jobs.forecasts import Forecast
from orchestrator.model import Job, Json
from orchestrator.states import JobState, PauseReason
from web.api import views

STATUS: Final = {
    JobState.QUEUED: "queued",
    JobState.PARSING: "in_progress",
    JobState.RENDERING: "in_progress",
    JobState.ENCODING: "in_progress",
    JobState.SUCCEEDED: "completed",
    JobState.FAILED: "failed",
    JobState.CANCELLED: "failed",
    JobState.PAUSED: "queued",
}
"""OpenAI has four words. What waits for a person is `queued`, unless it waits for budget."""
UNFINISHED: Final = ("queued", "in_progress")
POLL_MS: Final = (500, 5000)
POLLS: Final = 20
"""Times between two questions for a video while it is made."""


_OWN: Final = (
    "tags",
    "metadata",
    "expired_at",
    "fps",
    "seed",
    "steps",
    "interpolate",
    "upscale",
    "frames_total",
    "frames_done",
)


def video(job: Job, how_far: Forecast | None = None) -> Json:
    """Return a job in OpenAI's form."""
    shown = views.job(job, how_far)
    origin = shown["origin"] or {}
    expires = job.expires_at_ms or job.keep_until_ms
    return {
        "id": job.id,
        "object": "video",
        "status": status(job),
        "progress": int(shown["progress"]),
        "model": job.model,
        "prompt": shown["prompt"],
        "seconds": f"{round(video_frames(job) / job.fps, 3):g}",
        "size": f"{job.width}x{job.height}",
        "created_at": job.created_at_ms // 1000,
        "completed_at": job.finished_at_ms // 1000 if job.finished_at_ms else None,
        "expires_at": None if expires is None else timestamp(expires),
        "error": _error(job),
        "remixed_from_video_id": origin.get("job_id"),
        # From here on: this farm's own.
        "state": shown["state"],
        "pause_reason": shown["pause_reason"],
        "session_id": shown["session_id"],
        "quote": shown["quote"],
        "usage": shown["usage"],
        "notes": shown["notes"],
        "truncated": shown["truncated"],
        **{name: shown[name] for name in _OWN},
    }


def status(job: Job) -> str:
    """Return OpenAI's word for how far a job is."""
    if job.state is JobState.PAUSED and job.pause_reason is PauseReason.BUDGET:
        return "failed"  # a client that polls would wait for ever: somebody must top up
    return STATUS[job.state]


def poll_after_ms(job: Job) -> int:
    """Return when a client should ask again: often for a short video, seldom for a long one."""
    least, most = POLL_MS
    return int(max(least, min(most, job.quote.p50_gpu_ms / POLLS)))


def timestamp(at_ms: int) -> int:
    """Return a time as OpenAI writes it: seconds since 1970."""
    return at_ms // 1000


def _error(job: Job) -> Json | None:
    if job.error:
        message = f"{job.error.message} {job.error.remedies[0].text}"
        return {"code": job.error.code, "message": message}
    if job.state is JobState.CANCELLED:
        return {"code": "cancelled", "message": "The video was cancelled."}
    if status(job) == "failed":
        some = job.frames_done > 0
        used_up = "budget, or its key's allowance," if job.allowance_id else "budget"
        return {
            "code": "budget_exceeded",
            "message": f"The session's {used_up} is used up; the frames that are done are kept. "
            f"Top it up (POST /api/v1/sessions/{job.session_id}/top-ups), and it goes on"
            + (f"; or POST /api/v1/jobs/{job.id}/finish makes a video of them." if some else "."),
        }
    return None
