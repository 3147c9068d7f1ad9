"""Layouts of frames: turns a frame's layout into extra input channels of the U-Net."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

PLACES = 2
"""Subjects that one frame may hold."""
SUB = 4
"""Samples of a code per latent cell and side."""
WAVES = (1, 2)
"""Frequencies of the position channels, in half turns over the picture."""
CLEAR, OPAQUE = 0.5, 0.9
"""Opacities up to and from which a subject is cut out: its rim shows the painted setting."""
OUTSIDE = 6.0
"""Value that makes any opacity none, before its sigmoid."""
UNIT = 0.44
"""Height of a subject at scale 1.0, as a share of the picture's height."""

Placement = Mapping[str, Any]
"""subject, x, y, scale, turn; anything with these attributes serves as well."""


class TinyWorldLayoutEncoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """Learned spatial codes of the subjects, laid into the frame where they are wanted.

    Every subject owns a code: 8 channels on a 32×32 grid, learned together with the
    denoiser, as textual inversion learns a word, but with places. A placement samples
    it by its own rotated, scaled coordinates; the second subject covers the first by its
    first channel's sigmoid. `backdrops` embeds the variant of the setting's backdrop, and
    `sketch` lays caption and variant out over the picture, so that the denoiser, which sees
    neighbourhoods, knows from the start what belongs where.
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self,
        subjects: Sequence[str] = (),
        code_channels: int = 8,
        code_size: int = 32,
        views: int = 16,
        view_dim: int = 128,
        sketch_channels: int = 8,
        sketch_size: int = 16,
        sketch_hidden: int = 512,
    ) -> None:
        super().__init__()
        self.codes = nn.Parameter(
            0.5 * torch.randn(len(subjects), code_channels, code_size, code_size)
        )
        self.backdrops = nn.Embedding(views, view_dim)
        self.sketch = nn.Sequential(
            nn.Linear(view_dim, sketch_hidden),
            nn.SiLU(),
            nn.Linear(sketch_hidden, sketch_channels * sketch_size**2),
        )
        self._index = {name: number for number, name in enumerate(subjects)}

    @property
    def out_channels(self) -> int:
        """Channels that `forward` returns."""
        config = self.config
        places = (int(config.code_channels) + 1) * SUB**2
        return places + 4 * len(WAVES) + int(config.sketch_channels)

    def tensors(self, layouts: Sequence[Sequence[Placement]]) -> tuple[Tensor, Tensor]:
        """Turn layouts into subject numbers (B, 2), -1 for none, and poses (B, 2, 4).

        Raises:
            ValueError: an unknown subject, or more subjects than a frame holds.
        """
        numbers = torch.full((len(layouts), PLACES), -1, dtype=torch.long)
        poses = torch.zeros(len(layouts), PLACES, 4)
        for row, layout in enumerate(layouts):
            if len(layout) > PLACES:
                msg = f"a frame holds at most {PLACES} subjects, not {len(layout)}"
                raise ValueError(msg)
            for place, placement in enumerate(layout):
                subject = _read(placement, "subject")
                if subject not in self._index:
                    msg = f"the model has never seen a {subject!r}"
                    raise ValueError(msg)
                numbers[row, place] = self._index[subject]
                poses[row, place] = torch.tensor(
                    [float(_read(placement, name)) for name in ("x", "y", "scale", "turn")]
                )
        return numbers, poses

    def forward(
        self, numbers: Tensor, poses: Tensor, summary: Tensor, height: int, width: int
    ) -> Tensor:
        """Return (B, out_channels, height, width) for latents of height × width cells.

        `summary` (B, view_dim) is the caption's summary plus the variant's embedding.
        """
        painted = self._layer(numbers[:, 0], poses[:, 0], height, width)
        for place in range(1, PLACES):
            layer = self._layer(numbers[:, place], poses[:, place], height, width)
            cover = layer[:, -1:] * torch.sigmoid(layer[:, :1])
            painted = painted * (1 - cover) + layer
        folded = functional.pixel_unshuffle(painted, SUB)
        positions = _positions(len(numbers), height, width, folded)
        return torch.cat([folded, positions, self._sketched(summary, height, width)], 1)

    def _sketched(self, summary: Tensor, height: int, width: int) -> Tensor:
        side = int(self.config.sketch_size)
        drawn: Tensor = self.sketch(summary).view(len(summary), -1, side, side)
        if (height, width) == (side, side):
            return drawn
        return functional.interpolate(drawn, (height, width), mode="bilinear", align_corners=False)

    def anonymous(self, plan: Tensor) -> Tensor:
        """Keep where the subjects are and forget which they are, for guidance."""
        codes = self.config.code_channels * SUB**2
        return torch.cat([torch.zeros_like(plan[:, :codes]), plan[:, codes:]], 1)

    def laid_over(
        self, pictures: Tensor, layouts: Sequence[Sequence[Placement]], backdrop: Tensor
    ) -> Tensor:
        """Cut the subjects of pictures in 0..1 out and lay them over a backdrop in -1..1."""
        numbers, poses = (part.to(pictures.device) for part in self.tensors(layouts))
        cover = self._coverage(numbers, poses, *pictures.shape[-2:])
        behind = (backdrop.to(pictures) / 2 + 0.5).clamp(0, 1)
        laid: Tensor = cover * pictures + (1 - cover) * behind
        return laid

    def _coverage(self, numbers: Tensor, poses: Tensor, height: int, width: int) -> Tensor:
        """Return how far subjects cover each pixel, 0..1, (B, 1, height, width).

        Read off the codes' first channel, whose ends are cut off: it nowhere reaches them.
        """
        clear = torch.ones(len(numbers), 1, height, width, device=numbers.device)
        for place in range(PLACES):
            layer = self._layer(numbers[:, place], poses[:, place], height // SUB, width // SUB)
            inside = layer[:, -1:]  # fades to 0 over the last row, as the codes do
            opacity = torch.sigmoid(layer[:, :1] - OUTSIDE * (1 - inside))
            clear = clear * (1 - ((opacity - CLEAR) / (OPAQUE - CLEAR)).clamp(0, 1) * inside)
        return 1 - clear

    def _layer(self, numbers: Tensor, poses: Tensor, height: int, width: int) -> Tensor:
        """Sample one place's codes and its mask (last channel) at SUB × the latents' size."""
        present = (numbers >= 0).float()[:, None, None, None]
        # In float32 whatever the weights are: half precision would shake a moving subject.
        codes = self.codes[numbers.clamp(min=0)].float()
        codes = torch.cat([codes, torch.ones_like(codes[:, :1])], 1)
        grid = _own_coordinates(poses.float(), height * SUB, width * SUB)
        sampled = functional.grid_sample(codes, grid, padding_mode="zeros", align_corners=False)
        return sampled * present


def view_of(noise: Tensor, views: int) -> Tensor:
    """Read the backdrop's variant off a starting noise: the signs of a few of its sums.

    All frames of a shot start from one noise, so they share one backdrop.
    """
    bits = max(1, math.ceil(math.log2(views)))
    sums = torch.stack([noise[:, k::bits].double().sum((1, 2, 3)) for k in range(bits)], 1)
    weights = 2 ** torch.arange(bits, device=noise.device)
    return ((sums > 0).long() * weights).sum(1) % views


def _read(placement: Placement, name: str) -> Any:
    default = {"scale": 1.0, "turn": 0.0}.get(name)
    if isinstance(placement, Mapping):
        return placement.get(name, default)
    return getattr(placement, name, default)


def _own_coordinates(poses: Tensor, height: int, width: int) -> Tensor:
    """Return each sample's place in the subject's own square, -1..1, (B, height, width, 2)."""
    x, y, scale, turn = (poses[:, k, None, None] for k in range(4))
    rows = (torch.arange(height, device=poses.device) + 0.5) / height
    columns = (torch.arange(width, device=poses.device) + 0.5) / width
    half = (UNIT * scale / 2).clamp(min=1e-3)
    dx = (columns[None, None, :] - x) * (width / height)
    dy = rows[None, :, None] - y
    angle = torch.deg2rad(turn)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return torch.stack([(dx * cos + dy * sin) / half, (dy * cos - dx * sin) / half], -1)


def _positions(batch: int, height: int, width: int, like: Tensor) -> Tensor:
    """Return sines and cosines of the cell's place in the picture."""
    rows = ((torch.arange(height) + 0.5) / height)[:, None].expand(height, width)
    columns = ((torch.arange(width) + 0.5) / width)[None].expand(height, width)
    waves = [
        wave(math.pi * frequency * place)
        for frequency in WAVES
        for place in (rows, columns)
        for wave in (torch.sin, torch.cos)
    ]
    return torch.stack(waves)[None].to(like).expand(batch, -1, -1, -1)
