"""What clients send: closed pydantic models, checked once at the door."""

import json
from typing import Any, Literal, Self

from flask import request
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from orchestrator.errors import BadRequest
from orchestrator.model import Alert, Brief, Json, SceneText, Size
from orchestrator.prompting import storyboard
from orchestrator.remedies import Say
from orchestrator.safe_text import Label
from orchestrator.states import AlertAction, JobState, OnExhausted
from orchestrator.webhooks.addresses import MAX_URL_CHARS, parse
from orchestrator.wiring import webhook_rules
from web import uploads
from web.api.amounts import FORM, GpuSeconds, GpuSecondsOrZero, gpu_ms
from web.api.csv_answers import FormatQuery
from web.api.extending import going_on
from web.context import farm, settings

UNSTORED = "inputs/unstored"
"""Stands for a picture that a quote only looks at, or that no model takes."""
MAX_ID = 2**63 - 1
"""Of an event: what both databases can hold."""


class Body(BaseModel):
    """A misspelt field is an error, and so is "1" for 1."""

    model_config = ConfigDict(extra="forbid", strict=True)


class AlertBody(Body):
    """A threshold of a budget."""

    percent: int = Field(ge=1, le=100)
    """Of the limit, when spent."""
    action: AlertAction = Field(AlertAction.NOTIFY, strict=False)
    """Besides telling: take no new jobs, or paint for none either, until spending is under it."""


class AlertsBody(Body):
    """The alerts of a budget, ascending."""

    alerts: list[AlertBody] | None = Field(max_length=20)
    """Null: the plan's."""


class SessionBody(Body):
    """A new session."""

    name: Label = Field(min_length=1, max_length=200)
    budget_gpu_seconds: GpuSeconds | None = None
    """Absent: what the account's plan gives a session."""
    alerts: list[AlertBody] | None = Field(None, max_length=20)
    """Ascending; absent: the plan's."""


class LimitBody(Body):
    """A lower limit for a session."""

    gpu_seconds: GpuSecondsOrZero


class AccountPath(BaseModel):
    """Which account."""

    account_id: str


class AccountBody(Body):
    """A new account."""

    name: Label = Field(min_length=1, max_length=200)
    plan: str = Field(min_length=1, max_length=40)


class PlanBody(Body):
    """Another plan."""

    plan: str = Field(min_length=1, max_length=40)


class TopUpBody(Body):
    """More budget for a session."""

    gpu_seconds: GpuSeconds


class SceneBody(Body):
    """One scene of a storyboard."""

    prompt: str = Field(min_length=1, max_length=10_000)
    seconds: float | None = Field(None, gt=0, le=3600, allow_inf_nan=False)
    negative_prompt: str = Field("", max_length=10_000)


class JobBody(Body):
    """A video somebody wants. What is left out the prompt's words decide, then the model."""

    prompt: str = Field("", max_length=10_000)
    session_id: str | None = Field(None, max_length=200)
    """Id or name; the account's session `default` when absent."""
    model: str | None = Field(None, max_length=100)
    seconds: float | None = Field(None, gt=0, le=3600, allow_inf_nan=False)
    fps: int | None = Field(None, ge=1, le=120)
    size: str | None = Field(None, pattern=r"^[0-9]{1,5}x[0-9]{1,5}$")
    steps: int | None = Field(None, ge=1, le=1000)
    profile: str | None = Field(None, max_length=40)
    """A speed of the model's (`profiles` in GET /api/v1/models), instead of `steps`."""
    interpolate: int = Field(1, ge=1, le=4)
    """Paint every so many frames of the video; those between are made of them. It divides `fps`."""
    upscale: int = Field(1, ge=1, le=8)
    """Paint with sides so many times shorter than the model would, and scale up: softer, for less.
    At most the model's `most_upscale`."""
    seed: int | None = Field(None, ge=0, lt=2**31)
    negative_prompt: str = Field("", max_length=10_000)
    storyboard: list[SceneBody] | None = Field(None, max_length=64)
    extends: str | None = Field(None, max_length=100)
    """Id of a finished job: its video, and these frames behind it."""
    max_gpu_seconds: GpuSeconds | None = None
    on_exhausted: OnExhausted = Field(OnExhausted.PAUSE, strict=False)
    """What to do when the budget runs out: wait for more, make a video of the frames that are
    finished (from a quarter of them on, the whole story at a lower frame rate), or end."""
    webhook_url: str | None = Field(None, max_length=MAX_URL_CHARS)
    """Told of the job's states; its secret comes with the first job that names it."""
    fit: bool = False
    """Where it does not fit what is left, take the best variant that does."""

    @classmethod
    def from_texts(cls, fields: Json) -> Self:
        """Return what a form says: its numbers are texts."""
        return cls.model_validate(fields, strict=False, context=FORM)


class WebhookBody(Body):
    """A new webhook."""

    url: str = Field(min_length=1, max_length=MAX_URL_CHARS)
    events: list[str] = Field(["*"], min_length=1, max_length=50)
    """`job.succeeded`, `job.*`, `*` …"""


class KeyBody(Body):
    """A new key."""

    kind: Literal["admin", "user", "read", "submit", "join"] = "user"
    name: Label = Field(min_length=1, max_length=200)
    account_id: str | None = Field(None, max_length=100)
    """Whose it is; absent: the account of the key that asks."""
    ttl_seconds: float | None = Field(None, gt=0, le=10**9)


