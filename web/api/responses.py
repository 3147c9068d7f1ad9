"""Answers of the API, as OpenAPI sees them.

Times are ISO 8601 in UTC; amounts of device time are GPU-seconds with at most three places.
"""

from typing import Final

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.model import Json

SECURITY: Final[list[dict[str, list[str]]]] = [{"key": []}]
OPTIONAL: Final[list[dict[str, list[str]]]] = [{}, *SECURITY]
"""A key opens it, and to some it is open without one."""


class View(BaseModel):
    """More fields may come; none goes."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)


# --- refusals ---------------------------------------------------------------------------------


class CallView(View):
    """A call of this API."""

    method: str
    path: str
    body: Json | None = None
    """Null: for the caller to write; absent: there is none."""


class RemedyView(View):
    """A remedy: a sentence, its data, and the call that does it, if one does."""

    code: str
    text: str
    data: Json
    call: CallView | None


class FaultView(View):
    """A fault of one field of a request."""

    field: str
    fault: str


class Problem(View):
    """A refusal: what happened, and what to do next (RFC 9457).

    Nothing was charged for a refused request.
    """

    type: str
    title: str
    status: int
    detail: str
    code: str
    """For programs: `budget_exceeded`, `not_found` …"""
    request_id: str
    """Also in `X-Request-Id`, and in the farm's log."""
    next: RemedyView
    also: list[RemedyView] = []
    errors: list[FaultView] = []


class Helped(View):
    """Something with what helps against it."""

    message: str
    next: RemedyView
    also: list[RemedyView] = []


# --- accounts, keys, people -------------------------------------------------------------------


class KeyView(View):
    """A key; its token only where it was just made."""

    id: str
    object: str
    kind: str
    scopes: list[str]
    name: str
    account_id: str | None
    session_id: str | None
    allowance: Json | None
    """Of a key that is bound to one: GPU-seconds given, held, spent and left."""
    successor_id: str | None
    created_at: str
    expires_at: str | None
    revoked_at: str | None
    used_at: str | None
    device_classes: list[str] | None = None
    uses: int | None = None
    times_used: int = 0
    token: str | None = None


class PersonView(View):
    """Somebody who may sign in to the pages."""

    id: str
    object: str
    name: str
    account_id: str
    created_at: str
    password_at: str | None
    at_provider: bool


class KeptView(View):
    """A picture that an account keeps, as a file or under a character's name."""

    id: str
    object: str
    name: str
    account_id: str
    bytes: int
    created_at: str
    expires_at: str | None


class LinkView(View):
    """A share link; its address only where it was just made."""

    id: str
    object: str
    state: str
    job_id: str
    name: str
    key_id: str | None
    person_id: str | None
    ends_with_key: bool
    created_at: str
    expires_at: str
    ended_at: str | None
    url: str | None = None


class AlertView(View):
    """A threshold of a budget."""

    percent: int
    action: str


class Price(View):
    """Money."""

    microusd: int
    usd: float


class PlanView(View):
    """A plan that accounts can have; null is no limit."""

    name: str
    object: str
    month_gpu_seconds: float | None
    session_gpu_seconds: float
    most_session_gpu_seconds: float | None
    open_jobs: int | None
    megapixels: float | None
    seconds: float | None
    steps: int | None
    models: list[str]
    weight: int
    floor: float
    storage_bytes: int | None
    file_days: int | None
    watermark: str | None
    price_month: Price | None
    """Null: its GPU-seconds are paid by the rate card."""
    alerts: list[AlertView]


class MonthView(View):
    """Budget of an account for a calendar month; null is no limit."""

    name: str
    limit_gpu_seconds: float | None
    held_gpu_seconds: float
    spent_gpu_seconds: float
    available_gpu_seconds: float | None


class StoredView(View):
    """Pictures of one kind that an account keeps."""

    count: int
    bytes: int


class StorageView(View):
    """Room that the pictures of an account take; null is no limit."""

    limit_bytes: int | None
    used_bytes: int
    files: StoredView
    characters: StoredView


class AccountView(View):
    """An account with its month."""

    id: str
    object: str
    name: str
    plan: str | None
    default_session_id: str
    may_run: bool
    month: MonthView
    storage: StorageView
    alerts: list[AlertView]
    alerts_by: str
    created_at: str


class SessionView(View):
    """A session and its balances."""

    id: str
    object: str
    name: str
    state: str
    is_default: bool
    budget_gpu_seconds: float
    held_gpu_seconds: float
    spent_gpu_seconds: float
    available_gpu_seconds: float
    alerts: list[AlertView]
    alerts_by: str
    entries: int
    head_sha256: str | None
    created_at: str


# --- webhooks ---------------------------------------------------------------------------------


