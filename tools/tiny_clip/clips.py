"""The clips that tiny_clip learns: one subject of tiny_world's world moves through one setting.

A clip is drawn from its four words alone (subject, setting, motion, view), along the very
paths that the farm's planner gives a motion (`orchestrator/planning/motion.py`).
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from orchestrator.planning.motion import PATHS
from tools.tiny_world.dataset import SUBJECTS, held_out
from tools.tiny_world.world import SETTINGS, UNIT, Pose, backdrop, paint, random_poses

SIDE: Final = 128
"""Side of a frame in pixels."""
FRAMES: Final = 16
"""Frames of a clip."""
SECONDS: Final = 2.0
"""Length of a clip, at 8 frames a second."""
VIEWS: Final = 4
"""Backdrops of a setting that the model sees; the judge learns from the others."""
SETTING_NAMES: Final = tuple(SETTINGS)
MOTIONS: Final = tuple(PATHS)

Frames = NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Clip:
    """Words that a clip shows."""

    subject: str
    setting: str
    motion: str
    view: int


def clip_of(seed: int, index: int) -> Clip:
    """The training clip of this number: any words but a pair that is held out."""
    rng = random.Random(f"clip {seed} {index}")
    setting = rng.choice(SETTING_NAMES)
    subject = rng.choice([name for name in SUBJECTS if not held_out(name, setting)])
    return Clip(subject, setting, rng.choice(MOTIONS), rng.randrange(VIEWS))


def poses_of(motion: str) -> NDArray[np.float32]:
    """Return a subject's places under a motion, (FRAMES, 4): x, y, scale, clockwise degrees."""
    points = [PATHS[motion](k / (FRAMES - 1), SECONDS) for k in range(FRAMES)]
    return np.array([(p.x, p.y, p.scale, p.turn) for p in points], np.float32)


@lru_cache(maxsize=256)
def small_backdrop(setting: str, view: int) -> Image.Image:
    """A backdrop at the size of a frame."""
    return backdrop(setting, view).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def draw_clip(assets: Path, clip: Clip) -> Frames:
    """Draw the frames of a clip, (FRAMES, SIDE, SIDE, 3)."""
    plate = small_backdrop(clip.setting, clip.view)
    poses = [
        Pose(subject=clip.subject, x=float(x), y=float(y), scale=float(scale), turn=float(turn))
        for x, y, scale, turn in poses_of(clip.motion)
    ]
    return np.stack([np.asarray(paint(assets, plate, [pose])) for pose in poses])


def draw_still(assets: Path, rng: random.Random, crop: int) -> Frames:
    """Draw a square cut of a random picture of the model's views, mostly around a subject."""
    setting = rng.choice(SETTING_NAMES)
    poses = random_poses(rng, [name for name in SUBJECTS if not held_out(name, setting)])
    picture = paint(assets, small_backdrop(setting, rng.randrange(VIEWS)), poses)
    corner = [rng.randint(0, SIDE - crop) for _ in range(2)]
    if poses and rng.random() < 0.8:
        near = (poses[0].x, poses[0].y)
        corner = [
            min(SIDE - crop, max(0, round(place * SIDE - crop / 2 + rng.gauss(0, crop / 5))))
            for place in near
        ]
    left, top = corner
    return np.asarray(picture)[top : top + crop, left : left + crop]


def squares(motion: str, cells: int) -> NDArray[np.float32]:
    """Return masks of the subject, (FRAMES, cells, cells): 1 in its square and a small margin."""
    middle = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    masks = []
    for x, y, scale, _ in poses_of(motion):
        reach = UNIT * scale * 0.55
        masks.append((abs(middle[:, None] - y) < reach) & (abs(middle[None] - x) < reach))
    return np.stack(masks).astype(np.float32)


def _draw_some(job: tuple[Path, int, range]) -> Frames:
    assets, seed, numbers = job
    return np.stack([draw_clip(assets, clip_of(seed, number)) for number in numbers])


def drawn_clips(
    assets: Path, seed: int, first: int, count: int, *, at_once: int = 20, processes: int = 2
) -> Iterator[tuple[range, Frames]]:
    """Yield the training clips from number `first` on as (numbers, frames), a few at a time."""
    jobs = [(assets, seed, range(k, min(k + at_once, count))) for k in range(first, count, at_once)]
    with get_context("spawn").Pool(processes) as pool:
        for job, frames in zip(jobs, pool.imap(_draw_some, jobs), strict=True):
            yield job[2], frames
