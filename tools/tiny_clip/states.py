"""Targets of the text encoder of tiny_clip: one state of fixed meaning for each place.

A state is a vector of one length, as the encoder's last norm makes them, in axes that a seed
turned: what it is about (setting, pose, look or nothing), and the payload. The text encoder learns
to find these states from words; the transformer learns what to paint from the states. So the two
can be trained side by side.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tools.tiny_clip.clips import FRAMES, MOTIONS, SETTING_NAMES, Clip, poses_of
from tools.tiny_clip.words import LOOK
from tools.tiny_world.dataset import SUBJECTS
from tools.tiny_world.world import UNIT, sprite

WIDTH: Final = 192
"""Components of a state; the mean of their squares is 1."""
PIXELS: Final = 6
"""Pixels a side of one square of the looks."""
PAYLOAD: Final = 4 * PIXELS**2 + 8
ABOUT: Final = {name: PAYLOAD + k for k, name in enumerate(("setting", "pose", "look", "nothing"))}
FILLER: Final = PAYLOAD + len(ABOUT)
"""The component that makes all states equally long."""


def waves(values: Tensor, *lengths: float) -> list[Tensor]:
    """Sines and cosines of values, so that a linear layer can tell places apart."""
    return [wave(torch.pi * k * values) for k in lengths for wave in (torch.sin, torch.cos)]


def looks(assets: Path) -> Tensor:
    """Every subject's picture as squares, (subjects, LOOK², 4·PIXELS²), -1..1, premultiplied."""
    side = LOOK * PIXELS
    rows = []
    for name in SUBJECTS:
        small = sprite(assets, name).resize((side, side), Image.Resampling.BOX)
        pixels = np.asarray(small, np.float32) / 255
        pixels[..., :3] = (pixels[..., :3] * 2 - 1) * pixels[..., 3:]
        pixels[..., 3] = pixels[..., 3] * 2 - 1
        cut = pixels.reshape(LOOK, PIXELS, LOOK, PIXELS, 4).transpose(0, 2, 1, 3, 4)
        rows.append(cut.reshape(LOOK * LOOK, -1))
    return torch.from_numpy(np.stack(rows))


def own_axes() -> Tensor:
    """Coefficients a, b, c, d of a subject's own axes, (motions, FRAMES, 4).

    A place (X, Y) is at u = a·X + b·Y + c and v = a·Y - b·X + d from the subject's centre, in
    its own directions, where its picture reaches from -1 to 1.
    """
    poses = torch.from_numpy(np.stack([poses_of(motion) for motion in MOTIONS]))
    x, y, scale, turn = poses.unbind(-1)
    angle = turn * torch.pi / 180
    a, b = (2 / UNIT / scale * wave for wave in (angle.cos(), angle.sin()))
    return torch.stack([a, b, -a * x - b * y, b * x - a * y], -1)


def pose_features() -> Tensor:
    """Every motion's poses as features (motions, FRAMES, 41): places in waves, size, turn."""
    poses = torch.from_numpy(np.stack([poses_of(motion) for motion in MOTIONS]))
    x, y, scale, turn = poses.unbind(-1)
    angle = turn * torch.pi / 180
    columns = [2 * x - 1, 2 * y - 1, 2 * scale.log(), angle.cos(), angle.sin()]
    for place in (x, y):
        columns += waves(place, 0.5, 1, 2, 3, 4, 6)
    for part, size in zip(own_axes().unbind(-1), (0.2, 0.2, 0.4, 0.4), strict=True):
        columns += [part * size, *waves(part, 0.25)]
    return torch.stack(columns, -1)


def _squares() -> Tensor:
    side = (torch.arange(LOOK) + 0.5) / LOOK
    down, across = (part.flatten() for part in torch.meshgrid(side, side, indexing="ij"))
    return torch.stack([*waves(down, 1, 2), *waves(across, 1, 2)], -1)


def _state(about: str, payload: Tensor) -> Tensor:
    """Turn payloads (…, up to PAYLOAD) into states (…, WIDTH)."""
    plain = torch.zeros(*payload.shape[:-1], WIDTH)
    plain[..., : payload.shape[-1]] = payload
    plain[..., ABOUT[about]] = 4.0
    rest = WIDTH - plain.square().sum(-1)
    if (rest < 0).any():
        raise ValueError(f"a {about} says too much for a state of its length")
    plain[..., FILLER] = rest.sqrt()
    axes, _ = torch.linalg.qr(torch.randn(WIDTH, WIDTH, generator=torch.Generator().manual_seed(1)))
    return plain @ axes


@dataclass(frozen=True, slots=True)
class States:
    """The states that words should become."""

    settings: Tensor
    """(settings, WIDTH)."""
    poses: Tensor
    """(motions, FRAMES, WIDTH)."""
    looks: Tensor
    """(subjects, LOOK², WIDTH)."""
    nothing: Tensor
    """(WIDTH,): what the places of the words say."""

    def of(self, clip: Clip) -> Tensor:
        """The states of a clip's places, (places, WIDTH)."""
        return torch.cat(
            [
                self.settings[SETTING_NAMES.index(clip.setting)][None],
                self.poses[MOTIONS.index(clip.motion)],
                self.looks[SUBJECTS.index(clip.subject)],
            ]
        )


def states(assets: Path) -> States:
    """The states of all settings, motions and subjects."""
    pose = pose_features() * 2
    look = looks(assets)
    return States(
        settings=_state("setting", 8 * torch.eye(len(SETTING_NAMES))),
        poses=_state(
            "pose", torch.cat([pose, (4 * torch.eye(FRAMES)).expand(len(pose), -1, -1)], -1)
        ),
        looks=_state("look", torch.cat([look, (2 * _squares()).expand(len(look), -1, -1)], -1)),
        nothing=_state("nothing", torch.zeros(1)),
    )
