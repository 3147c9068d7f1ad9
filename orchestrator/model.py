"""The nouns of the farm, as frozen values.

Units stand last in names: `gpu_ms` (device milliseconds of any device, a CPU's too),
`price_microusd`, `lease_seconds`, `*_at_ms` (milliseconds since 1970 by the farm's clock).
Rows of the store are these classes, field by field (`orchestrator.store.tables`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal

from pydantic import AliasChoices, Field, PlainSerializer, PlainValidator

from orchestrator.receipt import KeptReceipt
from orchestrator.remedies import Remedy, Say, best_first, from_json, shown, to_json
from orchestrator.states import (
    BOUND,
    SCOPES,
    AlertAction,
    Basis,
    DeliveryState,
    EntryKind,
    Intent,
    JobState,
    KeyKind,
    Lane,
    LeaseState,
    LinkEnd,
    OnExhausted,
    Outcome,
    PauseReason,
    Scope,
    SessionState,
    UnitKind,
    UnitState,
    WayIn,
    WebhookState,
    WorkerState,
)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Width and height of a picture in pixels."""

    width: int
    height: int

    @property
    def megapixels(self) -> float:
        """Pixels in millions."""
        return self.width * self.height / 1e6

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


WHITE: Final = "#ffffff"
"""Colour behind what is transparent in a picture, where none is named."""

# --- what is asked -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class SceneText:
    """One scene of a storyboard file, before it is understood."""

    prompt: str
    seconds: float | None = None
    negative_prompt: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Brief:
    """A request's content, with nothing filled in.

    `None` means: the prompt's own words decide, then the model's defaults.
    """

    prompt: str
    negative_prompt: str = ""
    scenes: tuple[SceneText, ...] = ()
    """The storyboard; where there is one, `prompt` is only its title and style."""
    model: str | None = None
    seconds: float | None = None
    fps: int | None = None
    size: Size | None = None
    steps: int | None = None
    interpolate: int = 1
    """Paint every so many frames of the video; FFmpeg makes those between."""
    upscale: int = 1
    """Paint with sides so many times shorter than the model would; FFmpeg scales up."""
    seed: int | None = None
    image: str | None = None
    """Artifact key of a reference image."""
    image_background: str = WHITE
    """Colour behind what is transparent in it, `#rrggbb` in sRGB."""
    max_gpu_ms: int | None = None
    on_exhausted: OnExhausted = OnExhausted.PAUSE
    origin: "Origin | None" = None
    written_out: bool = False
    """Its size, rate, length and seed were written out of the prompt's words by the farm: those
    words are instructions still, and no part of what is shown."""

    @property
    def before(self) -> "Scene | None":
        """The scene that an extension goes on from."""
        return self.origin.last.scene if self.origin and self.origin.last else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Handling:
    """Fields of a request beside its brief: what decides no pixels and no price.

    Labels, webhook and keeping, and from where its files come. Alternatives to it say it again.
    """

    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Its owner's own words about it, by key."""
    webhook_url: str | None = None
    """Told of its states; checked by whoever takes the request."""
    webhook_events: tuple[str, ...] = ()
    """Which of them; none named: all."""
    expires_in_ms: int | None = None
    """Time for which its files are kept after its end."""
    expires_at_ms: int | None = None
    """Moment until which they are kept, instead of a time."""
    image_of: str | None = None
    """Id of the job whose reference picture it takes."""
    files: tuple[str, ...] = ()
    """Names of the files that come with its request."""


