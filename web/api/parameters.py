"""Facts of calls beside their bodies: parameters in the path, the query and the headers."""

import hashlib
import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Final, Literal

from flask import request
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

from orchestrator.errors import BadRequest
from orchestrator.farm import Idempotency
from orchestrator.farm.accounts.keys import digest
from orchestrator.farm.jobs.labelling import MOST_LABELS, TAG
from orchestrator.farm.kernel.where import JobsWanted
from orchestrator.safe_text import MetadataKey, MetadataValue, Tag
from orchestrator.states import JobState

MAX_KEY_CHARS: Final = 200
"""Of an Idempotency-Key."""
WAIT: Final = re.compile(r'wait\s*=\s*"?([0-9]{1,9})"?', re.IGNORECASE)
MAX_WAIT_SECONDS: Final = 60
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
LAST_MS: Final = 253_402_300_799_999
"""The last millisecond of the year 9999."""
YEAR_DIGITS: Final = 8
"""Digits of a date without dashes; a number of milliseconds has more."""
OFFSET: Final = re.compile(r"(T\S*) (\d\d:?\d\d)$")
"""The end of a moment whose offset began with a `+`."""
MAX_EVENT_ID: Final = 2**63 - 1
"""The most that both databases can hold."""


def _moment(value: object) -> object:
    """Return a moment as milliseconds since 1970: of a number, or of ISO 8601; UTC where it says.

    A `+` of an address comes as a blank.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    text = value.strip() if isinstance(value, str) else ""
    if text.isascii() and text.isdecimal() and len(text) > YEAR_DIGITS:
        return int(text[:20])
    try:
        found = datetime.fromisoformat(OFFSET.sub(r"\1+\2", text))
    except ValueError:
        raise ValueError(
            "must be a moment: ISO 8601 as 2026-11-30T12:00:00Z, or milliseconds since 1970"
        ) from None
    aware = found if found.tzinfo else found.replace(tzinfo=UTC)
    return (aware - EPOCH) // timedelta(milliseconds=1)


Moment = Annotated[
    int,
    Field(ge=-LAST_MS, le=LAST_MS),
    BeforeValidator(_moment),
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "string", "format": "date-time"},
                {"type": "integer", "minimum": 10**YEAR_DIGITS, "maximum": LAST_MS},
            ]
        }
    ),
]
"""A moment, in ISO 8601 (UTC where no offset is said) or in milliseconds since 1970."""


def _pair(text: str) -> str:
    key, equals, value = text.partition("=")
    if not equals:
        raise ValueError("must be key=value")
    try:
        return f"{KEY.validate_python(key)}={VALUE.validate_python(value)}"
    except ValidationError:  # which repeats what was sent
        raise ValueError(
            "must be key=value: a visible line of at most 64 characters, a text of at most 512"
        ) from None


KEY: Final[TypeAdapter[str]] = TypeAdapter(MetadataKey)
VALUE: Final[TypeAdapter[str]] = TypeAdapter(MetadataValue)
Pair = Annotated[str, AfterValidator(_pair)]
"""A key of metadata and its value, as `key=value`."""


class Parameters(BaseModel):
    """Facts of a request beside its body."""

    model_config = ConfigDict(use_attribute_docstrings=True)


class Headers(Parameters):
    """Headers of a request."""


class AccountPath(Parameters):
    """An account."""

    account_id: str


class PersonPath(Parameters):
    """A person."""

    person_id: str


class SessionPath(Parameters):
    """A session, by id or name."""

    session_id: str


class JobPath(Parameters):
    """A job."""

    job_id: str


class ModelPath(Parameters):
    """A model."""

    model_id: str


class WebhookPath(Parameters):
    """A webhook."""

    webhook_id: str


class DeliveryPath(WebhookPath):
    """A message to a webhook."""

    delivery_id: str


class WorkerPath(Parameters):
    """A worker."""

    worker_id: str


class KeptFilePath(Parameters):
    """A file that an account keeps."""

    file_id: str


class CharacterPath(Parameters):
    """A character."""

    character_id: str


class LinkPath(Parameters):
    """A share link."""

    link_id: str


class SharedPath(Parameters):
    """The secret part of a share link's address."""

    token: str = Field(max_length=500)


class KeyPath(Parameters):
    """A key."""

    key_id: str


class PageQuery(Parameters):
    """A part of a list."""

    limit: int = Field(50, ge=1, le=200)
    after: str | None = Field(None, max_length=100)
    """`next_cursor` of the part before."""


class FormatQuery(Parameters):
    """The form of the answer."""

    format: Literal["json", "csv"] | None = None


