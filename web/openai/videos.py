"""The calls of `client.videos`, each a few lines over the verbs of the native API."""

from dataclasses import replace
from typing import Final

from flask import Blueprint, Response, jsonify, request

from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.farm import jobs
from orchestrator.farm.jobs import deleting, forecasts, keeping
from orchestrator.model import Brief, Job, Json, Origin
from orchestrator.remedies import Say
from orchestrator.states import JobState, Scope
from web import uploads
from web.api import submission, views
from web.api.bodies import JobBody
from web.auth import account_scope, clients, csrf, current_key, may, own_account, within_reach
from web.context import artifacts, farm
from web.openai import asking, showing
from web.openai.references import kept_image
from web.openai.tries import promise, tries_before
from web.threads import in_thread, pause

VARIANTS: Final = {
    "video": ("video", "video/mp4", "mp4"),
    "thumbnail": ("poster", "image/jpeg", "jpg"),
    "spritesheet": ("sheet", "image/jpeg", "jpg"),
}
HOW: Final = {"remix": "a remix", "edit": "an edit"}
PAGE: Final = 20
MOST: Final = 100
STOP_SECONDS: Final = 20.0
"""Time that a DELETE waits for the device to stop: a step and a heartbeat, usually 2 s."""
LOOK_SECONDS: Final = 0.25

bp = Blueprint("videos", __name__, url_prefix="/v1/videos")
csrf.exempt(bp)
bp.before_request(clients)


@bp.post("")
def create() -> Response:
    """Submit a video."""
    asked = asking.fields()
    picture = asking.picture(asked, kept_image)
    asked["prompt"] = asking.need(asked, "prompt")
    body = asking.body_of(asked)
    return _submitted(submission.brief_of(body, keep_files=True, picture=picture), body)


@bp.get("")
def listing() -> Response:
    """List videos, newest first; `last_id` is where the next page begins."""
    asking.only("after", "limit", "order")
    page = in_thread(
        jobs.listing,
        farm(),
        account_scope(),
        limit=asking.limit(PAGE, MOST),
        after=request.args.get("after") or None,
        oldest_first=asking.one_of("order", "desc", ("asc", "desc")) == "asc",
    )
    how_far = in_thread(forecasts.of_all, farm(), page.items, {})
    shown = [showing.video(job, how_far[job.id]) for job in page.items]
    return jsonify(
        object="list",
        data=shown,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
        has_more=page.next_cursor is not None,
    )


@bp.post("/edits")
def edit() -> Response:
    """Paint a video again, its prompt followed by what should be different."""
    asked = asking.fields()
    source = _source(asking.video_id(asked))
    change = asking.need(asked, "prompt")
    asked["prompt"] = ", ".join(part for part in (source.brief.prompt, change) if part)
    return _made_from(source, asked, Origin(job_id=source.id, how="edit"))


@bp.post("/extensions")
def extend() -> Response:
    """Make a video longer: its frames as they are, and new ones from where the last one ends."""
    asked = asking.fields()
    source = _source(asking.video_id(asked))
    asked["prompt"] = asking.need(asked, "prompt")
    if asked.get("seconds") is None:
        raise asking.missing("seconds")
    picture = asking.picture(asked, kept_image)
    like = {"extends": source.id, "model": source.model, **_beside(source, asked)}
    body = asking.body_of(like | asked)
    return _submitted(submission.brief_of(body, keep_files=True, picture=picture), body)


@bp.get("/<video_id>")
def retrieve(video_id: str) -> Response:
    """Show a video, and say when to ask again."""
    return _shown(in_thread(jobs.get, farm(), account_scope(), video_id))


@bp.delete("/<video_id>")
def delete(video_id: str) -> Response:
    """Delete a video; one that is being made is cancelled first, which frees its device."""
    scope = account_scope()
    gone = jsonify(id=video_id, object="video.deleted", deleted=True)
    if tries_before() and in_thread(deleting.was_deleted, farm(), scope, video_id):
        return gone  # by the try before, whose answer was lost
    job = within_reach(in_thread(jobs.get, farm(), scope, video_id))
    if not job.state.is_terminal:
        job = _stopped(in_thread(jobs.cancel, farm(), scope, video_id))
    in_thread(uploads.delete_files, in_thread(deleting.delete, farm(), scope, job.id))
    return gone