# --- what is understood (prompt) ---------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Vocabulary:
    """The words a model knows: id -> the English phrases that mean it (lower case)."""

    subjects: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    settings: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    motions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    styles: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cast:
    """One subject of a shot and how it moves; ids of the model's vocabulary."""

    subject: str
    motion: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One shot as the parser understood it."""

    prompt: str
    """The description, without the words that were instructions (durations, sizes …)."""
    negative_prompt: str = ""
    seconds: float | None = None
    cast: tuple[Cast, ...] = ()
    setting: str | None = None
    style: str | None = None
    camera: (
        Literal["pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out"] | None
    ) = None
    understood: str = ""
    """One line for people: `dog · moves right · beach`; empty without a vocabulary."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Screenplay:
    """A prompt, parsed: its scenes and the wishes found in its words."""

    scenes: tuple[Scene, ...]
    seconds: float | None = None
    fps: int | None = None
    size: Size | None = None
    seed: int | None = None
    notes: tuple[str, ...] = ()
    """Notes for the person who asked, of what was ignored or changed."""


# --- what is planned (planner) -----------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """The place of one subject in one frame.

    `x`, `y`: centre in parts of the picture (right, down); `scale` 1.0: about 44 % of its
    height; `turn`: degrees clockwise.
    """

    subject: str
    x: float
    y: float
    scale: float = 1.0
    turn: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shot:
    """One clip with one description: `frames` frames from `first_frame` of the video."""

    first_frame: int
    frames: int
    seed: int
    scene: Scene


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """The finished job that another one is made from."""

    job_id: str
    how: Literal["remix", "edit", "extension"]
    frames: int = 0
    """Of its video, where an extension's own come after them."""
    last: Shot | None = None
    """The video that an extension goes on from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameBatch:
    """Frames that one worker renders in one go: a run, or every so many of the video."""

    first_frame: int
    frames: int
    stride: int = 1

    @property
    def indices(self) -> range:
        """Which frames of the video these are."""
        return indices(self.first_frame, self.frames, self.stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class RenderPlan:
    """Everything that decides the pixels of a job, and how it is cut into units."""

    model: str
    model_version: str
    native: Size
    """The size that the model paints."""
    output: Size
    """The size of the video; scaled by FFmpeg where it differs."""
    fps: int
    """Of the video."""
    interpolate: int = 1
    """Frames of the video for each one that is painted."""
    upscale: int = 1
    """Times by which the native sides are shorter than the model would have them."""
    steps: int
    guidance_scale: float
    micro_batch: int
    """Frames per call of the pipeline; the last one is padded, so pixels never depend on it."""
    seed: int
    shots: tuple[Shot, ...]
    batches: tuple[FrameBatch, ...]
    passes: int = 1
    """Rounds in which the frames are made; over 1, those of a batch lie between others'."""
    notes: tuple[str, ...] = ()
    lead: Origin | None = None
    """Of an extension: what its frames come after."""

    @property
    def lead_frames(self) -> int:
        """Frames that are there already and only joined."""
        return self.lead.frames if self.lead else 0

    @property
    def frames_total(self) -> int:
        """Frames that are painted."""
        return sum(shot.frames for shot in self.shots)

    @property
    def made_frames(self) -> int:
        """Frames between painted ones, or after a shot's last one."""
        return self.frames_total * (self.interpolate - 1)

    @property
    def painted_fps(self) -> int:
        """Painted frames a second."""
        return self.fps // self.interpolate

    @property
    def seconds(self) -> float:
        """Length of the video."""
        return self.frames_total / self.painted_fps


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """All an engine needs to paint one frame."""

    index: int
    """In the video, from 0."""
    prompt: str
    negative_prompt: str
    seed: int
    """Of the shot: every frame of a shot starts from the same noise."""
    phase: float
    """Place in its shot: 0.0 first frame, 1.0 last one."""
    layout: tuple[Placement, ...] = ()
    prompt_to: str = ""
    """End of the prompt schedule: the embedding is blended by `blend` toward this prompt."""
    blend: float = 0.0