class WebhookView(View):
    """An endpoint; its secret only where it was just made."""

    id: str
    object: str
    url: str
    events: list[str]
    for_jobs: bool
    hears_workers: bool
    state: str
    why: str
    old_secret_until: str | None
    created_at: str
    secret: str | None = None


class TryView(View):
    """One try to send a message."""

    at: str
    status: int | None
    error: str
    milliseconds: int


class DeliveryView(View):
    """A message to an endpoint, and the tries to send it."""

    id: str
    object: str
    webhook_id: str
    type: str
    state: str
    body: str
    tries: list[TryView]
    next_try_at: str | None
    created_at: str
    ended_at: str | None


# --- jobs -------------------------------------------------------------------------------------


class SceneView(View):
    """One scene of a storyboard, as it was asked for."""

    prompt: str
    seconds: float | None = None
    negative_prompt: str | None = None


class RequestView(View):
    """The body of a request, with what it asks for alone; its other fields are a JobBody's."""

    prompt: str = ""
    session_id: str | None = None
    model: str | None = None
    storyboard: list[SceneView] = []


class ShotView(View):
    """One clip of a video, as its words were understood."""

    first_frame: int
    frames: int
    prompt: str
    negative_prompt: str
    understood: str
    camera: str | None


class StartupView(View):
    """Device time before the first frame, which the farm pays."""

    gpu_seconds: float
    charged: bool


class StageView(View):
    """The cost of one part of the work."""

    stage: str
    gpu_seconds_p50: float
    gpu_seconds_p90: float
    price: Price


class Quoted(View):
    """The cost of a job that has not run."""

    gpu_seconds_p50: float
    gpu_seconds_p90: float
    price: Price
    rates: str
    profile: str | None


class AlternativeView(Quoted):
    """A variant that would fit, with the request for it."""

    label: str
    startup: StartupView
    stages: list[StageView]
    request: RequestView
    files: list[str]
    """Names of files that have to come with the request again."""


class WatermarkView(View):
    """Words in the corner of a video, and the plan that wants them there."""

    text: str
    plan: str


class QuoteView(Quoted):
    """The cost of a job; nothing was written."""

    object: str
    gpu_seconds_ceiling: float | None
    """The most a job is charged, which it holds; null: by its plan or its cap it is metered."""
    gpu_seconds_held: float
    startup: StartupView
    stages: list[StageView]
    basis: str
    """Source of the figures, in words."""
    basis_kind: str
    """device: measured on the only device of its class; class: on devices of its class; card:
    scaled from a model card, as nobody has measured the model there."""
    receipts: int
    """That the figures rest on; 0: on a pace that a worker measured, or on a card."""
    extrapolated: bool
    """No picture as small or as large was measured there."""
    fits: bool
    why_not: Helped | None
    gpu_seconds_least: float
    fitted: str | None
    watermark: WatermarkView | None
    session_id: str
    available_gpu_seconds: float
    model: str
    width: int
    height: int
    fps: int
    steps: int
    interpolate: int
    upscale: int
    seconds: float
    frames_total: int
    shots: list[ShotView]
    notes: list[str]
    alternatives: list[AlternativeView]


class JobQuote(Quoted):
    """The cost of a job when it was submitted."""

    gpu_seconds_ceiling: float | None
    fitted: str | None


class UsageOfJob(View):
    """Device time of a job."""

    gpu_seconds: float
    held_gpu_seconds: float
    over_quote_gpu_seconds: float
    max_gpu_seconds: float | None


class OriginView(View):
    """The job that a job was made from."""

    job_id: str
    how: str
    frames: int


class JobErrorView(Helped):
    """The reason for which a job failed."""

    code: str


class WaitingView(Helped):
    """The reason of a job's wait."""

    code: str
    jobs_ahead: int | None
    eta_seconds: float | None


class RulingView(View):
    """A word of the operator's policy."""

    allowed: bool
    reason: str
    judged: bool
    at: str


class FileView(View):
    """A file of a finished job."""

    url: str
    """Its path on this farm."""
    sha256: str
    bytes: int


