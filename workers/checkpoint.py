"""Checkpoints: an unfinished micro-batch between two steps, in one safetensors file.

Whoever goes on from one paints the pixels that would have been painted without the stop, so a
file says what it was made from, and is continued by nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from orchestrator.errors import FarmError
from orchestrator.remedies import Say
from orchestrator.wire import FrameSpec, RenderWork

Array = NDArray[Any]
Arrays = Mapping[str, Array]
_FACTS: Final = "facts"
_STEP: Final = "step"
_ALIKE: Final = (
    "model",
    "model_version",
    "width",
    "height",
    "steps",
    "guidance_scale",
    "micro_batch",
    "image",
    "image_background",
)


class NotThisCheckpoint(FarmError):
    """A checkpoint does not belong to the work it came with."""

    code = "not_this_checkpoint"
    remedies = (Say("Nothing is charged; the unit starts again from its noise."),)


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """State of an engine after `step` steps of a micro-batch, to go on from."""

    step: int
    arrays: Arrays
    facts: dict[str, Any] = field(default_factory=dict)
    """The parts that are no arrays, as JSON."""


def identity(work: RenderWork, fingerprint: str) -> dict[str, str]:
    """Return what decides the pixels of the first micro-batch of `work`, as names and digests."""
    facts = work.model_dump(mode="json", include=set(_ALIKE))
    return {
        "fingerprint": fingerprint,
        "work_sha256": _digest(facts),
        "frames_sha256": frames_digest(work.frames[: work.micro_batch]),
    }


def frames_digest(frames: Sequence[FrameSpec]) -> str:
    """Return the SHA-256 of all that conditions these frames: prompts, seeds, layouts."""
    return _digest([frame.model_dump(mode="json") for frame in frames])


def save(checkpoint: Checkpoint, path: Path, made_from: Mapping[str, str]) -> Path:
    """Write a checkpoint and return its file.

    Raises:
        OSError: there is no room for it.
    """
    told = {_STEP: str(checkpoint.step), _FACTS: json.dumps(checkpoint.facts), **made_from}
    arrays = {name: np.ascontiguousarray(array) for name, array in checkpoint.arrays.items()}
    try:
        save_file(arrays, path, metadata=told)
    except SafetensorError as error:
        raise OSError(str(error)) from error
    return path


def load(path: Path, made_from: Mapping[str, str]) -> Checkpoint:
    """Read a checkpoint back.

    Raises:
        NotThisCheckpoint: it was made from something else, or cannot be read.
    """
    try:
        with safe_open(path, framework="np") as file:
            told = file.metadata() or {}
            odd = [name for name, value in made_from.items() if told.get(name) != value]
            if odd:
                raise NotThisCheckpoint(f"The checkpoint has another {', '.join(odd)}.")
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no dict
            return Checkpoint(step=int(told[_STEP]), arrays=arrays, facts=json.loads(told[_FACTS]))
    except (SafetensorError, ValueError, KeyError) as error:
        raise NotThisCheckpoint(f"The checkpoint cannot be read: {error}.") from error


def _digest(facts: object) -> str:
    return sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