class JobsQuery(PageQuery):
    """A part of the jobs: those that are all of what is said here."""

    model_config = ConfigDict(extra="forbid")

    state: JobState | None = None
    session_id: str | None = Field(None, max_length=200)
    """Id or name."""
    model: str | None = Field(None, max_length=100)
    tag: list[Tag] = Field([], max_length=MOST_LABELS)
    """Repeated: with each of them."""
    metadata: list[Pair] = Field([], max_length=MOST_LABELS)
    """`key=value`; repeated: with each of them."""
    created_after: Moment | None = None
    """Then or later."""
    created_before: Moment | None = None

    @property
    def wanted(self) -> JobsWanted:
        """The jobs that are meant."""
        pairs = (each.partition("=") for each in self.metadata)
        return JobsWanted(
            session_id=self.session_id,
            state=self.state,
            model=self.model,
            since_ms=self.created_after,
            until_ms=self.created_before,
            labels=(
                *((TAG, tag) for tag in dict.fromkeys(self.tag)),
                *dict.fromkeys((key, value) for key, _, value in pairs),
            ),
        )


class SubmitQuery(Parameters):
    """Wishes for a refusal."""

    alternatives: bool = False
    """The variants that would fit, which take several times as long to find as a job to make."""


class LinksQuery(PageQuery):
    """A part of the share links."""

    job_id: str | None = Field(None, max_length=100)


class AuditQuery(PageQuery):
    """A part of the audit log."""

    verb: str | None = Field(None, max_length=40)


class LedgerQuery(PageQuery, FormatQuery):
    """A part of a ledger; CSV is all of it."""


class HeadQuery(Parameters):
    """A head of the chain that was kept elsewhere."""

    head: str | None = Field(None, pattern="^[0-9a-f]{64}$")


class EconomicsQuery(FormatQuery):
    """Cost and revenue by one of these, since a while ago."""

    by: Literal["plan", "user", "model", "month"] = "plan"
    since_seconds: float = Field(30 * 86_400, gt=0, le=10**9)


class UsageQuery(FormatQuery):
    """Usage by one of these, since a while ago."""

    by: Literal["user", "session", "model", "worker", "stage"] = "session"
    since_seconds: float = Field(7 * 86_400, gt=0, le=10**9)


class CalibrationQuery(FormatQuery):
    """The newest ended jobs."""

    jobs: int = Field(200, ge=1, le=10_000)


class EventsQuery(Parameters):
    """The events after one."""

    after: int = Field(0, ge=0, le=MAX_EVENT_ID)


class OnceHeader(Headers):
    """A request that happens once."""

    idempotency_key: str | None = Field(
        None,
        alias="Idempotency-Key",
        json_schema_extra={"maxLength": MAX_KEY_CHARS},  # `idempotency` refuses, in plain words
    )
    """Sent again with the same key and body, the request is answered as it was the first time."""


class PreferHeader(Headers):
    """A wish that the farm grants as far as it can."""

    prefer: str | None = Field(None, alias="Prefer")
    """`wait=N` (RFC 7240): answer when the job has ended, after N seconds at the latest, of which
    60 are granted. `Preference-Applied` says how many were."""


class SubmitHeader(OnceHeader, PreferHeader):
    """Headers of a submission."""


class ShowHeader(PreferHeader):
    """Headers of a look at a job."""

    if_none_match: str | None = Field(None, alias="If-None-Match")
    """The `ETag` of a job that was seen: unchanged, the answer is a 304."""


class StreamHeader(Headers):
    """The event that a stream goes on from."""

    last_event_id: str | None = Field(None, alias="Last-Event-ID")
    """Of a broken stream; goes before `after`."""


def wait_seconds() -> int | None:
    """Return how long this request prefers to wait, of what is granted; None: it does not say.

    What cannot be read is no preference (RFC 7240).
    """
    for part in request.headers.get("Prefer", "").split(","):
        if found := WAIT.fullmatch(part.partition(";")[0].strip()):
            return min(int(found[1]), MAX_WAIT_SECONDS)
    return None


def idempotency() -> Idempotency | None:
    """Return the client's Idempotency-Key with the digest of what it asks, or None."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if not key:
        return None
    if len(key) > MAX_KEY_CHARS or not key.isprintable():
        raise BadRequest("An Idempotency-Key has at most 200 characters, all of them visible.")
    return Idempotency(key=key, body_sha256=request_digest())


def request_digest() -> str:
    """Return the SHA-256 of what this request asks, whatever its form's boundary is."""
    asked = [request.method, request.path]
    if request.mimetype == "multipart/form-data":
        asked += [f"{name}={value}" for name, value in sorted(request.form.items(multi=True))]
        for name, file in sorted(request.files.items(multi=True)):
            file.seek(0)  # whoever kept it has read it to its end
            content = file.read()
            file.seek(0)
            asked.append(f"{name}:{hashlib.sha256(content).hexdigest()}")
    else:
        asked.append(request.get_data(as_text=True))
    return digest("\n".join(asked))