class JobView(View):
    """A job."""

    id: str
    object: str
    state: str
    """`queued`, `planning`, `rendering`, `encoding`, `paused`, and at its end `succeeded`, `failed`
    or `cancelled`."""
    intent: str | None
    pause_reason: str | None
    session_id: str
    model: str
    prompt: str | None
    """Null to a key without the scope `read`; so are all its words and files."""
    negative_prompt: str | None
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
    progress: float = Field(ge=0, le=100)
    """In per cent, to a tenth: it moves with each denoising step that a worker has told of."""
    eta_seconds: float | None
    """The time it likely has left until its video is there, its wait in line included, from the
    pace seen on it. null: nobody can know yet, and `waiting_for` says why."""
    eta_seconds_p90: float | None
    """In nine of ten cases it has ended by then."""
    shots: list[ShotView]
    notes: list[str]
    origin: OriginView | None
    quote: JobQuote
    watermark: WatermarkView | None
    usage: UsageOfJob
    on_exhausted: str
    truncated: bool
    webhook_id: str | None
    webhook_events: list[str] | None
    """States that its webhook is told of, all where none is named; null: it has no webhook."""
    rulings: dict[str, RulingView]
    error: JobErrorView | None
    waiting_for: WaitingView | None = None
    request: RequestView | None = None
    """The body that asks for it again."""
    webhook_secret: str | None = None
    """Of a `webhook_url` that was new: shown this once."""
    tags: list[str]
    metadata: dict[str, str]
    expires_in: int | None
    """Seconds for which its files are kept after its end; null: until `expires_at`, or for ever."""
    expires_at: str | None
    expired_at: str | None
    created_at: str
    started_at: str | None
    finished_at: str | None
    artifacts: dict[str, FileView]
    """`video`, `poster` and `sheet`, once there is one."""


# --- bills ------------------------------------------------------------------------------------


class NotCharged(View):
    """Device time that nobody was charged for, and why."""

    why: str
    gpu_seconds: float


class ReceiptLine(View):
    """One lease of a job."""

    lease_id: str
    unit_id: str
    kind: str
    first_frame: int
    stride: int
    frames: int
    attempt: int
    worker_id: str
    worker: str
    device: str
    device_class: str
    outcome: str
    gpu_seconds: float
    lost_gpu_seconds: float
    not_charged: list[NotCharged]
    by_stage: dict[str, float]
    price_microusd: int
    energy_mj: int | None
    frame_sha256: list[str]
    message: str
    report: Json | None
    """As it was digested: in GPU-ms."""
    receipt_sha256: str | None


class ReceiptEntry(View):
    """One movement of a job's budget."""

    id: str
    kind: str
    gpu_seconds: float
    at_ms: int
    note: str


class ReceiptView(View):
    """An itemised receipt; `final` once the job has ended."""

    object: str
    job_id: str
    session_id: str
    state: str
    final: bool
    gpu_seconds: float
    held_gpu_seconds: float
    lost_gpu_seconds: float
    refunded_gpu_seconds: float
    not_charged: list[NotCharged]
    price: Price
    rates: list[str]
    by_stage: dict[str, float]
    frames: int
    watermark: WatermarkView | None
    energy_mj: int | None
    tags: list[str]
    metadata: dict[str, str]
    lines: list[ReceiptLine]
    entries: list[ReceiptEntry]


class LedgerFault(View):
    """The first entry that does not fit."""

    entry_id: str | None
    number: int | None
    why: str


class CheckedView(View):
    """Sums that were added up again: of a receipt some, of a session's ledger others."""

    price_microusd: int
    leases: int | None = None
    entries_of_job: int | None = None
    entries_of_session: int | None = None
    gpu_seconds: float | None = None
    lost_gpu_seconds: float | None = None
    entries: int | None = None
    available_gpu_seconds: float | None = None
    held_gpu_seconds: float | None = None
    spent_gpu_seconds: float | None = None


class AuditView(View):
    """A receipt, or a session's whole ledger, computed anew."""

    object: str
    job_id: str | None = None
    """Null: of a session's ledger."""
    session_id: str
    ok: bool
    checked: CheckedView
    head_sha256: str
    fault: LedgerFault | None


class EntryView(View):
    """One movement of the ledger, of GPU-seconds and, where it has a price, of money."""

    id: str
    at: str
    kind: str
    session_id: str
    job_id: str | None
    lease_id: str | None
    month_id: str | None
    gpu_seconds: float
    debit: str
    credit: str
    note: str
    price_microusd: int
    money_debit: str | None
    money_credit: str | None
    rates: str | None
    receipt_sha256: str | None
    number: int
    previous_sha256: str
    sha256: str


class RateCardView(View):
    """Prices from one day on."""

    object: str
    version: str
    since: str = Field(alias="from")
    holds: bool
    """It is the one that counts now."""
    microusd_per_gpu_second: dict[str, int]
    """By device class; `otherwise` for every other."""


class UsageRow(View):
    """Device time of one user, session, model, worker or stage."""

    key: str
    units: int
    gpu_seconds: float
    lost_gpu_seconds: float


class CalibrationRow(View):
    """Accuracy of the quotes for a model on a device class."""

    model: str
    device_class: str
    basis: str
    jobs: int
    under_p50: int
    under_p90: int
    under_p90_percent: float | None


