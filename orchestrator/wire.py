"""The worker protocol: every message between a worker and the farm, and the queue names.

JSON over HTTP under `/worker/v1/`, `Authorization: Bearer <worker key>`. docs/protocol.md
says for each call what to do with each answer. Durations travel, clock readings do not: a
worker counts `expires_in_ms` from the moment it *sent* the request, by its monotonic clock.
"""

from itertools import chain
from typing import Annotated, Final, Literal

from pydantic import AfterValidator, Field

from orchestrator.model import WHITE, Brief, RenderPlan
from orchestrator.receipt import MOST_BEATS, MOST_WORDS, Digest, Message, Ms, Receipt, Word
from orchestrator.safe_text import Label, one_line
from orchestrator.states import Cause, Outcome, UnitKind, Verdict

PROTOCOL: Final = 1
PREFIX: Final = "/worker/v1"
PARSE_QUEUE: Final = "parse"
ENCODE_QUEUE: Final = "encode"

MOST_MB: Final = 10**9
"""A petabyte, of one device."""
MOST_SIDE: Final = 2**15
"""Pixels of a side, or frames of a micro-batch."""
LEAST_PACE_MS: Final = 0.001
MOST_PACE_MS: Final = 3_600_000
"""A microsecond and an hour: no device does a step in less, nobody waits for longer ones."""
PaceMs = Annotated[float, Field(ge=LEAST_PACE_MS, le=MOST_PACE_MS, allow_inf_nan=False)]
Fence = Annotated[int, Field(ge=0, le=MOST_BEATS)]
Id = Annotated[str, Field(max_length=100)]

TAKEN_UP: Final = "taken-up"
"""File in a worker's home, from when it has taken its first model up and told its pace."""
LIMIT: Final = "limit"
"""The message of a unit that was stopped by its lease's limit and by nothing else."""
SEGMENT: Final = "segment.mp4"
"""Closed-GOP H.264 of one unit at the output size; concatenated without re-encoding."""
MASTER: Final = "master.mkv"
"""FFV1 of one unit at the native size."""
STRIP: Final = "strip.jpg"
"""The unit's frames side by side, for the eyes of whoever waits."""
VIDEO: Final = "video.mp4"
CHECKPOINT: Final = "checkpoint.safetensors"
"""An unfinished micro-batch between two steps: its latents and all that goes on with them."""
POSTER: Final = "poster.jpg"
SHEET: Final = "sheet.jpg"
FILES: Final = (SEGMENT, MASTER, STRIP, VIDEO, CHECKPOINT, POSTER, SHEET)
"""Files that a worker can bring, each at most once under a lease."""
FILES_OF: Final = {
    UnitKind.PARSE: frozenset[str](),
    UnitKind.RENDER: frozenset({SEGMENT, MASTER, STRIP}),
    UnitKind.ENCODE: frozenset({VIDEO, POSTER, SHEET}),
}
"""Files that it must bring of a unit with a result."""


def render_queue(model: str) -> str:
    """Return the queue of a model's render units."""
    return f"render.{model}"


class HelloRequest(Message):
    """A worker enrols (with a join token) or comes back (with its own key)."""

    protocol: int = Field(default=PROTOCOL, ge=0, le=MOST_BEATS)
    name: Label = Field(min_length=1, max_length=100)
    host: Label = Field(min_length=1, max_length=200)
    device: Label = Field(max_length=50)
    device_class: Label = Field(max_length=50)
    memory_mb: int = Field(ge=0, le=MOST_MB)
    kinds: tuple[UnitKind, ...] = Field(max_length=MOST_WORDS)
    models: tuple[Word, ...] = Field(max_length=MOST_WORDS)
    polls: bool = False
    fingerprint: Label = Field(max_length=100)
    versions: dict[Word, Word] = Field(default={}, max_length=MOST_WORDS)
    attempt: Digest | None = None
    """256 bits of chance, the same in every repeat of one try to enrol: should the answer be lost,
    the repeat is of the same worker and uses no more of its token."""


class HelloAnswer(Message):
    """The worker's identity from now on, and its rules."""

    worker_id: str
    worker_key: str | None
    """Shown once, to a worker that came with a join token; None to one that has its key."""
    epoch: int
    heartbeat_seconds: float
    lease_seconds: float
    queues: tuple[str, ...]


class ClaimRequest(Message):
    """Ask for work; the farm chooses, `hint` is only where it looks first."""

    hint: Id | None = None
    wait_seconds: float = Field(0, ge=0, le=30, allow_inf_nan=False)
    """Long poll: how long the farm may wait for work before it answers with none."""


class FrameSpec(Message):
    """One frame to paint; the fields of `orchestrator.model.Frame`."""

    index: int
    prompt: str
    negative_prompt: str
    seed: int
    phase: float
    layout: tuple[dict[str, float | str], ...] = ()
    prompt_to: str = ""
    blend: float = 0.0


class ParseWork(Message):
    """Work of a parse unit: the brief as it was submitted."""

    kind: Literal[UnitKind.PARSE] = UnitKind.PARSE
    brief: Brief
    seed: int
    """The job's, fixed at submission, so that the plan is the one that was quoted."""


class CheckpointRef(Message):
    """An accepted checkpoint, to be continued under the fingerprint it was made with."""

    key: str
    sha256: str
    step: int
    """Steps that are done of the work's first micro-batch."""


