"""Bodies that clients send: closed pydantic models, checked once at the door.

Amounts of budget come as GPU-seconds, exact to the millisecond.
"""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    ValidationInfo,
    ValidatorFunctionWrapHandler,
    WithJsonSchema,
    WrapValidator,
)

from orchestrator.errors import BadRequest
from orchestrator.farm.jobs.labelling import MOST_LABELS
from orchestrator.model import Alert, Handling, Json
from orchestrator.remedies import Say
from orchestrator.safe_text import Label, MetadataKey, MetadataValue, Tag
from orchestrator.states import AlertAction, OnExhausted
from orchestrator.webhooks.addresses import MAX_URL_CHARS, parse
from orchestrator.wiring import webhook_rules
from web.api.parameters import Moment
from web.context import settings

FORM: Final[Mapping[str, bool]] = {"form": True}
"""Context of a validation whose values are all text, as a form sends them."""
FLOAT_NOISE: Final = Decimal("1e-12")
"""Error allowed to a client's binary floats: 0.1 + 0.2 has three places."""
MOST: Final = 10**9
MOST_USES: Final = 10**6


def gpu_ms(seconds: Decimal) -> int:
    """Return seconds of budget as GPU-ms; exact."""
    return int(seconds * 1000)


def _number(value: object, info: ValidationInfo) -> object:
    if isinstance(value, bool) or (isinstance(value, str) and info.context is None):
        raise ValueError("a number is asked for")
    return value


def _three_places(value: Decimal) -> Decimal:
    whole = round(value, 3)
    if abs(value - whole) > abs(value) * FLOAT_NOISE:
        raise ValueError("at most three decimal places")
    return whole


def _schema(**least: int) -> WithJsonSchema:
    return WithJsonSchema({"type": "number", **least, "maximum": MOST, "multipleOf": 0.001})


GpuSeconds = Annotated[
    Decimal,
    Field(gt=0, le=MOST, allow_inf_nan=False, strict=False),
    BeforeValidator(_number),
    AfterValidator(_three_places),
    _schema(exclusiveMinimum=0),
]
"""Seconds of budget; more than three places would not be whole GPU-ms."""
GpuSecondsOrZero = Annotated[
    Decimal,
    Field(ge=0, le=MOST, allow_inf_nan=False, strict=False),
    BeforeValidator(_number),
    AfterValidator(_three_places),
    _schema(minimum=0),
]
"""The same, and 0."""


class Body(BaseModel):
    """A misspelt field is an error, and so is "1" for 1."""

    model_config = ConfigDict(extra="forbid", strict=True, use_attribute_docstrings=True)


