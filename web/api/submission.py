"""The one way from a request to a job: its body, the Brief that it means, and its submission.

Whatever the dialect, what a client asks for passes through here.
"""

import json
from collections.abc import Callable
from dataclasses import replace

from flask import request
from pydantic import ValidationError

from orchestrator.errors import BadRequest, Conflict, NotFound
from orchestrator.farm import Promise, jobs
from orchestrator.farm.jobs import Submission, extensions
from orchestrator.model import WHITE, Brief, Job, Json, SceneText, Size
from orchestrator.prompting import storyboard
from orchestrator.remedies import Rerun, Say, Watch
from orchestrator.states import JobState
from web import errors, film, uploads
from web.api import archive
from web.api.bodies import JobBody, gpu_ms, webhook_url
from web.artifacts import UNSTORED
from web.auth import own_account
from web.context import artifacts, farm, settings
from web.policy import rule_on_prompt
from web.threads import in_thread

Picture = Callable[[], str]
"""Stores a reference picture and returns its key."""


def read_body() -> JobBody:
    """Return the body of this request, from JSON or from a multipart form.

    Raises:
        BadRequest: it does not fit.
    """
    try:
        if request.mimetype == "multipart/form-data":
            facts: Json = {k: v for k, v in request.form.items() if v != ""}
            if isinstance(facts.get("storyboard"), str):
                facts["storyboard"] = read_json(facts["storyboard"])
            return JobBody.from_texts(facts)
        return JobBody.model_validate(read_json(request.get_data(as_text=True)))
    except ValidationError as error:
        raise errors.bad_request(error) from None


def read_json(text: str) -> object:
    """Return what a text of JSON says.

    Raises:
        BadRequest: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None


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
    return going_on(brief, body.extends, keep_files=keep_files) if body.extends else brief


def submit(brief: Brief, body: JobBody, promise: Promise | None) -> Submission:
    """Submit a job for the account of this request's key, under the terms of its body.

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
        webhook_url=webhook_url(body.webhook_url),
        fit=body.fit,
        ruling=rule_on_prompt(brief, own_account()),
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


def going_on(brief: Brief, source_id: str, *, keep_files: bool) -> Brief:
    """Return a brief for more of a finished video; what it leaves open is as it was there.

    Raises:
        NotFound: the account has no such video.
        Conflict: it is not finished.
    """
    source = in_thread(jobs.get, farm(), own_account(), source_id)
    if source.state is not JobState.SUCCEEDED:
        raise Conflict(
            f"The video is {source.state}; only a finished one can be extended.",
            Rerun(source.id) if source.state.is_terminal else Watch(source.id),
        )
    image, background = brief.image, brief.image_background
    card = farm().catalog.card(source.model)
    if image is None and card.uses_layout:
        image = source.image  # it lies behind the subjects, where the last frame has them in it
        background = source.brief.image_background
    elif image is None and keep_files and card.starts_from_image:
        image = _last_frame(source)
    return replace(
        brief,
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


def picture_of(job_id: str) -> str:
    """Return the key of a job's reference picture, for another job that takes it too.

    Raises:
        NotFound: the account has no such job, or its picture is not there any more.
    """
    image = in_thread(jobs.get, farm(), own_account(), job_id).image
    if image is None or not in_thread(artifacts().exists, image):
        raise NotFound(
            f"The reference picture of {job_id} is not here any more.",
            Say("Send the picture itself as `image`, with the rest of the request."),
        )
    return image


def _last_frame(source: Job) -> str | None:
    """Store the last frame of a video as the picture to go on from; None if it is not kept."""
    key = archive.last_master(source)
    if key is None:
        return None
    with artifacts().as_file(key) as master:
        return uploads.keep_picture(film.last_frame(master, settings().ffmpeg))