class RotateBody(Body):
    """How a key is replaced."""

    keep_seconds: float = Field(86_400, ge=0, le=30 * 86_400)
    """How long the old key lives on."""


class PersonBody(Body):
    """Somebody who may sign in to the pages."""

    name: str = Field(min_length=1, max_length=100)
    password: SecretStr | None = Field(None, min_length=12, max_length=200)
    """Absent: this e-mail address signs in at the identity provider alone."""
    account_id: str | None = Field(None, max_length=100)
    """For whose account; absent: that of the key that asks."""


class PasswordBody(Body):
    """Another password."""

    password: SecretStr = Field(min_length=12, max_length=200)


class PersonPath(BaseModel):
    """Who."""

    person_id: str


class SessionPath(BaseModel):
    """Which session."""

    session_id: str


class JobPath(BaseModel):
    """Which job."""

    job_id: str


class FilePath(JobPath):
    """Which file of which job."""

    name: Literal["video", "poster", "sheet"]


class IntentPath(JobPath):
    """What to do with which job."""

    verb: Literal["pause", "resume", "finish", "cancel"]


class ModelPath(BaseModel):
    """Which model."""

    model_id: str


class FreezeBody(Body):
    """Whether all spending is stopped."""

    frozen: bool


class WebhookPath(BaseModel):
    """Which webhook."""

    webhook_id: str


class DeliveryPath(WebhookPath):
    """Which message to which webhook."""

    delivery_id: str


class WorkerPath(BaseModel):
    """Which worker."""

    worker_id: str
    verb: Literal["drain", "admit"]


class KeyPath(BaseModel):
    """Which key."""

    key_id: str


class PageQuery(BaseModel):
    """Which part of a list."""

    limit: int = Field(50, ge=1, le=200)
    after: str | None = Field(None, max_length=100)
    """`next_cursor` of the part before."""


class JobsQuery(PageQuery):
    """Which jobs."""

    state: JobState | None = None
    session_id: str | None = Field(None, max_length=100)


class AuditQuery(PageQuery):
    """Which deeds."""

    verb: str | None = Field(None, max_length=40)


class LedgerQuery(PageQuery, FormatQuery):
    """Which part of a ledger; CSV is all of it."""


class HeadQuery(BaseModel):
    """A head of the chain that was kept elsewhere."""

    head: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class EconomicsQuery(FormatQuery):
    """The books by what, since when."""

    by: Literal["plan", "user", "model", "month"] = "plan"
    since_seconds: float = Field(30 * 86_400, gt=0, le=10**9)


class UsageQuery(FormatQuery):
    """Usage of what, since when."""

    by: Literal["user", "session", "model", "worker", "stage"] = "session"
    since_seconds: float = Field(7 * 86_400, gt=0, le=10**9)


class CalibrationQuery(FormatQuery):
    """Over how many jobs."""

    jobs: int = Field(200, ge=1, le=10_000)


class EventsQuery(BaseModel):
    """From where on."""

    after: int = Field(0, ge=0, le=MAX_ID)


def alerts_of(bodies: list[AlertBody] | None) -> tuple[Alert, ...] | None:
    """Return alerts as the farm's verbs take them."""
    return None if bodies is None else tuple(Alert(each.percent, each.action) for each in bodies)


def job_body() -> JobBody:
    """Return the body of a job, from JSON or from a multipart form.

    Raises:
        pydantic.ValidationError: it does not fit.
    """
    if request.mimetype == "multipart/form-data":
        facts: dict[str, Any] = {k: v for k, v in request.form.items() if v != ""}
        if isinstance(facts.get("storyboard"), str):
            facts["storyboard"] = read_json(facts["storyboard"])
        return JobBody.from_texts(facts)
    return JobBody.model_validate(read_json(request.get_data(as_text=True)))


def read_json(text: str) -> Any:
    """Return what a text of JSON says.

    Raises:
        BadRequest: it is not JSON.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise BadRequest("The body is not JSON.") from None


def brief_of(body: JobBody, *, keep_files: bool) -> Brief:
    """Return what the caller asked for, its files included.

    `keep_files`: store a reference image; a quote only looks at it.
    """
    scenes: tuple[SceneText, ...] = tuple(
        SceneText(prompt=s.prompt, seconds=s.seconds, negative_prompt=s.negative_prompt)
        for s in body.storyboard or ()
    )
    image = None
    if story := request.files.get("storyboard"):
        scenes = storyboard.load(story.read(), story.filename or "")
    if picture := request.files.get("image"):
        taken = farm().catalog.card(body.model).takes_image
        # One that is not taken is not stored either: the planner refuses it by name.
        image = UNSTORED
        if keep_files and taken:
            image = uploads.keep_picture(picture.read())
    width, _, height = (body.size or "").partition("x")
    brief = Brief(
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
        image=image,
        max_gpu_ms=None if body.max_gpu_seconds is None else gpu_ms(body.max_gpu_seconds),
        on_exhausted=body.on_exhausted,
    )
    return going_on(brief, body.extends, keep_files=keep_files) if body.extends else brief


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


def webhook_url(url: str | None) -> str | None:
    """Return a URL that the farm may call.

    Raises:
        BadRequest: it may not.
    """
    if url is not None:
        parse(url, webhook_rules(settings()))
    return url
