"""Measurements of one unit: as its worker reports them, and as its lease keeps them."""

from typing import Annotated, Final

from pydantic import BaseModel, ConfigDict, Field

from orchestrator.safe_text import Label
from orchestrator.states import Cause

MOST_MS: Final = 10**12
"""Thirty years: what a worker reports beyond that is no report."""
MOST_MJ: Final = 10**12
"""278 kWh, of one unit."""
MOST_BEATS: Final = 2**31 - 1
MOST_BYTES: Final = 2**50
"""A pebibyte, of one file."""

DENOISE: Final = "denoise"
DECODE: Final = "decode"
TRANSFER: Final = "transfer"
"""Stages of a render unit that the cost law is made of; the others are a share of them."""

MOST_WORDS: Final = 1000
Word = Annotated[Label, Field(max_length=100)]
"""An id of a model, a stage or a library, of which a worker names at most MOST_WORDS."""
Ms = Annotated[int, Field(ge=0, le=MOST_MS)]
"""Whole milliseconds."""


class Message(BaseModel):
    """Base of every message: closed, so that a misspelt field is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
"""A SHA-256 in lower-case hexadecimal digits."""


class Artifact(Message):
    """A file the worker has uploaded under its lease."""

    name: str = Field(max_length=100)
    sha256: Digest
    bytes: int = Field(ge=1, le=MOST_BYTES)


class Receipt(Message):
    """Measurements of one lease. Immutable once accepted."""

    gpu_ms: Ms
    """All device time under this lease that the session may be charged for."""
    wasted_gpu_ms: Ms = 0
    """Device time of work that was not kept (a micro-batch that was stopped midway)."""
    by_stage: dict[Word, Ms] = Field(default={}, max_length=MOST_WORDS)
    """text_encode, denoise, decode, transfer, encode, parse …; sums to gpu_ms + wasted_gpu_ms."""
    load_gpu_ms: Ms = 0
    """Model load and warm-up: the farm's."""
    host_ms: dict[Word, Ms] = Field(default={}, max_length=MOST_WORDS)
    """fetch, start, write, upload …: what else the time of the lease went to. Nobody is charged
    for it; a report that leaves much of that time unexplained flags its worker."""
    steps_done: int = Field(default=0, ge=0, le=MOST_BEATS)
    """Denoising steps that were made under this lease, kept or not, of all its micro-batches."""
    next_step_gpu_ms: Ms = 0
    """Device time that a next step was reckoned to take, where the limit had no room for it."""
    frames_done: int = Field(0, ge=0, le=MOST_BEATS)
    """Frames that are kept, from the unit's first one on."""
    frame_sha256: tuple[Digest, ...] = ()
    """Of each kept frame's native uint8 RGB bytes, in order: as many as `frames_done`."""
    artifacts: tuple[Artifact, ...] = Field(default=(), max_length=MOST_WORDS)
    """As they were stored: the farm compares digests and sizes."""
    energy_mj: int | None = Field(default=None, ge=0, le=MOST_MJ)
    """Millijoules by NVML; None where there is no meter."""
    fingerprint: str = Field(default="", max_length=100)
    checkpoint_step: int = Field(default=0, ge=0, le=MOST_BEATS)
    """Steps done of the micro-batch after the kept frames, which the artifact
    `checkpoint.safetensors` continues; 0: there is none."""
    checkpoint_gpu_ms: Ms = 0
    """Part of `gpu_ms`: what those steps cost under this lease."""


class KeptReceipt(Receipt):
    """A receipt with what was said of the unit's end; the ledger has its digest."""

    message: str = ""
    cause: Cause | None = None
