"""The one way from a request to a job: its body, the Brief that it means, and its submission.

Whatever the dialect, what a client asks for passes through here.
"""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Final

from flask import request
from pydantic import ValidationError

from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.farm import Promise, jobs, webhook_queue
from orchestrator.farm.jobs import Submission, extensions, keeping, pictures
from orchestrator.model import WHITE, Brief, Handling, Job, Json, SceneText, Size
from orchestrator.prompting import storyboard
from orchestrator.remedies import Rerun, Say, Watch
from orchestrator.states import JobState, Scope
from web import errors, json_text, uploads
from web.api import archive, views
from web.api.bodies import JobBody, gpu_ms, handling
from web.artifacts import UNSTORED
from web.auth import asker, current_key, own_account, within_reach
from web.context import artifacts, farm, settings
from web.media import film
from web.policy import rule_on_prompt
from web.threads import in_thread

PACKED: Final = ("storyboard", "tags", "metadata", "webhook_events")
"""Fields that come as JSON where a form holds texts alone."""
KEPT_BY_EXTENSIONS: Final = frozenset({"negative_prompt", "max_gpu_seconds", "on_exhausted"})
"""Fields that an extension has from the video before, unless its request says them."""
Picture = Callable[[], str]
"""Stores a reference picture and returns its key."""


def read_body() -> JobBody:
    """Return the body of this request, from JSON or from a multipart form.

    Raises:
        BadRequest: it does not fit.
    """
    try:
        if request.mimetype == "multipart/form-data":
            facts: Json = {k: one_value(v, k) for k, v in request.form.lists() if any(v)}
            return JobBody.from_texts(unpacked(facts))
        return JobBody.model_validate(json_text.read(request.get_data()))
    except ValidationError as error:
        raise errors.bad_request(error) from None


def one_value(values: list[str], name: str) -> str:
    """Return the value of a form's field.

    Raises:
        BadRequest: it is there more than once, or no text.
    """
    if len(values) > 1 or "\N{REPLACEMENT CHARACTER}" in values[0]:
        fault = "is there twice" if len(values) > 1 else "is not text in UTF-8"
        raise BadRequest(f"{errors.known(name)} {fault}.")
    return values[0]


def unpacked(facts: Json) -> Json:
    """Return a form's fields with those read as JSON that hold more than a text.

    Raises:
        BadRequest: one is not JSON; the message names it.
    """
    for name in PACKED:
        if isinstance(text := facts.get(name), str):
            try:
                facts = facts | {name: json_text.read(text, f"{name}: it")}
            except BadRequest as error:
                faults = [{"field": name, "fault": error.message.removeprefix(f"{name}: ")}]
                raise BadRequest(error.message, errors=faults) from None
    return facts


def brief_of(body: JobBody, *, keep_files: bool, picture: Picture | None = None) -> Brief:
    """Return what a body and the files beside it ask for.

    `keep_files`: store the reference picture; a quote only looks at it. Without `picture` it is
    the file `image` of this request.
    """
    scenes: tuple[SceneText, ...] = tuple(
        SceneText(prompt=s.prompt, seconds=s.seconds, negative_prompt=s.negative_prompt)
        for s in body.storyboard or ()
    )
    if story := request.files.get("storyboard"):
        scenes = storyboard.load(story.read(), story.filename or "")
    width, _, height = (body.size or "").partition("x")
    brief = Brief(
        image_background=_background(body),
        prompt=body.prompt,
        negative_prompt=body.negative_prompt,
        scenes=scenes,
        model=body.model,
        seconds=body.seconds,
        fps=body.fps,
        size=Size(width=int(width), height=int(height)) if height else None,
        steps=_steps(body),
        interpolate=body.interpolate,
        upscale=body.upscale,
        seed=body.seed,
        image=_image(body, picture or _sent_picture(), keep_files=keep_files),
        max_gpu_ms=None if body.max_gpu_seconds is None else gpu_ms(body.max_gpu_seconds),
        on_exhausted=body.on_exhausted,
        written_out=body.written_out,
    )
    if not body.extends:
        return brief
    unsaid = KEPT_BY_EXTENSIONS - body.model_fields_set
    return going_on(brief, body.extends, keep_files=keep_files, unsaid=unsaid)


def handled(body: JobBody, brief: Brief) -> Handling:
    """Return what a body says beside its brief; an extension has the rest of what it extends.

    Raises:
        BadRequest: its webhook may not be called.
    """
    if body.extends:
        kept = beside(readable(body.extends), body.model_fields_set)
        body = JobBody.model_validate(body.model_dump(exclude_unset=True) | kept)
    sent = "image" in request.files
    image_of = None if sent else body.image_of
    own = sent or bool(brief.image and not image_of and not body.extends)
    files = ("image",) if own else ()
    return replace(handling(body), image_of=image_of, files=files)


def submit(
    brief: Brief, body: JobBody, promise: Promise | None, *, alternatives: bool
) -> Submission:
    """Submit a job for the account of this request's key, under the terms of its body.

    `alternatives`: a refusal names what would fit.

    Raises:
        PolicyRefused: the operator's policy does not want it.
        BudgetExceeded: it does not fit.
        Unavailable: the disk is nearly full.
    """
    artifacts().check_room()
    return in_thread(
        jobs.submit,
        farm(),
        account_id=own_account(),
        session_id=body.session_id,
        brief=brief,
        idempotency=promise,
        handling=handled(body, brief),
        fit=body.fit,
        alternatives=alternatives,
        ruling=rule_on_prompt(brief, own_account()),
        key=current_key(),
    )


def _sent_picture() -> Picture | None:
    sent = request.files.get("image")
    return (lambda: uploads.keep_picture(sent.read())) if sent else None


