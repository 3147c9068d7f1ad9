"""A judge of clips: a small network that says what one frame shows, and a rule for motion.

It learns from renders of its own, never from the model's: backdrops the model has not seen,
subjects at places, sizes and turns of no path, blurred, noisy and off in colour. Of a clip it
names the subject and the setting that all frames together speak for, and the motion whose
path lies nearest to the places, sizes and turns it sees.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional

from tools.tiny_clip.clips import MOTIONS, SETTING_NAMES, VIEWS, Frames, poses_of
from tools.tiny_world import world
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import SUBJECTS
from tools.tiny_world.world import UNIT

SIDE = 64
"""Frames are judged at half their size …"""
CUT = 32
"""… and subjects in a cut of this side."""
BATCH = 48
PEAK_RATE = 1e-3
SAVE_EVERY = 100
TRACK_WEIGHTS = (1.0, 1.0, 0.4, 0.12, 0.12)
"""Weight of a wrong place against a wrong size (logarithm) and turn (cosine, sine)."""


class Block(nn.Module):
    """Two convolutions beside a shortcut, the first of which may halve the sides."""

    def __init__(self, inside: int, outside: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(inside, outside, 3, stride, 1, bias=False),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
            nn.Conv2d(outside, outside, 3, 1, 1, bias=False),
            nn.BatchNorm2d(outside),
        )
        self.aside = nn.Conv2d(inside, outside, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Features of features."""
        return functional.relu(self.body(x) + self.aside(x))


