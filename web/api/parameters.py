"""Facts of calls beside their bodies: parameters in the path, the query and the headers."""

import hashlib
from typing import Final, Literal

from flask import request
from pydantic import BaseModel, Field

from orchestrator.errors import BadRequest
from orchestrator.farm import Idempotency
from orchestrator.farm.accounts.keys import digest
from orchestrator.states import JobState

MAX_EVENT_ID: Final = 2**63 - 1
"""The most that both databases can hold."""


class AccountPath(BaseModel):
    """An account."""

    account_id: str


class PersonPath(BaseModel):
    """A person."""

    person_id: str


class SessionPath(BaseModel):
    """A session, by id or name."""

    session_id: str


class JobPath(BaseModel):
    """A job."""

    job_id: str


class FilePath(JobPath):
    """A file of a job."""

    name: Literal["video", "poster", "sheet"]


class IntentPath(JobPath):
    """A job, and what to do with it."""

    verb: Literal["pause", "resume", "finish", "cancel"]


class ModelPath(BaseModel):
    """A model."""

    model_id: str


class WebhookPath(BaseModel):
    """A webhook."""

    webhook_id: str


class DeliveryPath(WebhookPath):
    """A message to a webhook."""

    delivery_id: str


class WorkerPath(BaseModel):
    """A worker, and what to do with it."""

    worker_id: str
    verb: Literal["drain", "admit"]


class KeptFilePath(BaseModel):
    """A file that an account keeps."""

    file_id: str


class CharacterPath(BaseModel):
    """A character."""

    character_id: str


class LinkPath(BaseModel):
    """A share link."""

    link_id: str


class SharedPath(BaseModel):
    """The secret part of a share link's address."""

    token: str = Field(max_length=500)


class KeyPath(BaseModel):
    """A key."""

    key_id: str


class PageQuery(BaseModel):
    """A part of a list."""

    limit: int = Field(50, ge=1, le=200)
    after: str | None = Field(None, max_length=100)
    """`next_cursor` of the part before."""


class FormatQuery(BaseModel):
    """The form of the answer."""

    format: Literal["json", "csv"] | None = None


class JobsQuery(PageQuery):
    """A part of the jobs."""

    state: JobState | None = None
    session_id: str | None = Field(None, max_length=100)


class LinksQuery(PageQuery):
    """A part of the share links."""

    job_id: str | None = Field(None, max_length=100)


class AuditQuery(PageQuery):
    """A part of the audit log."""

    verb: str | None = Field(None, max_length=40)


class LedgerQuery(PageQuery, FormatQuery):
    """A part of a ledger; CSV is all of it."""


class HeadQuery(BaseModel):
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


class EventsQuery(BaseModel):
    """The events after one."""

    after: int = Field(0, ge=0, le=MAX_EVENT_ID)


def idempotency() -> Idempotency | None:
    """Return the client's Idempotency-Key with the digest of what it asks, or None."""
    key = request.headers.get("Idempotency-Key", "").strip()
    if not key:
        return None
    if len(key) > 200 or not key.isprintable():
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