# --- what it costs (pricing) -------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class StageCost:
    """One line of a quote."""

    stage: UnitKind
    p50_gpu_ms: int
    p90_gpu_ms: int
    price_microusd: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Quote:
    """A priced plan. The ceiling is the promise, p50 and p90 are what is likely."""

    p50_gpu_ms: int
    p90_gpu_ms: int
    least_gpu_ms: int
    """Need of its shortest video, cut off after one micro-batch: plan and encoding too."""
    ceiling_gpu_ms: int
    """The most that a job is charged whose plan has quotes that hold, and what it holds."""
    price_microusd: int
    """Of the p50."""
    stages: tuple[StageCost, ...]
    startup_gpu_ms: int
    """Model load and warm-up where no worker has it loaded; the farm's, never charged."""
    rates: str
    """Version of the rate card."""
    profile: str | None
    """The model's profile with these steps; None: steps of somebody's own."""
    basis: str
    """Source of the figures, in words: `measured on this device (cpu): 12 receipts of …`."""
    basis_kind: Basis
    receipts: int
    """That it rests on; 0: on a pace that was measured, or on a card."""
    extrapolated: bool
    """Nothing as small or as large was measured there."""
    device_class: str
    """That it is for."""
    measured: bool
    """It rests on receipts, not on a pace or a card's prior."""
    step_prior: tuple[int, int]
    """GPU-ms that one denoising step, and decoding one micro-batch, should cost."""
    plan_sha256: str = ""
    """Of a job: the plan that its worker is to come to as well."""
    fitted: str | None = None
    """Words for what gave so that it fits; None: it is what was asked."""
    watermark: "Watermark | None" = None

    @property
    def metered_gpu_ms(self) -> int:
        """Hold of a metered job without a cap: its p90, and enough for its shortest video."""
        return max(self.p90_gpu_ms, self.least_gpu_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class Watermark:
    """Words in the corner of a video, and the plan of its account that wants them there."""

    text: str
    plan: str


@dataclass(frozen=True, slots=True)
class Alert:
    """A threshold of a budget, in percent of its limit when spent, and what it does."""

    percent: int
    action: AlertAction = AlertAction.NOTIFY


# --- what rows hold ----------------------------------------------------------------------


def _remedies(kept: Any) -> tuple[Remedy, ...]:
    """Return what helps, as a row keeps it; an old one has a sentence."""
    return (Say(kept),) if isinstance(kept, str) else tuple(map(from_json, kept))


@dataclass(frozen=True, slots=True, kw_only=True)
class JobError:
    """Reason for which a job failed, and what helps."""

    code: str
    message: str
    remedies: Annotated[
        tuple[Remedy, ...],
        Field(validation_alias=AliasChoices("remedies", "next")),
        PlainValidator(_remedies),
        PlainSerializer(lambda those: [to_json(each) for each in those]),
    ]

    def as_json(self) -> "Json":
        """Return it as its owner's programs read it."""
        told = [shown(each) for each in self.remedies]
        return {"code": self.code, "message": self.message, **best_first(told)}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRef:
    """A file that is kept, and how to know it again."""

    key: str
    sha256: str
    bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruling:
    """A word of the operator's policy on a prompt or on frames."""

    allowed: bool
    reason: str = ""
    error: str = ""
    """Reason for which it said nothing; `allowed` is then what the operator chose for that case."""
    at_ms: int
    lease_id: str | None = None
    """Of frames: whose they were."""
    tries: int = 0
    """Of frames: how often it was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Point at which a unit's first micro-batch goes on."""

    key: str
    sha256: str
    step: int
    """Steps that are done."""
    fingerprint: str
    """Under which they were done and are to be continued."""
    gpu_ms: int
    """Charge that the session paid for them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """One try to send a message."""

    at_ms: int
    status: int | None
    error: str
    milliseconds: int


# --- rows --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """The payer."""

    id: str
    name: str
    plan: str
    default_session_id: str
    """The session of requests that name none."""
    alerts: tuple[Alert, ...] | None = None
    """Its months' own, ascending; None: the plan's."""
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPeriod:
    """Which plan an account has from a moment until its next change; never rewritten."""

    id: str
    account_id: str
    number: int
    """From 1: two of one millisecond are told apart by it."""
    plan: str
    """Empty: none, or one that is offered no more."""
    price_microusd: int | None
    """Price of the plan a month; None: its GPU-seconds are paid by the rate card."""
    from_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Month:
    """Budget of an account for one calendar month (UTC), over all its sessions.

    A job's hold is in the month in which it was placed or last resumed, and what it settles is
    spent there. A limit of None is none.
    """

    id: str
    """`<account>.<year>-<month>`."""
    account_id: str
    plan: str
    """Name of the account's plan; empty: it has none, and nothing may run."""
    cap_gpu_ms: int | None = None
    """The plan's own limit."""
    limit_gpu_ms: int | None = None
    """The cap; above it while held + spent are, when the cap was lowered under them."""
    held_gpu_ms: int = 0
    spent_gpu_ms: int = 0
    alerts: tuple[Alert, ...] | None = None
    """Its account's own, ascending; None: the plan's."""
    alerted_percent: int = 0
    """The highest alert that was given and still holds."""

    @property
    def available_gpu_ms(self) -> int | None:
        """Room for a new hold; None: as much as it likes."""
        if not self.plan:
            return 0
        if self.limit_gpu_ms is None:
            return None
        return self.limit_gpu_ms - self.held_gpu_ms - self.spent_gpu_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One working envelope of an account: a budget and its jobs."""

    id: str
    account_id: str
    name: str
    state: SessionState = SessionState.OPEN
    limit_gpu_ms: int
    held_gpu_ms: int = 0
    spent_gpu_ms: int = 0
    target_gpu_ms: int | None = None
    """A lower limit that was asked for: the limit sinks to it as holds release."""
    alerts: tuple[Alert, ...] | None = None
    """Its own, ascending; None: its plan's."""
    alerted_percent: int = 0
    """The highest alert that was given and still holds."""
    virtual_us: int = 0
    """Virtual time of fair share: microseconds of device time charged, over the weight."""
    plan: str = ""
    """Its account's plan when it last joined or was granted a unit."""
    waits_from_ms: int = 0
    """When it last joined or was granted a unit."""
    entries: int = 0
    """Of its ledger; the number of the newest one."""
    head_sha256: str = ""
    """Digest of the newest entry: the end of its chain."""
    created_at_ms: int

    @property
    def available_gpu_ms(self) -> int:
        """Room for a new hold."""
        return self.limit_gpu_ms - self.held_gpu_ms - self.spent_gpu_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Allowance:
    """The sum that the jobs of one key, and of those that took its place, may cost together."""

    id: str
    """Of the first of these keys."""
    account_id: str
    limit_gpu_ms: int
    held_gpu_ms: int = 0
    spent_gpu_ms: int = 0

    @property
    def available_gpu_ms(self) -> int:
        """Room for a new hold."""
        return self.limit_gpu_ms - self.held_gpu_ms - self.spent_gpu_ms


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One video that somebody asked for."""

    id: str
    account_id: str
    key_id: str | None = None
    """The key that submitted it, or the first of those whose place that one took; None: a page."""
    allowance_id: str | None = None
    """The allowance that its holds and charges count against."""
    session_id: str
    month_id: str
    """The month of its hold, in which its settlements are spent."""
    state: JobState
    intent: Intent | None = None
    pause_reason: PauseReason | None = None
    brief: Brief
    render_plan: RenderPlan
    """As quoted; its batches are one run here, since the units know the cuts."""
    parsed: bool = False
    """The parse unit is done: there are render units."""
    quote: Quote
    image: str | None = None
    """Artifact key of its reference image; other jobs may have started from the same."""
    model: str
    width: int
    height: int
    fps: int
    steps: int
    seed: int
    frames_total: int
    frames_done: int = 0
    truncated: bool = False
    """The budget ran out and its video is of what was finished then."""
    held_gpu_ms: int = 0
    """Rest of its open hold."""
    spent_gpu_ms: int = 0
    refunded_gpu_ms: int = 0
    """Charges before it failed by the farm's fault; `spent` is 0 then."""
    cap_gpu_ms: int | None = None
    """`max_gpu_seconds` of the request; held + spent never exceeds it."""
    ceiling_gpu_ms: int | None = None
    """The most it is charged, and what it held when it was submitted; None: it is metered."""
    runaway_gpu_ms: int | None = None
    """Device time after which the farm ends it at its own cost; None: it is metered."""
    over_quote_gpu_ms: int = 0
    """Device time beyond what it held: the farm's loss."""
    ran_away: bool = False
    """It took far too long, so the farm makes its video of finished frames for nothing."""
    encode_reserve_gpu_ms: int = 0
    """Part of the hold that only the encode unit may use."""
    error: JobError | None = None
    artifacts: Mapping[str, FileRef] = field(default_factory=dict)
    """Of the finished video, by name: `video`, `poster`, `sheet`."""
    revision: int = 0
    """Grows with every change; the ETag."""
    created_at_ms: int
    started_at_ms: int | None = None
    resumed_at_ms: int | None = None
    """When it last went on after a pause; None: it never paused."""
    finished_at_ms: int | None = None
    deleted_at_ms: int | None = None
    """Its owner deleted it: hidden and its files are gone; the ledger still names it."""

    @property
    def on_exhausted(self) -> OnExhausted:
        """Choice for when the budget runs out."""
        return self.brief.on_exhausted

    @property
    def interpolate(self) -> int:
        """Frames of its video for each one that is painted."""
        return self.brief.interpolate

    @property
    def upscale(self) -> int:
        """Times by which the painted sides are shorter than its model would have them."""
        return self.brief.upscale

    @property
    def seconds(self) -> float:
        """Length of what is painted for it."""
        return self.frames_total * self.interpolate / self.fps

    webhook_id: str | None = None
    """The endpoint that its `webhook_url` named."""
    rulings: Mapping[str, Ruling] = field(default_factory=dict)
    """Rulings of the operator's policy on its `prompt` and its `frames`."""
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict)
    """Its owner's own words about it, by key; what jobs are found by is in `labels` too."""
    webhook_events: tuple[str, ...] = ()
    """Kinds of events that its own webhook is told; none named: all of the job's."""
    keep_ms: int | None = None
    """Time for which its files are kept after its end; None: for ever, or until `keep_until_ms`."""
    keep_asked: bool = False
    """Its request named that time; else its plan did."""
    keep_until_ms: int | None = None
    """Moment that its request named instead; not before its end, and an hour more."""
    expires_at_ms: int | None = None
    """Of an ended job: when its files are to be removed."""
    expired_at_ms: int | None = None
    """Its files were removed then; receipts and ledger stay."""
    remove_at_ms: int | None = None
    """When the farm looks at its files next, to remove them; None: there is nothing to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """Work that one worker does at once."""

    id: str
    job_id: str
    session_id: str
    kind: UnitKind
    state: UnitState = UnitState.READY
    queue: str
    """`parse`, `encode` or `render.<model>`; see `orchestrator.wire`."""
    first_frame: int = 0
    frames: int = 0
    stride: int = 1
    """Its frames are every so many of the video, from the first one on."""
    batch: int = 0
    """Which of its plan's frame batches they are of; those that a stop has parted share it."""
    p50_gpu_ms: int
    p90_gpu_ms: int
    minimum_gpu_ms: int
    """Less than this is not worth a lease; doubles when a stop kept nothing."""
    fence: int = 0
    """Of the newest lease."""
    attempts: int = 0
    """Leases that ended in failure or lapse."""
    last_worker_id: str | None = None
    """The worker that failed it last; another one is preferred."""
    accepted_lease_id: str | None = None
    checkpoint: Checkpoint | None = None
    prepaid_gpu_ms: int = 0
    """Paid for steps that have to be done again; the next charges are less by it."""
    rung_at_ms: int | None = None
    """When the dispatcher last published it; the ready units are the outbox."""
    created_at_ms: int

    @property
    def indices(self) -> range:
        """Which frames of the video its frames are."""
        return indices(self.first_frame, self.frames, self.stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A worker's right to run one unit until it lapses."""

    id: str
    unit_id: str
    job_id: str
    session_id: str
    worker_id: str
    worker_name: str
    device: str
    device_class: str
    """These three as they were at the grant: a worker may come back as another."""
    kind: UnitKind
    lane: Lane = Lane.WEIGHT
    """By which rule it was granted."""
    virtual_us: int = 0
    """Its session's virtual time at that moment."""
    fence: int
    """Grows with every grant of the unit; an older holder is refused."""
    epoch: int
    """Of the farm; grows when its database is restored, which voids older leases."""
    state: LeaseState = LeaseState.OPEN
    gpu_ms_limit: int
    granted_at_ms: int
    expires_at_ms: int
    sequence: int = 0
    """Of the newest heartbeat."""
    used_gpu_ms: int = 0
    """As last reported."""
    frames_done: int = 0
    steps_done: int = 0
    """Denoising steps made under it, as last reported."""
    worked_ms: int = 0
    """Time by its host's clock that these and what was between them took."""
    outcome: Outcome | None = None
    settled_gpu_ms: int = 0
    lost_gpu_ms: int = 0
    """Measured, and charged to nobody."""
    over_quote_gpu_ms: int = 0
    """Part of it that lay beyond what its job held."""
    receipt: KeptReceipt | None = None
    resolved_at_ms: int | None = None

    def key(self, name: str) -> str:
        """Return where a file lies that was made under it."""
        return artifact_key(self.unit_id, self.fence, name)


@dataclass(frozen=True, slots=True, kw_only=True)
class Worker:
    """One process bound to one device."""

    id: str
    name: str
    host: str
    device: str
    """`cpu`, `cuda:0` …"""
    device_class: str
    """Class by which costs and prices are known: `cpu`, `nvidia-a10g` …"""
    memory_mb: int
    kinds: tuple[str, ...]
    models: tuple[str, ...]
    fingerprint: str
    """Of library versions and device class; pixels are equal within one."""
    versions: Mapping[str, str]
    state: WorkerState = WorkerState.ACTIVE
    polls: bool = False
    """Claims by itself; the dispatcher need not ring it."""
    blamed: tuple[str, ...] = ()
    """Sessions whose units it failed since its last success."""
    flags: int = 0
    """Reports that left too much of its busy time unexplained, or came with another video than
    was ordered, since it was last admitted."""
    unexplained_ms: int = 0
    """Time beyond 5 % of its busy time that its reports since the last flag left unexplained."""
    metered_to_ms: int = 0
    """Up to when its device time was charged; what comes next is charged after it."""
    owed: Mapping[str, int] = field(default_factory=dict)
    """GPU-ms it owes: by plan with a floor, and under "" to those that waited too long."""
    warm: str = ""
    """Queue of the model it rendered with last."""
    warm_from_ms: int = 0
    """Since when it renders with that model."""
    since_ms: int
    """When its present shift began: it was there from then until it was last seen."""
    seen_at_ms: int
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Shift:
    """A time in which a worker was there; the present one stands on the worker."""

    id: str
    worker_id: str
    device_class: str
    from_ms: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageSum:
    """Usage by one account, session, model, worker and kind of unit in one hour or day."""

    span_ms: int
    """Length: an hour's or a day's."""
    from_ms: int
    """Its beginning, in UTC."""
    account_id: str
    session_id: str
    model: str
    worker_id: str
    kind: UnitKind
    units: int
    """Number that was charged, whether or not it was given back since."""
    gpu_ms: int
    """Charged and not given back."""
    lost_gpu_ms: int
    """Charged to nobody, or given back."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One movement of GPU-ms from the `debit` account to the `credit` account; never changed."""

    id: str
    at_ms: int
    kind: EntryKind
    session_id: str
    job_id: str | None = None
    lease_id: str | None = None
    month_id: str | None = None
    """Of a job's movement: the account's month it counts in."""
    gpu_ms: int
    debit: str
    credit: str
    note: str = ""
    price_microusd: int = 0
    """Of a settlement, by the rate card of its moment."""
    rates: str = ""
    """Version of that rate card."""
    receipt_sha256: str = ""
    """Of its lease as that ended, with what was reported of it (`chain.lease_digest`)."""
    number: int = 0
    """In its session's chain, from 1."""
    previous_sha256: str = ""
    """Digest of the entry before; empty for the first."""
    sha256: str = ""
    """`chain.digest` of this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An API key, worker key, join token or sign-in link; only its hash is kept."""

    id: str
    account_id: str | None
    worker_id: str | None = None
    kind: KeyKind
    name: str
    secret_sha256: str
    created_at_ms: int
    expires_at_ms: int | None = None
    revoked_at_ms: int | None = None
    used_at_ms: int | None = None
    successor_id: str | None = None
    """The key made to take its place; both live until this one ends."""
    first_id: str
    """The first of the keys that took one another's place: its own id, or an older one's."""
    session_id: str | None = None
    """The only session that it spends from."""
    allowance_id: str | None = None
    """The allowance that it may spend."""
    device_classes: tuple[str, ...] | None = None
    """Classes that a worker may name which enrols by it, or whose own it is; None: any."""
    uses: int | None = None
    """Workers that may enrol by it; None: any number."""
    times_used: int = 0
    """Workers that have enrolled by it."""
    attempt_sha256: str | None = None
    """Digest of the try to enrol that a worker's key came of: a repeat is the same worker."""

    @property
    def is_bound(self) -> bool:
        """Tell whether it spends within bounds of its own."""
        return self.session_id is not None or self.allowance_id is not None

    @property
    def scopes(self) -> frozenset[Scope]:
        """Its kind's scopes, without those that could pass its bounds."""
        return SCOPES[self.kind] & BOUND if self.is_bound else SCOPES[self.kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody of an account who signs in to the pages: with a password, or at a provider."""

    id: str
    account_id: str
    name: str
    """One of its kind in the whole farm, in lower case."""
    password_hash: str = field(repr=False)
    """Argon2id; empty: no password opens."""
    subject: str | None = None
    """Subject at the operator's identity provider: its issuer, a space, its name for them."""
    created_at_ms: int
    password_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SignIn:
    """A browser that is signed in; its cookie names this row, and is worth nothing without it."""

    id: str
    account_id: str
    way: WayIn
    holder_id: str
    """Id of the person, or of the key or one-time link, that it came by."""
    password_at_ms: int | None = None
    """Of a person's: when the password was set that then held."""
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ShareLink:
    """An address that opens one file of one job without a key, for a while; only hashed here."""

    id: str
    account_id: str
    job_id: str
    name: str
    """Of the file: `video`, `poster`, `sheet`."""
    secret_sha256: str
    key_id: str | None
    """The key that made it, or that the browser which made it had come by."""
    person_id: str | None
    """The person who made it in a browser."""
    ends_with_key: bool
    created_at_ms: int
    expires_at_ms: int
    ended_at_ms: int | None = None
    ended_by: LinkEnd | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something a watcher of a job is told. `id` grows over the whole farm."""

    id: int
    job_id: str
    kind: Literal["state", "progress", "frame", "usage"]
    data: Json
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A request that made a job, remembered by what it asked in case its answer was lost."""

    id: str
    account_id: str
    request_sha256: str
    job_id: str
    made_by_try: int
    """0: the client's first one."""
    newest_try: int
    """That was answered with this job."""
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A picture kept under a name or as a file, to start videos from."""

    id: str
    account_id: str
    kind: Literal["character", "file"]
    name: str
    image: str
    """Artifact key."""
    bytes: int
    """As it is kept; it counts towards the storage of its account."""
    created_at_ms: int
    expires_at_ms: int | None = None
    """From then on it is gone for its owner, and housekeeping removes it; None: it stays."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """A picture among the artifacts: it lies there as long as this row does not say otherwise."""

    id: str
    """Artifact key."""
    bytes: int
    kept_at_ms: int
    """When it last came."""
    removed_at_ms: int | None = None
    removed_name: str = ""
    """Name of the last file or character that kept it, for who asks for it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measured unit, for the cost model."""

    id: str
    model: str
    device_class: str
    kind: UnitKind
    gpu_ms: int
    work: float
    """render: frames·steps·native megapixels; encode: frames·output megapixels; plan: 1."""
    steps: int = 0
    """Of a render unit; work / steps is what was decoded."""
    megapixels: float = 0.0
    """Of one of its micro-batches, all frames together; work / steps / that is how many."""
    denoise_gpu_ms: int = 0
    decode_gpu_ms: int = 0
    """With bringing the pixels to the host."""
    load_gpu_ms: int = 0
    """Model load and warm-up before it; 0 on a warm worker."""
    worker_id: str = ""
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """A worker's own measurement of a model: a step and a decode of one micro-batch.

    There is one of each worker, model and size, the newest.
    """

    id: str
    worker_id: str
    model: str
    device_class: str
    megapixels: float
    """Of the micro-batch, all frames together."""
    step_gpu_ms: float
    decode_gpu_ms: float
    load_gpu_ms: int
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobSample:
    """A job that ended, against its quote."""

    id: str
    job_id: str
    model: str
    device_class: str
    """That the quote was for."""
    p50_gpu_ms: int
    p90_gpu_ms: int
    spent_gpu_ms: int
    measured: bool
    """The quote rested on receipts, not on the card's prior."""
    at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A webhook endpoint: a URL that is told what happens."""

    id: str
    account_id: str
    url: str
    kinds: tuple[str, ...]
    """Of events: `job.succeeded`, `job.*`, `*` …"""
    operator: bool = False
    """An operator made it: it is told of workers too, which belong to no account."""
    for_jobs: bool = False
    """A job's `webhook_url` made it: it is told only of jobs that name it."""
    state: WebhookState = WebhookState.ACTIVE
    why: str = ""
    """It is disabled."""
    secret: str = field(repr=False)
    """`whsec_…`, kept as it is, since every message is signed with it."""
    old_secret: str | None = field(default=None, repr=False)
    """Of before the last rotation; signs too until `old_until_ms`."""
    old_until_ms: int | None = None
    created_at_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One message to one endpoint, with every try to send it; its id is the `webhook-id`."""

    id: str
    webhook_id: str
    kind: str
    body: str
    """As signed and sent: the same bytes at every try."""
    state: DeliveryState = DeliveryState.PENDING
    attempts: int = 0
    """Since it was written or last replayed."""
    tries: tuple[Try, ...] = ()
    """The newest last."""
    next_at_ms: int
    created_at_ms: int
    ended_at_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEntry:
    """One administrative action: who, what, when, from where. Never changed."""

    id: str
    at_ms: int
    verb: str
    """As `key.create`."""
    target: str
    """Id of what it was done to."""
    account_id: str | None
    """Owner of that thing, where it has one."""
    key_id: str | None
    """Doer of it: the key that asked; None: the farm itself, or a signed-in browser."""
    source: str
    """From where: an address, or `farm` for what a process did on its own machine."""
    data: Json = field(default_factory=dict)


def artifact_key(unit_id: str, fence: int, name: str) -> str:
    """Return where a file lies that was made under this lease of a unit."""
    return f"units/{unit_id}/{fence}/{name}"


def indices(first: int, count: int, stride: int) -> range:
    """Return which frames these are: `count` of them, every `stride`th from `first` on."""
    return range(first, first + count * stride, stride)