class Judge(nn.Module):
    """Setting and pose (x, y, log size, cosine and sine of the turn) of frames, then the subject.

    The subject is named from a cut around the place where it was found.
    """

    def __init__(self) -> None:
        super().__init__()
        self.finder = nn.Sequential(
            nn.Conv2d(3, 24, 5, 2, 2),
            nn.ReLU(),
            Block(24, 48, 2),
            Block(48, 64, 2),
            Block(64, 96, 2),
            nn.Flatten(),
            nn.Linear(96 * 16, 256),
            nn.ReLU(),
        )
        self.setting = nn.Linear(256, len(SETTING_NAMES))
        self.pose = nn.Linear(256, 5)
        self.namer = nn.Sequential(
            nn.Conv2d(3, 32, 3, 1, 1),
            nn.ReLU(),
            Block(32, 64, 2),
            Block(64, 96, 2),
            Block(96, 128, 2),
            nn.Flatten(),
            nn.Linear(128 * 16, 256),
            nn.ReLU(),
            nn.Linear(256, len(SUBJECTS)),
        )

    def find(self, frames: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the setting, and poses, of frames (N, 3, SIDE, SIDE) in -1..1."""
        states = self.finder(frames)
        return self.setting(states), self.pose(states)

    def name(self, frames: Tensor, poses: Tensor) -> Tensor:
        """Logits of the subjects at these places."""
        x, y, size = poses[:, 0], poses[:, 1], UNIT * 1.15 * poses[:, 2].exp()
        none = torch.zeros_like(x)
        rows = torch.stack([size, none, 2 * x - 1, none, size, 2 * y - 1], 1).reshape(-1, 2, 3)
        grid = functional.affine_grid(rows.float(), [len(x), 3, CUT, CUT], align_corners=False)
        cut = functional.grid_sample(frames, grid, padding_mode="border", align_corners=False)
        return self.namer(cut)


@lru_cache(maxsize=512)
def _plate(setting: str, view: int) -> Image.Image:
    return world.backdrop(setting, view).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _frame(assets: Path, rng: random.Random) -> tuple[np.ndarray, int, int, tuple[float, ...]]:
    """Draw one frame, spoilt a little, with its subject, setting and pose."""
    subject, setting = rng.choice(SUBJECTS), rng.choice(SETTING_NAMES)
    turn = rng.choice((0.0, rng.gauss(0, 15), rng.uniform(-180, 180)))
    pose = world.Pose(
        subject=subject, x=rng.uniform(0.03, 0.97), y=rng.uniform(0.03, 0.97),
        scale=rng.uniform(0.45, 1.7) if rng.random() < 0.5 else rng.uniform(0.85, 1.2), turn=turn,
    )  # fmt: skip
    view = rng.randrange(VIEWS, world.VIEWS)
    picture = world.paint(assets, _plate(setting, view), [pose])
    if rng.random() < 0.4:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.3, 1.4)))
    angle = turn * np.pi / 180
    seen = (pose.x, pose.y, float(np.log(pose.scale)), float(np.cos(angle)), float(np.sin(angle)))
    return (
        np.asarray(picture),
        SUBJECTS.index(subject),
        SETTING_NAMES.index(setting),
        seen,
    )


def _batch(assets: Path, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = random.Random(f"judge {seed} {step}")
    pictures, subjects, settings, poses = zip(
        *(_frame(assets, rng) for _ in range(BATCH)), strict=True
    )
    x = as_input(np.stack(pictures))
    gain, shift = 1 + 0.12 * torch.randn(BATCH, 3, 1, 1), 0.08 * torch.randn(BATCH, 3, 1, 1)
    x = x * gain + shift + 0.12 * torch.rand(BATCH, 1, 1, 1) * torch.randn_like(x)
    return x, torch.tensor(subjects), torch.tensor(settings), torch.tensor(poses)


def as_input(frames: np.ndarray) -> Tensor:
    """Bytes (N, H, W, 3) as the judge's input."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x if x.shape[-1] == SIDE else functional.interpolate(x, size=(SIDE, SIDE), mode="area")


def train(folder: Path, assets: Path, seed: int, steps: int) -> Judge:
    """Train (or load) the judge."""
    torch.manual_seed(seed)
    model = Judge()
    optimiser = torch.optim.AdamW(model.parameters(), PEAK_RATE, weight_decay=0.02)
    checkpoint, start = folder / "judge.pt", time.time()
    first = load_checkpoint(checkpoint, model=model, optimiser=optimiser)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 50, max(0.01, 1.3 * (1 - step / steps)))
        torch.manual_seed(seed * 1_000_003 + step)
        x, subjects, settings, poses = _batch(assets, seed, step)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            setting, pose = (part.float() for part in model.find(x))
            missed = poses + torch.randn_like(poses) * torch.tensor([0.03, 0.03, 0.12, 0, 0])
            subject = model.name(x, missed).float()
        off = (pose - poses).abs().mean(0)
        loss = functional.cross_entropy(subject, subjects) + 8 * off[:2].mean() + 2 * off[2:].mean()
        loss = loss + 0.5 * functional.cross_entropy(setting, settings)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % 50 == 0:
            right = [(a.argmax(1) == b).float().mean().item() for a, b in
                     ((subject, subjects), (setting, settings))]  # fmt: skip
            found = f"subject {right[0]:.2f} setting {right[1]:.2f} off {off.tolist()}"
            print(f"judge {step} {time.time() - start:.0f} s {found}", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, model=model, optimiser=optimiser)
    return model.eval()


@dataclass(frozen=True, slots=True)
class Seen:
    """Findings of the judge in a clip."""

    subject: str
    setting: str
    motion: str
    steady: float
    """The share of frames that, alone, show the clip's subject."""


@torch.inference_mode()
def look(judge: Judge, frames: Frames) -> Seen:
    """Look at a clip (FRAMES, H, W, 3)."""
    x = as_input(frames)
    setting, pose = judge.find(x)
    subject = judge.name(x, pose)
    best = int(subject.log_softmax(1).sum(0).argmax())
    steady = float((subject.argmax(1) == best).float().mean())
    place = int(setting.log_softmax(1).sum(0).argmax())
    return Seen(SUBJECTS[best], SETTING_NAMES[place], nearest_motion(pose.numpy()), steady)


def nearest_motion(track: np.ndarray) -> str:
    """The motion whose path differs least from a track of poses (FRAMES, 5)."""
    weights = np.array(TRACK_WEIGHTS)

    def distance(motion: str) -> float:
        x, y, scale, turn = poses_of(motion).T
        angle = turn * np.pi / 180
        path = np.stack([x, y, np.log(scale), np.cos(angle), np.sin(angle)], 1)
        return float((abs(track - path) * weights).mean())

    return min(MOTIONS, key=distance)
