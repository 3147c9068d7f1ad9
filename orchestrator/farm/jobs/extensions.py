"""Extensions: a finished video, and new frames that go on from its last ones.

The finished video is joined as it is, as one more segment before the new ones, so an extension of
an extension needs nothing but the video before it.
"""

from dataclasses import replace
from typing import Final

from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.farm.jobs.keeping import check_kept
from orchestrator.farm.kernel import Farm
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.model import Brief, Job, Origin, RenderPlan
from orchestrator.remedies import Rerun, Say
from orchestrator.states import JobState
from orchestrator.wire import SegmentRef

NEWEST: Final = 200
"""Videos that are looked through for a file."""


def video_frames(job: Job) -> int:
    """Return how many frames a job's video has: an extension's own come after others."""
    before = job.brief.origin.frames if job.brief.origin else 0
    return before + job.frames_total * job.interpolate


def origin(source: Job) -> Origin:
    """Return what an extension of a finished job goes on from."""
    last = source.render_plan.shots[-1]
    last = replace(last, frames=last.frames * source.interpolate)  # of the video, as `frames` is
    return Origin(job_id=source.id, how="extension", frames=video_frames(source), last=last)


def find_video(farm: Farm, account_id: str, sha256: str) -> Job | None:
    """Return the job whose finished video is this file, of the account's newest ones."""
    with farm.store.read() as tx:
        newest = tx.find(
            Job,
            account_id=account_id,
            state=JobState.SUCCEEDED,
            deleted_at_ms=None,
            order="-id",
            limit=NEWEST,
        )
    kept = (job for job in newest if "video" in job.artifacts)
    return next((job for job in kept if job.artifacts["video"].sha256 == sha256), None)


def check(tx: Transaction, account_id: str, brief: Brief, plan: RenderPlan) -> None:
    """Refuse an extension that cannot be joined; its source stays until the transaction ends.

    Raises:
        NotFound: the account has no such video.
        Expired: its files were removed.
        BadRequest: it would have another model, size or frame rate.
    """
    if brief.origin is None or brief.origin.how != "extension":
        return
    source = tx.get(Job, brief.origin.job_id, lock=True)
    if source is not None and source.account_id == account_id:
        check_kept(source)
    gone = source is None or source.account_id != account_id or "video" not in source.artifacts
    if source is None or gone or brief.origin != origin(source):
        raise NotFound("The video to extend is not there any more.")
    if source.truncated:
        raise BadRequest(
            "That video was cut off when its budget ran out; its frames have no even pace.",
            Rerun(source.id),
        )
    alike = (plan.model, plan.output.width, plan.output.height, plan.fps)
    if alike != (source.model, source.width, source.height, source.fps):
        raise BadRequest(
            "An extension has the model, size and frame rate of the video it extends.",
            Say("Leave model, size and fps out."),
        )


def lead(tx: Transaction, job: Job) -> SegmentRef | None:
    """Return the finished video that a job's own segments are joined to."""
    made_from = job.brief.origin
    if made_from is None or made_from.how != "extension":
        return None
    source = tx.get(Job, made_from.job_id)
    assert source, "rows are never deleted"
    video = source.artifacts["video"]
    return SegmentRef(first_frame=0, frames=made_from.frames, key=video.key, sha256=video.sha256)


def check_unneeded(tx: Transaction, job: Job) -> None:
    """Refuse to delete a video that an extension in the making is joined to.

    Raises:
        Conflict: there is such an extension.
    """
    if other := needed_by(tx, job):
        raise Conflict(
            f"The extension {other.id} still needs this video.",
            Say("Delete it when the extension has ended, or cancel that first."),
        )


def needed_by(tx: Transaction, job: Job) -> Job | None:
    """Return an unfinished extension that is to be joined to a job's video, if there is one."""
    for other in tx.find(Job, account_id=job.account_id, finished_at_ms=None):
        made_from = other.brief.origin
        if made_from and made_from.how == "extension" and made_from.job_id == job.id:
            return other
    return None
