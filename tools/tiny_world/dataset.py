"""Training pictures of the little world, drawn once from a seed and kept on disk."""

from __future__ import annotations

import random
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from tools.tiny_world.world import (
    SETTINGS,
    SIZE,
    SPRITES,
    VIEWS,
    Pose,
    backdrop,
    fetch_sprites,
    paint,
    random_poses,
)  # fmt: skip

SUBJECTS = list(SPRITES)
MAX_SUBJECTS = 2
HELD_OUT_EVERY = 9
"""One pair (subject, setting) in nine never meets in training: evaluation asks for those."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The description that a training picture is drawn from."""

    setting: str
    view: int
    poses: list[Pose]


def held_out(subject: str, setting: str) -> bool:
    """Tell whether this subject is never shown in this setting during training."""
    place = SUBJECTS.index(subject) * 5 + list(SETTINGS).index(setting) * 7
    return place % HELD_OUT_EVERY == 0


def scene(seed: int, index: int) -> Scene:
    """The scene of one training picture."""
    rng = random.Random(f"{seed} {index}")
    setting = rng.choice(list(SETTINGS))
    allowed = [s for s in SUBJECTS if not held_out(s, setting)]
    return Scene(setting, rng.randrange(VIEWS), random_poses(rng, allowed))


def _draw(job: tuple[Path, int, range]) -> np.ndarray:
    assets, seed, indices = job
    scenes = [scene(seed, index) for index in indices]
    return np.stack(
        [np.asarray(paint(assets, backdrop(s.setting, s.view), s.poses)) for s in scenes]
    )


def pictures(folder: Path, seed: int, count: int) -> np.ndarray:
    """The training pictures, uint8 (count, 256, 256, 3), drawn on the first call."""
    path = folder / f"pictures-{seed}-{count}.npy"
    if not path.exists():
        assets = fetch_sprites(folder)
        part = path.with_suffix(".part")
        shape = (count, SIZE, SIZE, 3)
        store = np.lib.format.open_memmap(part, "w+", np.uint8, shape)
        jobs = [
            (assets, seed, range(start, min(start + 200, count))) for start in range(0, count, 200)
        ]
        with get_context("spawn").Pool(2) as pool:
            for job, drawn in zip(jobs, pool.imap(_draw, jobs), strict=True):
                store[job[2].start : job[2].stop] = drawn
        store.flush()
        part.rename(path)
    return np.load(path, mmap_mode="r")


def pose_table(seed: int, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Scenes as tensors: settings (N,), views (N,), subject ids (N, 2), poses (N, 2, 4).

    Subject id -1 marks an empty place; a pose is (x, y, scale, turn).
    """
    settings = torch.zeros(count, dtype=torch.long)
    views = torch.zeros(count, dtype=torch.long)
    subjects = torch.full((count, MAX_SUBJECTS), -1, dtype=torch.long)
    poses = torch.zeros(count, MAX_SUBJECTS, 4)
    names = list(SETTINGS)
    for index in range(count):
        drawn = scene(seed, index)
        settings[index], views[index] = names.index(drawn.setting), drawn.view
        for place, pose in enumerate(drawn.poses):
            subjects[index, place] = SUBJECTS.index(pose.subject)
            poses[index, place] = torch.tensor([pose.x, pose.y, pose.scale, pose.turn])
    return settings, views, subjects, poses


def to_batch(rows: np.ndarray) -> Tensor:
    """Bytes (B, H, W, 3) to (B, 3, H, W) in -1..1, channels last."""
    batch = torch.from_numpy(rows).permute(0, 3, 1, 2).float() / 127.5 - 1
    return batch.contiguous(memory_format=torch.channels_last)


def as_batch(store: np.ndarray, indices: Tensor) -> Tensor:
    """Whole pictures (B, 3, 256, 256) in -1..1, channels last."""
    return to_batch(np.stack([store[int(i)] for i in indices]))
