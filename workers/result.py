"""The result of one unit, as the child hands it to the parent."""

import errno
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from orchestrator.errors import BadRequest, Unavailable
from orchestrator.model import RenderPlan
from orchestrator.receipt import Receipt
from orchestrator.states import Cause, Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The outcome of a unit, its receipt, and the files to upload."""

    outcome: Outcome
    cause: Cause | None = None
    message: str = ""
    """For people: why it stopped or failed."""
    receipt: Receipt
    """Without artifacts; the parent adds them as it uploads `files`."""
    files: tuple[Path, ...] = ()
    render_plan: RenderPlan | None = None
    """Of a parse unit."""


def with_host(result: Result, host_ms: dict[str, int]) -> Result:
    """Return the result with more of what its host spent time on."""
    more = {"host_ms": result.receipt.host_ms | host_ms}
    return replace(result, receipt=result.receipt.model_copy(update=more))


_DEVICE_ERRORS: Final = frozenset({"OutOfMemoryError", "AcceleratorError"})
_DEVICE_WORDS: Final = ("out of memory", "can't allocate memory", "cuda", "cudnn", "cublas", "nccl")


def message_of(error: Exception) -> str:
    """Return what to tell of an error, in one sentence where we know what it means.

    FFmpeg tells of a full disk in words alone.
    """
    said = str(error) or type(error).__name__
    full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
    if full or os.strerror(errno.ENOSPC) in said:
        return "The worker's disk is full: nothing more can be written there."
    return said


def cause_of(error: Exception) -> Cause:
    """Return whose error it is: the request's, the machine's, or else our own.

    torch is not imported here, so its errors are known by name and by their words.
    """
    if isinstance(error, BadRequest):
        return Cause.REQUEST
    if (
        isinstance(error, OSError | MemoryError | Unavailable)
        or type(error).__name__ in _DEVICE_ERRORS
    ):
        return Cause.WORKER
    if isinstance(error, RuntimeError) and any(
        word in str(error).lower() for word in _DEVICE_WORDS
    ):
        return Cause.WORKER
    return Cause.FARM