class CalibrationView(View):
    """Accuracy of quotes, of all accounts together."""

    jobs: int
    under_p50: int
    under_p90: int
    under_p90_percent: float | None
    goal_percent: list[int]
    rows: list[CalibrationRow]
    note: str | None


class EconomicsSums(View):
    """Sums of the operator's books."""

    users: int
    units: int
    gpu_seconds: float
    lost_gpu_seconds: float
    revenue_microusd: int
    rate_card_microusd: int
    cost_microusd: int
    margin_microusd: int
    cost_per_user_microusd: int | None
    cap_hits: int


class EconomicsRow(EconomicsSums):
    """One row of the operator's books."""

    key: str


class EconomicsTotal(EconomicsSums):
    """All rows together."""

    idle_cost_microusd: int


class DevicesView(View):
    """The time of all devices of one class."""

    device_class: str
    present_seconds: float
    busy_seconds: float
    idle_seconds: float
    busy_cost_microusd: int
    idle_cost_microusd: int
    lost_gpu_seconds: float
    lost_cost_microusd: int


class QuotesHeldView(View):
    """Time of a model on a device class, and the part of it beyond quotes."""

    model: str
    device_class: str
    gpu_seconds: float
    over_quote_gpu_seconds: float
    """Beyond what jobs held: the farm's loss."""
    over_quote_cost_microusd: int


class EconomicsView(View):
    """The operator's books."""

    by: str
    since: str
    cap_hits_since: str
    rows: list[EconomicsRow]
    total: EconomicsTotal
    devices: list[DevicesView]
    quotes: list[QuotesHeldView]


# --- the farm ---------------------------------------------------------------------------------


class StepsView(View):
    """Denoising steps that a model takes."""

    min: int
    default: int
    max: int


class VocabularyView(View):
    """Words that a model was made for."""

    subjects: list[str]
    settings: list[str]
    motions: list[str]
    styles: list[str]


class ModelView(View):
    """A model on offer."""

    id: str
    object: str
    version: str
    title: str
    kind: str
    licence: str
    parameters: int
    native_size: str
    output_size: str
    profiles: dict[str, int]
    most_upscale: int
    steps: StepsView
    fps: int
    seconds: float
    max_seconds: float
    max_frames: int
    memory_mb: int
    takes_image: bool
    domains: list[str]
    scores: dict[str, float]
    vocabulary: VocabularyView


class WorkerView(View):
    """A worker."""

    id: str
    object: str
    name: str
    host: str
    device: str
    device_class: str
    memory_mb: int
    kinds: list[str]
    models: list[str]
    polls: bool
    state: str
    flags: int
    versions: dict[str, str]
    seen_at: str | None


class QueueView(View):
    """A queue, and the devices that stand idle beside it."""

    queue: str
    ready: int
    leased: int
    idle_workers: int


class FreezeView(View):
    """The brake on all spending."""

    frozen: bool


class ChecksView(View):
    """The newest look at the whole store."""

    at: str | None
    faults: int
    first: list[str]


class AuditEntryView(View):
    """A line of the audit log."""

    id: str
    object: str
    at: str
    verb: str
    target: str
    account_id: str | None
    key_id: str | None
    source: str
    data: Json


class Health(View):
    """Health of the farm."""

    status: str
    version: str


# --- lists ------------------------------------------------------------------------------------


class Page(View):
    """Part of a list."""

    next_cursor: str | None
    """`after` of the next part; null: this is the last one."""


class AccountList(Page):
    """Accounts, newest first."""

    data: list[AccountView]


class SessionList(Page):
    """Sessions, newest first."""

    data: list[SessionView]


class KeptList(Page):
    """Kept pictures, newest first."""

    data: list[KeptView]


class LinkList(Page):
    """Share links, newest first."""

    data: list[LinkView]


class EntryList(Page):
    """A session's entries, newest first."""

    data: list[EntryView]


class JobList(Page):
    """Jobs, newest first."""

    data: list[JobView]


class WebhookList(Page):
    """Endpoints, newest first."""

    data: list[WebhookView]


class DeliveryList(Page):
    """Messages, newest first."""

    data: list[DeliveryView]


class AuditLog(Page):
    """Administrative actions, newest first."""

    data: list[AuditEntryView]


class PlanList(View):
    """Plans."""

    data: list[PlanView]


class PersonList(View):
    """People."""

    data: list[PersonView]


class KeyList(View):
    """Keys, without their tokens."""

    data: list[KeyView]


class ModelList(View):
    """Models."""

    data: list[ModelView]


class WorkerList(View):
    """Workers, newest first."""

    data: list[WorkerView]


class QueueList(View):
    """Queues."""

    data: list[QueueView]


class RateCardList(View):
    """Rate cards, newest first."""

    data: list[RateCardView]


class UsageList(View):
    """Usage, the most first."""

    data: list[UsageRow]
