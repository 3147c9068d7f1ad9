"""The clips that tiny_clip learns: one subject of tiny_world's world moves through one setting.

A clip is drawn from its four words alone (subject, setting, motion, view), along the very
paths that the farm's planner gives a motion (`orchestrator/planning/motion.py`).
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
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
VIEWS: Final = 1
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


def draw_clip(assets: Path, clip: Clip, numbers: Sequence[int] = range(FRAMES)) -> Frames:
    """Draw these frames of a clip, (frames, SIDE, SIDE, 3)."""
    plate = small_backdrop(clip.setting, clip.view)
    poses = [
        Pose(subject=clip.subject, x=float(x), y=float(y), scale=float(scale), turn=float(turn))
        for x, y, scale, turn in poses_of(clip.motion)[list(numbers)]
    ]
    return np.stack([np.asarray(paint(assets, plate, [pose])) for pose in poses])


def draw_still(assets: Path, rng: random.Random) -> Frames:
    """Draw a random picture with a backdrop that the model sees."""
    setting = rng.choice(SETTING_NAMES)
    poses = random_poses(rng, [name for name in SUBJECTS if not held_out(name, setting)])
    return np.asarray(paint(assets, small_backdrop(setting, rng.randrange(VIEWS)), poses))


def squares(motion: str, cells: int) -> NDArray[np.float32]:
    """Return masks of the subject, (FRAMES, cells, cells): 1 in its square and a small margin."""
    middle = (np.arange(cells, dtype=np.float32) + 0.5) / cells
    masks = []
    for x, y, scale, _ in poses_of(motion):
        reach = UNIT * scale * 0.55
        masks.append((abs(middle[:, None] - y) < reach) & (abs(middle[None] - x) < reach))
    return np.stack(masks).astype(np.float32)