@bp.get("/<video_id>/content")
def content(video_id: str) -> Response:
    """Send the video, its poster (`thumbnail`) or its contact sheet (`spritesheet`)."""
    name, mimetype, ending = VARIANTS[asking.one_of("variant", "video", tuple(VARIANTS))]
    job = in_thread(jobs.get, farm(), account_scope(), video_id)
    keeping.check_kept(job)
    if name not in job.artifacts:
        raise NotFound(
            f"The video is {showing.status(job)} and has no content yet.",
            Say("Poll it until its status is completed."),
        )
    key = job.artifacts[name].key
    return artifacts().send(key, mimetype=mimetype, download_name=f"{job.id}.{ending}")


@bp.post("/<video_id>/remix")
def remix(video_id: str) -> Response:
    """Make a video again with another prompt: same model, seed, size, length and steps."""
    asked = asking.fields()
    source = _source(video_id)
    asked["prompt"] = asking.need(asked, "prompt")
    return _made_from(source, asked, Origin(job_id=source.id, how="remix"))


def _source(video_id: str) -> Job:
    """Return the finished video that another one is made from."""
    job = within_reach(in_thread(jobs.get, farm(), account_scope(), video_id), Scope.READ)
    if job.state is not JobState.SUCCEEDED:
        raise Conflict(
            f"The video is {showing.status(job)}; only a completed one can be the source.",
            Say("Poll it until its status is completed."),
        )
    return job


def _stopped(job: Job) -> Job:
    """Wait until a cancelled job has let go of its device."""
    waited = 0.0
    while not job.state.is_terminal:
        if waited >= STOP_SECONDS:
            raise Conflict(
                "The video is still being stopped.",
                Say("Delete it again in a few seconds."),
                again=True,
            )
        pause(LOOK_SECONDS)
        waited += LOOK_SECONDS
        job = in_thread(jobs.get, farm(), account_scope(), job.id)
    return job


def _made_from(source: Job, asked: Json, origin: Origin) -> Response:
    """Submit a video like its source but for what is asked.

    Raises:
        BadRequest: it goes on from another video, whose frames would be missing.
    """
    was = source.brief
    if was.origin is not None and was.origin.how == "extension":
        raise BadRequest(
            f"{source.id} extends {was.origin.job_id}, and {HOW[origin.how]} would be of its new "
            "frames alone.",
            Say(f"Extend {was.origin.job_id} again with another prompt; nothing was charged."),
            errors=[{"field": "video.id", "fault": "an extension"}],
        )
    like: Json = {
        "model": source.model,
        "seconds": source.seconds,
        "fps": source.fps,
        "size": f"{source.width}x{source.height}",
        "steps": source.steps,
        "interpolate": source.interpolate,
        "upscale": source.upscale,
        "seed": source.seed,
        "written_out": True,
        **_beside(source, asked),
    }
    picture = asking.picture(asked, kept_image)
    body = asking.body_of(like | asked)
    brief = submission.brief_of(body, keep_files=True, picture=picture)
    if picture is None and was.image is not None:  # a model that takes none says so
        background = body.image_background or was.image_background
        brief = replace(brief, image=was.image, image_background=background)
    brief = replace(brief, scenes=brief.scenes or was.scenes)
    return _submitted(replace(brief, origin=origin), body)


def _beside(source: Job, asked: Json) -> Json:
    """Return what else a video made from another has of it."""
    kept: Json = {
        "negative_prompt": source.brief.negative_prompt,
        "on_exhausted": source.brief.on_exhausted,
    }
    if source.brief.max_gpu_ms is not None:
        kept["max_gpu_seconds"] = source.brief.max_gpu_ms / 1000
    if source.account_id != own_account():
        return kept
    kept |= submission.beside(source, asked.keys())
    bound = current_key().session_id is not None
    return kept if bound else kept | {"session_id": source.session_id}


def _submitted(brief: Brief, body: JobBody) -> Response:
    named = asking.one_of("alternatives", "false", ("true", "false")) == "true"
    made = submission.submit(brief, body, promise(), alternatives=named)
    secret = made.webhook_secret if may(Scope.CONFIGURE) else None
    return _shown(made.job, {"webhook_secret": secret} if secret else {})


def _shown(job: Job, beside: Json | None = None) -> Response:
    shown = showing.video(job, in_thread(forecasts.of_one, farm(), job, None))
    shown = (shown if may(Scope.READ) else views.without_words(shown)) | (beside or {})
    answer = jsonify(shown)
    if shown["status"] in showing.UNFINISHED:
        answer.headers["openai-poll-after-ms"] = str(showing.poll_after_ms(job))
    return answer
