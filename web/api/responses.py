"""Answers of the API, as OpenAPI sees them."""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.model import Json

SECURITY: Final[list[dict[str, list[str]]]] = [{"key": []}]


class View(BaseModel):
    """More fields may come; none goes."""

    model_config = ConfigDict(extra="allow")


class KeyView(View):
    """A key; its token only where it was just made."""

    id: str
    kind: str
    scopes: list[str]
    name: str
    account_id: str | None
    device_classes: list[str] | None = None
    uses: int | None = None
    times_used: int = 0
    token: str | None = None


class PersonView(View):
    """Somebody who may sign in to the pages."""

    id: str
    name: str
    account_id: str
    password_at: str | None
    at_provider: bool


class WebhookView(View):
    """An endpoint; its secret only where it was just made."""

    id: str
    url: str
    events: list[str]
    state: str
    secret: str | None = None


class DeliveryView(View):
    """A message to an endpoint, and the tries to send it."""

    id: str
    webhook_id: str
    type: str
    state: str
    tries: list[Json]


class WorkerView(View):
    """A worker."""

    id: str
    name: str
    state: str


class ModelView(View):
    """A model on offer."""

    id: str


class SessionView(View):
    """A session and its balances, in GPU-seconds."""

    id: str
    object: str
    name: str
    state: str
    budget_gpu_seconds: float
    held_gpu_seconds: float
    spent_gpu_seconds: float
    available_gpu_seconds: float
    alerts: list[Json]
    alerts_by: str
    entries: int
    head_sha256: str | None


class Price(View):
    """Money."""

    microusd: int
    usd: float


class QuoteView(View):
    """The cost of a job; nothing was written."""

    gpu_seconds_p50: float
    gpu_seconds_p90: float
    price: Price
    stages: list[Json]
    fits: bool
    alternatives: list[Json]


class JobView(View):
    """A job."""

    id: str
    object: str
    state: str
    session_id: str
    model: str
    prompt: str
    seconds: float
    fps: int
    width: int
    height: int
    seed: int
    steps: int
    interpolate: int
    upscale: int
    frames_total: int
    frames_done: int
    progress: int = Field(ge=0, le=100)
    shots: list[Json]
    quote: Json
    usage: Json
    error: Json | None
    waiting_for: Json | None = None
    created_at: str
    started_at: str | None
    finished_at: str | None
    artifacts: Json


class MonthView(View):
    """Budget of an account for a calendar month; null is no limit."""

    name: str
    limit_gpu_seconds: float | None
    held_gpu_seconds: float
    spent_gpu_seconds: float
    available_gpu_seconds: float | None


class AccountView(View):
    """An account with its month."""

    id: str
    name: str
    plan: str | None
    may_run: bool
    month: MonthView
    alerts: list[Json]
    alerts_by: str


class ReceiptView(View):
    """An itemised receipt; `final` once the job has ended."""

    job_id: str
    final: bool
    gpu_seconds: float
    lost_gpu_seconds: float
    refunded_gpu_seconds: float
    price: Price
    by_stage: dict[str, float]
    lines: list[Json]


class AuditView(View):
    """A receipt, or a session's whole ledger, computed anew."""

    ok: bool
    checked: Json
    fault: Json | None


class CalibrationView(View):
    """Accuracy of quotes, of all accounts together."""

    jobs: int
    under_p90: int
    under_p90_percent: float | None
    goal_percent: list[int]
    rows: list[Json]
    note: str | None


class EconomicsView(View):
    """The operator's books."""

    by: str
    since: str
    cap_hits_since: str
    rows: list[Json]
    total: Json
    devices: list[Json]


class Listed(View):
    """Part of a list."""

    data: list[Json]
    next_cursor: str | None = None


class Health(View):
    """Health of the farm."""

    status: str
    version: str
