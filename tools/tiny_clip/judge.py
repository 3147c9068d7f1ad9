"""A judge of clips: a small network that says what one frame shows, and one that reads motion.

Both learn from renders of their own, never from the model's: backdrops the model has not seen,
subjects at places, sizes and turns of no path, blurred, noisy and off in colour; then clips whose
paths are pushed aside, resized and shaken. Of a clip the judge names the subject and the setting
that all frames together speak for, and the motion that the places, sizes and turns it sees
make up.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor, nn
from torch.nn import functional

from tools.tiny_clip.clips import FRAMES, MOTIONS, SETTING_NAMES, VIEWS, Frames, poses_of
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
TRACKED = 700
"""Clips from which the reader of motion learns …"""
READ_STEPS = 1200
"""… in this many steps."""


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


class Reader(nn.Module):
    """Motion of a track of poses, (N, FRAMES, 5) to logits."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv1d(5, 48, 5, 1, 2),
            nn.ReLU(),
            nn.Conv1d(48, 64, 5, 2, 2),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(64 * FRAMES // 2, 96),
            nn.ReLU(),
            nn.Linear(96, len(MOTIONS)),
        )

    def forward(self, tracks: Tensor) -> Tensor:
        """Logits of the motions."""
        shift = torch.tensor([0.5, 0.5, 0.0, 0.5, 0.0])
        size = torch.tensor([4.0, 4.0, 3.0, 1.0, 1.0])
        found: Tensor = self.body(((tracks - shift) * size).transpose(1, 2))
        return found


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
        self.reader = Reader()

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
    blur = rng.uniform(0.3, 1.4) if rng.random() < 0.4 else 0.0
    picture = _picture(assets, setting, view, pose, blur)
    angle = turn * np.pi / 180
    seen = (pose.x, pose.y, float(np.log(pose.scale)), float(np.cos(angle)), float(np.sin(angle)))
    return picture, SUBJECTS.index(subject), SETTING_NAMES.index(setting), seen


def _picture(
    assets: Path, setting: str, view: int, pose: world.Pose, blur: float
) -> NDArray[np.uint8]:
    picture = world.paint(assets, _plate(setting, view), [pose])
    if blur:
        picture = picture.filter(ImageFilter.GaussianBlur(blur))
    return np.asarray(picture)


def _shaken_clip(assets: Path, rng: random.Random, motion: str) -> Frames:
    """Draw a clip along a path that is pushed aside, resized and shaken a little."""
    subject, setting = rng.choice(SUBJECTS), rng.choice(SETTING_NAMES)
    view = rng.randrange(VIEWS, world.VIEWS)
    aside, down, larger = rng.gauss(0, 0.02), rng.gauss(0, 0.02), rng.gauss(0, 0.06)
    shake, blur = rng.uniform(0, 0.012), rng.choice((0.0, rng.uniform(0.3, 1.4)))
    return np.stack(
        [
            _picture(
                assets,
                setting,
                view,
                world.Pose(
                    subject=subject,
                    x=float(x) + aside + rng.gauss(0, shake),
                    y=float(y) + down + rng.gauss(0, shake),
                    scale=float(scale) * float(np.exp(larger + rng.gauss(0, shake))),
                    turn=float(turn) + rng.gauss(0, 3),
                ),
                blur,
            )
            for x, y, scale, turn in poses_of(motion)
        ]
    )


def _batch(assets: Path, seed: int, step: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    rng = random.Random(f"judge {seed} {step}")
    pictures, subjects, settings, poses = zip(
        *(_frame(assets, rng) for _ in range(BATCH)), strict=True
    )
    x = _tinted(as_input(np.stack(pictures)), BATCH)
    return x, torch.tensor(subjects), torch.tensor(settings), torch.tensor(poses)


def _tinted(x: Tensor, count: int) -> Tensor:
    """Spoil colours and add noise: of each picture, or (count 1) of all of them alike."""
    gain, shift = 1 + 0.12 * torch.randn(count, 3, 1, 1), 0.08 * torch.randn(count, 3, 1, 1)
    return x * gain + shift + 0.12 * torch.rand(count, 1, 1, 1) * torch.randn_like(x)


def as_input(frames: np.ndarray) -> Tensor:
    """Bytes (N, H, W, 3) as the judge's input."""
    x = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x if x.shape[-1] == SIDE else functional.interpolate(x, size=(SIDE, SIDE), mode="area")


def train(folder: Path, assets: Path, seed: int, steps: int) -> Judge:
    """Train (or load) the judge."""
    torch.manual_seed(seed)
    model = Judge()
    done = folder / "judge-done.pt"
    if done.exists():
        model.load_state_dict(torch.load(done, weights_only=True))
        return model.eval()
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
    model.eval()
    torch.manual_seed(seed)
    learn_to_read(model.reader, *tracks_seen(model, assets, seed), READ_STEPS)
    torch.save(model.state_dict(), done)
    return model


@torch.inference_mode()
def tracks_seen(judge: Judge, assets: Path, seed: int) -> tuple[Tensor, Tensor]:
    """Look at TRACKED shaken clips; return tracks (N, FRAMES, 5) and their motions."""
    rng, tracks, motions = random.Random(f"tracks {seed}"), [], []
    for number in range(TRACKED):
        motion = number % len(MOTIONS)
        frames = as_input(_shaken_clip(assets, rng, MOTIONS[motion]))
        tracks.append(judge.find(_tinted(frames, 1))[1])
        motions.append(motion)
    return torch.stack(tracks).clone(), torch.tensor(motions)


def learn_to_read(reader: Reader, tracks: Tensor, motions: Tensor, steps: int) -> None:
    """Train the reader on tracks (N, FRAMES, 5), pushed aside and shaken anew in each step."""
    optimiser = torch.optim.AdamW(reader.parameters(), 2e-3, weight_decay=0.05)
    noise = torch.tensor([0.012, 0.012, 0.04, 0.08, 0.08])
    for step in range(steps):
        for group in optimiser.param_groups:
            group["lr"] = 2e-3 * (1 - step / steps)
        rows = torch.randint(len(tracks), (128,))
        x = tracks[rows]
        x = x + noise * (torch.randn(128, 1, 5) + torch.randn_like(x))
        loss = functional.cross_entropy(reader(x), motions[rows])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


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
    motion = int(judge.reader(pose[None]).argmax())
    return Seen(SUBJECTS[best], SETTING_NAMES[place], MOTIONS[motion], steady)