def _image(body: JobBody, picture: Picture | None, *, keep_files: bool) -> str | None:
    """Return the key of the reference picture, or a stand-in for one that is not stored.

    One that the model does not take is not stored: the planner refuses it by name.
    """
    if picture is None:
        return picture_of(body.image_of) if body.image_of else None
    taken = farm().catalog.card(body.model).takes_image
    return picture() if taken and keep_files else UNSTORED


def _background(body: JobBody) -> str:
    """Return the colour behind the reference picture."""
    if body.image_background is None and body.image_of:
        source = in_thread(jobs.get, farm(), own_account(), body.image_of)
        return source.brief.image_background
    return (body.image_background or WHITE).lower()


def _steps(body: JobBody) -> int | None:
    """Return the steps that were asked for, by number or by the model's profile."""
    if body.profile is None:
        return body.steps
    if body.steps is not None:
        raise BadRequest(
            "The request names both a profile and steps, which may differ.",
            Say("Name the profile or the steps."),
        )
    return farm().catalog.card(body.model).steps_of(body.profile)


def going_on(
    brief: Brief, source_id: str, *, keep_files: bool, unsaid: Collection[str] = ()
) -> Brief:
    """Return a brief for more of a finished video; what it leaves open is as it was there.

    `unsaid`: of `KEPT_BY_EXTENSIONS`, those that the request leaves out.

    Raises:
        NotFound: the account has no such video.
        Conflict: it is not finished.
        Expired: its files were removed.
    """
    source = readable(source_id)
    if source.state is not JobState.SUCCEEDED:
        raise Conflict(
            f"The video is {source.state}; only a finished one can be extended.",
            Rerun(source.id) if source.state.is_terminal else Watch(source.id),
        )
    keeping.check_kept(source)
    image, background = brief.image, brief.image_background
    card = farm().catalog.card(source.model)
    if image is None and card.uses_layout:
        image = source.image  # it lies behind the subjects, where the last frame has them in it
        background = source.brief.image_background
    elif image is None and keep_files and card.starts_from_image:
        image = _last_frame(source)
    was = source.brief
    kept: Json = {"max_gpu_ms": was.max_gpu_ms} if "max_gpu_seconds" in unsaid else {}
    kept |= {name: getattr(was, name) for name in unsaid if name != "max_gpu_seconds"}
    return replace(
        brief,
        **kept,
        model=brief.model or source.model,
        fps=brief.fps or source.fps,
        size=brief.size or Size(width=source.width, height=source.height),
        steps=brief.steps or source.steps,
        interpolate=source.interpolate if brief.interpolate == 1 else brief.interpolate,
        upscale=source.upscale,
        seed=source.seed if brief.seed is None else brief.seed,
        image=image,
        image_background=background,
        origin=extensions.origin(source),
    )


def told_like(source: Job, account_id: str) -> tuple[str | None, tuple[str, ...]]:
    """Return the URL that is told of a job and of which events, for another one made like it.

    None where there is none, or its webhook was deleted meanwhile.
    """
    if source.webhook_id is None:
        return None, ()
    try:
        webhook = in_thread(webhook_queue.get, farm(), account_id, source.webhook_id)
    except NotFound:
        return None, ()
    return webhook.url, source.webhook_events


def told_words(source: Job, account_id: str) -> Json:
    """Return the webhook of a job's request, as another request would name it."""
    url, events = told_like(source, account_id)
    asked = {"webhook_url": url, "webhook_events": list(events)}
    return {name: value for name, value in asked.items() if value}


def beside(source: Job, said: Collection[str]) -> Json:
    """Return the labels, webhook and keeping of a job, for one that is made from it.

    `said`: fields that the request has itself. Another URL has no events of the source's, another
    time no moment. Nothing, where the source is another account's.

    Raises:
        BadRequest: it was kept until a moment that is over.
    """
    if source.account_id != own_account():
        return {}
    now_ms = farm().clock()
    kept = views.handled(source, now_ms) | told_words(source, source.account_id)
    if "webhook_url" in said:
        kept.pop("webhook_events", None)
    if not {"expires_in", "expires_at"}.isdisjoint(said):
        kept = {name: value for name, value in kept.items() if name[:8] != "expires_"}
    elif source.keep_until_ms and "expires_at" not in kept:
        raise BadRequest(
            f"expires_at: {source.id} asked to be kept until a moment that is over or within an "
            "hour.",
            Say("Say expires_in or expires_at; nothing was started or charged."),
            errors=[{"field": "expires_at", "fault": "over"}],
        )
    return {name: value for name, value in kept.items() if name not in said}


def readable(job_id: str) -> Job:
    """Return a job that another one may be made from: what it shows is seen there.

    Raises:
        NotFound: the account has no such job, or a key that may not read did not submit it.
    """
    return within_reach(in_thread(jobs.get, farm(), asker(), job_id), Scope.READ)


def picture_of(job_id: str) -> str:
    """Return the key of a job's reference picture, for another job that takes it too.

    Raises:
        NotFound: the account has no such job, it had none, or its picture is not there any more.
    """
    image = readable(job_id).image
    if image is None:
        raise NotFound(
            f"The job {job_id} started from no reference picture.",
            Say("Send the picture itself as `image`, with the rest of the request."),
        )
    in_thread(pictures.check_there, farm(), image)
    return image


def _last_frame(source: Job) -> str | None:
    """Store the last frame of a video as the picture to go on from; None if it is not kept."""
    key = archive.last_master(source)
    if key is None:
        return None
    with artifacts().as_file(key) as master:
        return uploads.keep_picture(film.last_frame(master, settings().ffmpeg))