class RenderWork(Message):
    """Work of a render unit. Self-contained: nothing else decides a pixel."""

    kind: Literal[UnitKind.RENDER] = UnitKind.RENDER
    model: str
    model_version: str
    width: int
    height: int
    output_width: int
    output_height: int
    fps: int
    steps: int
    guidance_scale: float
    micro_batch: int
    frames: tuple[FrameSpec, ...]
    watermark: str = ""
    """Words in the corner of the segment and the strip; the master has none."""
    image: str | None = None
    """Artifact key of the reference image; GET it from `/artifacts/<key>`."""
    image_background: str = WHITE
    """Colour behind what is transparent in it, `#rrggbb` in sRGB."""
    step_gpu_ms_prior: int
    """Expected cost of one denoising step of one micro-batch, until the meter has seen one."""
    decode_gpu_ms_prior: int
    """Expected cost of decoding one micro-batch."""
    checkpoint: CheckpointRef | None = None
    """Checkpoint that the first micro-batch goes on from; None: its noise."""


class SegmentRef(Message):
    """An accepted artifact of a render unit."""

    first_frame: int
    frames: int
    stride: int = 1
    key: str
    sha256: str


class EncodeWork(Message):
    """Work of an encode unit: make a video of segments and masters, in the order of its frames."""

    kind: Literal[UnitKind.ENCODE] = UnitKind.ENCODE
    width: int
    height: int
    fps: int
    frames_total: int
    truncated: bool = False
    """Frames are missing, and those before them are to be shown for longer."""
    title: str
    segments: tuple[SegmentRef, ...]
    """Copied as they are: those of frame batches that one unit made, and the video that an
    extension goes on from."""
    masters: tuple[tuple[SegmentRef, ...], ...] = ()
    """Each tuple is encoded as one segment: a frame batch that several units made, or passes."""
    interpolate: int = 1
    """Over 1: only every so many frames were painted, and those between are to be made; all
    painted ones are in `masters`."""
    cuts: tuple[int, ...] = ()
    """First frames of the shots to interpolate: nothing is made of frames on both sides of one."""
    watermark: str = ""
    """Words for the corner of what is made of masters."""

    @property
    def inputs(self) -> tuple[SegmentRef, ...]:
        """All files that it names."""
        return (*self.segments, *chain.from_iterable(self.masters))


class Order(Message):
    """One unit with its lease, complete in itself."""

    lease_id: str
    unit_id: str
    job_id: str
    fence: int
    epoch: int
    gpu_ms_limit: int
    expires_in_ms: int
    work: ParseWork | RenderWork | EncodeWork = Field(discriminator="kind")


class ClaimAnswer(Message):
    """Orders for now: nothing, one order, or several that fit one batch."""

    orders: tuple[Order, ...]


class LeaseUse(Message):
    """Progress of one lease. Usage is cumulative, so a lost or doubled message does no harm."""

    lease_id: Id
    fence: Fence
    sequence: int = Field(ge=1, le=MOST_BEATS)
    gpu_ms: Ms
    frames_done: int = Field(0, ge=0, le=MOST_BEATS)
    steps_done: int = Field(default=0, ge=0, le=MOST_BEATS)
    """Denoising steps made under this lease, of all its micro-batches."""
    worked_ms: Ms = 0
    """Time by the host's clock from the beginning of its work, when the model was loaded, to the
    last of these steps."""


class PaceReport(Message):
    """A model's pace on this worker: a step and a decode of one micro-batch, on nobody's bill.

    Measured when the worker took the model up, or by the first unit it did of it since.
    """

    model: Word
    model_version: Word
    width: int = Field(ge=1, le=MOST_SIDE)
    height: int = Field(ge=1, le=MOST_SIDE)
    """Native, of one frame."""
    micro_batch: int = Field(ge=1, le=MOST_SIDE)
    """Frames."""
    step_ms: PaceMs
    decode_ms: PaceMs
    """With bringing the pixels to the host."""
    load_ms: Ms = 0


class HeartbeatRequest(Message):
    """I am alive, and this is how far I am."""

    leases: tuple[LeaseUse, ...] = Field(default=(), max_length=MOST_WORDS)
    paces: tuple[PaceReport, ...] = Field(default=(), max_length=MOST_WORDS)
    """Of models that were taken up since the last beat."""


class LeaseVerdict(Message):
    """Verdict on one lease."""

    lease_id: str
    verdict: Verdict
    expires_in_ms: int


class HeartbeatAnswer(Message):
    """One verdict per lease that was named."""

    leases: tuple[LeaseVerdict, ...]


class CompleteRequest(Message):
    """The unit has ended on this worker."""

    lease_id: Id
    fence: Fence
    outcome: Outcome
    cause: Cause | None = None
    message: Annotated[str, AfterValidator(one_line)] = Field("", max_length=2000)
    receipt: Receipt
    render_plan: RenderPlan | None = None
    """Of a done parse unit: the quoted one to the last digit, which is all the bounds it needs."""
    claim_next: bool = True


class CompleteAnswer(Message):
    """The charge, and the orders that come next."""

    settled_gpu_ms: int
    lost_gpu_ms: int
    orders: tuple[Order, ...] = ()


class ReleaseRequest(Message):
    """Hand a unit back unfinished (shutdown, spot notice); nothing is charged for it."""

    lease_id: Id
    fence: Fence
    gpu_ms: Ms = 0


class ReleaseAnswer(Message):
    """The unit is up for grabs again."""

    released: bool = True
