"""Checkpoints that hold all that the next training step depends on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_checkpoint(path: Path, step: int, **parts: Any) -> None:
    """Keep the parts, the number of steps done and the state of the random numbers, at once."""
    state = {name: part.state_dict() for name, part in parts.items()}
    part_file = path.with_suffix(".part")
    torch.save(state | {"step": step, "random": torch.get_rng_state()}, part_file)
    part_file.rename(path)


def load_checkpoint(path: Path, **parts: Any) -> int:
    """Put all of that back and return the number of steps done; 0 where there is no checkpoint."""
    if not path.exists():
        return 0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    for name, part in parts.items():
        part.load_state_dict(state[name])
    torch.set_rng_state(state["random"])
    return int(state["step"])