def _once(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


def _distinct(value: object, handler: ValidatorFunctionWrapHandler) -> object:
    """Refuse keys of which two are one in their normal form: one value would be lost."""
    found = handler(value)
    if isinstance(value, Mapping) and len(found) != len(value):
        raise ValueError("two keys are the same")
    return found


Tags = Annotated[list[Tag], AfterValidator(_once)]
Metadata = Annotated[dict[MetadataKey, MetadataValue], WrapValidator(_distinct)]
Changes = Annotated[dict[MetadataKey, MetadataValue | None], WrapValidator(_distinct)]


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
    """Id or name; when absent the one that the key is bound to, else the account's default."""
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
    """Id of a finished job: its video, and these frames behind it. What is left out is as it was
    there: `negative_prompt`, `max_gpu_seconds` and `on_exhausted` too."""
    max_gpu_seconds: GpuSeconds | None = None
    on_exhausted: OnExhausted = Field(OnExhausted.PAUSE, strict=False)
    """Choice for when the budget runs out: wait for more, make a video of the frames that are
    finished (from a quarter of them on, the whole story at a lower frame rate), or end."""
    webhook_url: str | None = Field(None, max_length=MAX_URL_CHARS)
    """Told of the job's states; its secret comes with the first job that names it."""
    webhook_events: list[str] | None = Field(None, min_length=1, max_length=20)
    """The states it is told of, as `job.succeeded`; absent: all of them."""
    tags: Tags = Field([], max_length=MOST_LABELS)
    """Words by which jobs are found; they change nothing of the video."""
    metadata: Metadata = Field({}, max_length=MOST_LABELS)
    """The client's own words about it, by key."""
    expires_in: int | None = Field(None, ge=3600, le=100 * 365 * 86_400)
    """Seconds for which its files are kept after its end, an hour at least and no longer than the
    account's plan keeps them; absent: as long as that does."""
    expires_at: Moment | None = None
    """The moment until which they are kept, instead."""
    image_of: str | None = Field(None, max_length=100)
    """Id of a job of this account whose reference picture this one takes."""
    image_background: str | None = Field(None, pattern=r"^#[0-9a-fA-F]{6}$")
    """Colour behind what is transparent in the reference picture, as `#00ff00`; absent: white, or
    the one it had in the job of `image_of`."""
    written_out: bool = False
    """Size, rate, length and seed were written out of the prompt's words, as alternatives and
    requests of jobs do: those words are instructions still, and not shown."""
    fit: bool = False
    """Take the best variant that fits, where it does not fit what is left."""

    @classmethod
    def from_texts(cls, fields: Json) -> Self:
        """Return what a form says: its numbers are texts."""
        return cls.model_validate(fields, strict=False, context=FORM)


class LabelsBody(Body):
    """Other tags and metadata of a job; what is absent stays."""

    tags: Tags | None = Field(None, max_length=MOST_LABELS)
    """All that it has from now on."""
    metadata: Changes | None = Field(None, max_length=2 * MOST_LABELS)
    """Keys and their new values; null takes a key away, and others stay."""


class WebhookBody(Body):
    """A new webhook."""

    url: str = Field(min_length=1, max_length=MAX_URL_CHARS)
    events: list[str] = Field(["*"], min_length=1, max_length=50)
    """`job.succeeded`, `job.*`, `*` …"""


class KeyBody(Body):
    """A new key."""

    kind: Literal["admin", "user", "read", "submit", "pay", "configure", "join"] = "user"
    name: Label = Field(min_length=1, max_length=200)
    account_id: str | None = Field(None, max_length=100)
    """Its owner; absent: the account of the key that asks."""
    session_id: str | None = Field(None, min_length=1, max_length=200)
    """Id or name of the only session that it spends from; of a `user` or `submit` key."""
    gpu_seconds: GpuSeconds | None = None
    """Sum that its jobs may cost together; of a `user` or `submit` key."""
    ttl_seconds: float | None = Field(None, gt=0, le=10**9, allow_inf_nan=False)
    device_classes: list[Label] | None = Field(None, min_length=1, max_length=50)
    """Of a join key, which needs them: devices that may enrol by it, by class (`nvidia-l4`) or
    product (`NVIDIA L4`), or `any`. Prices go by class."""
    uses: Annotated[int, Field(ge=1, le=MOST_USES)] | Literal["any"] | None = None
    """Of a join key: workers that may enrol by it; absent: one."""


class AllowanceBody(Body):
    """Another sum for a key."""

    gpu_seconds: GpuSeconds
    """Not less than its jobs hold and were charged."""


class RotateBody(Body):
    """The replacement of a key."""

    keep_seconds: float = Field(86_400, ge=0, le=30 * 86_400)
    """Time for which the old key lives on."""


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


class FreezeBody(Body):
    """The brake on all spending."""

    frozen: bool


def alerts_of(bodies: list[AlertBody] | None) -> tuple[Alert, ...] | None:
    """Return alerts as the farm's verbs take them."""
    return None if bodies is None else tuple(Alert(each.percent, each.action) for each in bodies)


def webhook_url(url: str | None) -> str | None:
    """Return a URL that the farm may call.

    Raises:
        BadRequest: it may not.
    """
    if url is not None:
        parse(url, webhook_rules(settings()))
    return url


def handling(body: JobBody) -> Handling:
    """Return how a job is to be labelled, told of and kept.

    Raises:
        BadRequest: the farm may not call its URL, or it names events and no URL.
    """
    if body.webhook_events is not None and body.webhook_url is None:
        raise BadRequest(
            "webhook_events: the request names no webhook_url that would be told of them.",
            Say("Name a webhook_url, or leave webhook_events out."),
            errors=[{"field": "webhook_events", "fault": "no webhook_url"}],
        )
    return Handling(
        tags=tuple(body.tags),
        metadata=body.metadata,
        webhook_url=webhook_url(body.webhook_url),
        webhook_events=tuple(dict.fromkeys(body.webhook_events or ())),
        expires_in_ms=None if body.expires_in is None else body.expires_in * 1000,
        expires_at_ms=body.expires_at,
    )


class LinkBody(Body):
    """The file that a share link opens, and for how long."""

    name: Literal["video", "poster", "sheet"] = "video"
    seconds: int = Field(3600, ge=1, le=7 * 86_400)
    ends_with_key: bool = False
    """It ends with the key that makes it, if that ends earlier."""
