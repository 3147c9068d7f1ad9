"""Between two steps: what a stopped pipeline call leaves, and how another call goes on with it.

The state of a loop is its latents, what its scheduler remembers (an index, earlier model
outputs …) and where its generators stand. All of it is taken as it is, without knowing the
scheduler; a scheduler that remembers something of an unknown type is not continued.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import wraps
from types import FunctionType, MethodType
from typing import Any, Final

import numpy as np
import torch

from workers.checkpoint import Array, Checkpoint
from workers.engines.recipes import Scheduler

LATENTS: Final = "latents"
_PLAIN: Final = (bool, int, float, str, type(None))


class _Unknown(Exception):
    """Something that cannot be written down."""


def taken(
    scheduler: Scheduler, latents: torch.Tensor, generators: Sequence[torch.Generator], step: int
) -> Checkpoint | None:
    """Return the state of a loop after `step` of its scheduler's steps; None: it has no words."""
    arrays: dict[str, Array] = {}
    try:
        facts = {
            LATENTS: _told(LATENTS, latents, arrays),
            "scheduler": {
                name: _told(f"scheduler.{name}", value, arrays)
                for name, value in _memory(scheduler).items()
            },
        }
    except _Unknown:
        return None
    for number, generator in enumerate(generators):
        arrays[f"generator.{number}"] = generator.get_state().numpy()
    return Checkpoint(step=step, arrays=arrays, facts=facts)


def latents_of(checkpoint: Checkpoint, device: torch.device) -> torch.Tensor:
    """Return the latents of a checkpoint."""
    latents: torch.Tensor = _heard(checkpoint.facts[LATENTS], checkpoint.arrays, device)
    return latents


@contextmanager
def resumed(
    scheduler: Scheduler,
    checkpoint: Checkpoint,
    generators: Sequence[torch.Generator],
    device: torch.device,
) -> Iterator[None]:
    """Let the pipeline called in the block take up the loop where the checkpoint left it.

    A pipeline reads `scheduler.timesteps` once, before its loop: it sees those that are left.
    From the first step on the whole schedule is back, because some schedulers count in it.
    Latents that are given to a call are scaled for the first step; these are not, so that one
    scale is 1.
    """
    for number, generator in enumerate(generators):
        generator.set_state(torch.from_numpy(checkpoint.arrays[f"generator.{number}"]))
    memory = {
        name: _heard(told, checkpoint.arrays, device)
        for name, told in checkpoint.facts["scheduler"].items()
    }
    kind, set_timesteps, step = type(scheduler), scheduler.set_timesteps, scheduler.step
    whole: Any = None

    @wraps(set_timesteps)
    def set_rest(*args: Any, **kwargs: Any) -> None:
        nonlocal whole
        set_timesteps(*args, **kwargs)
        scheduler.__dict__.update(memory)
        whole = scheduler.timesteps
        scheduler.timesteps = whole[checkpoint.step :]

    @wraps(step)
    def whole_step(*args: Any, **kwargs: Any) -> Any:
        scheduler.timesteps = whole
        return step(*args, **kwargs)

    unscaled = {"init_noise_sigma": property(lambda self: 1.0, lambda self, value: None)}
    scheduler.__class__ = type(kind.__name__, (kind,), unscaled)
    scheduler.set_timesteps, scheduler.step = set_rest, whole_step
    try:
        yield
    finally:
        del scheduler.set_timesteps, scheduler.step
        scheduler.__class__ = kind


def _memory(scheduler: Scheduler) -> dict[str, Any]:
    """Return what a scheduler remembers: its own attributes, but for its configuration."""
    return {
        name: value
        for name, value in vars(scheduler).items()
        if name != "_internal_dict" and not isinstance(value, FunctionType | MethodType)
    }


def _told(name: str, value: Any, arrays: dict[str, Array]) -> Any:
    """Write a value down as JSON, its arrays beside it under `name`."""
    if isinstance(value, torch.Tensor):
        host = value.detach().cpu()
        bits = host.view(torch.int16) if host.dtype is torch.bfloat16 else host
        arrays[name] = bits.numpy()
        return {
            "tensor": name,
            "bfloat16": host.dtype is torch.bfloat16,
            "cpu": value.device.type == "cpu",
        }
    if isinstance(value, np.ndarray | np.generic):
        arrays[name] = np.array(value)
        return {"array": name, "scalar": isinstance(value, np.generic)}
    if isinstance(value, list | tuple):
        parts = [_told(f"{name}.{place}", part, arrays) for place, part in enumerate(value)]
        return {"list": parts, "tuple": isinstance(value, tuple)}
    if isinstance(value, _PLAIN):
        return value
    raise _Unknown(name)


def _heard(told: Any, arrays: Mapping[str, Array], device: torch.device) -> Any:
    """Return the value that `_told` wrote down."""
    match told:
        case {"tensor": name, "bfloat16": half, "cpu": cpu}:
            tensor = torch.from_numpy(np.array(arrays[name]))
            tensor = tensor.view(torch.bfloat16) if half else tensor
            return tensor if cpu else tensor.to(device)
        case {"array": name, "scalar": scalar}:
            return arrays[name][()] if scalar else np.array(arrays[name])
        case {"list": parts, "tuple": frozen}:
            values = [_heard(part, arrays, device) for part in parts]
            return tuple(values) if frozen else values
        case _:
            return told
