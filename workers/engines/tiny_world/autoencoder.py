"""The autoencoder of tiny_world: 256×256 pictures to 16×16 latents of 32 channels and back.

All convolutions but the last two run on folded pixels (32×32 and 16×16), because on
a CPU nearly all the time of a usual autoencoder goes to its full-resolution level.
"""

from __future__ import annotations

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn
from torch.nn import functional

FOLD = 8
"""Pixels folded into channels on each side before the first convolution."""


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions beside the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, channels)
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, C, H, W) to the same shape."""
        hidden = functional.silu(self.first(functional.silu(self.norm(x))))
        changed: Tensor = x + self.second(hidden)
        return changed


class TinyWorldAutoencoder(ModelMixin, ConfigMixin):  # type: ignore[misc]  # diffusers has no types
    """Pictures (B, 3, H, W) in -1..1 to latents (B, 32, H/16, W/16) and back.

    Latents leave `encode` and enter `decode` normalised: every channel has mean 0 and
    deviation 1 over the training pictures (buffers `mean`, `deviation`).
    """

    @register_to_config  # type: ignore[untyped-decorator]  # diffusers has no types
    def __init__(
        self,
        latent_channels: int = 32,
        fine_channels: int = 96,
        coarse_channels: int = 160,
        paint_channels: int = 32,
    ) -> None:
        super().__init__()
        fine, coarse, paint = fine_channels, coarse_channels, paint_channels
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(FOLD),
            nn.Conv2d(3 * FOLD**2, fine, 3, padding=1),
            ResidualBlock(fine),
            ResidualBlock(fine),
            nn.Conv2d(fine, coarse, 3, stride=2, padding=1),
            ResidualBlock(coarse),
            ResidualBlock(coarse),
            nn.Conv2d(coarse, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, coarse, 3, padding=1),
            ResidualBlock(coarse),
            ResidualBlock(coarse),
            nn.Conv2d(coarse, fine * 4, 1),
            nn.PixelShuffle(2),
            ResidualBlock(fine),
            ResidualBlock(fine),
            ResidualBlock(fine),
            nn.Conv2d(fine, paint * 4, 3, padding=1),
            nn.PixelShuffle(2),
            ResidualBlock(paint),
            nn.Conv2d(paint, 8 * 16, 3, padding=1),
            nn.PixelShuffle(4),
            nn.SiLU(),
            nn.Conv2d(8, 3, 3, padding=1),
        )
        self.register_buffer("mean", torch.zeros(1, latent_channels, 1, 1))
        self.register_buffer("deviation", torch.ones(1, latent_channels, 1, 1))

    def encode(self, pictures: Tensor) -> Tensor:
        """Encode pictures in -1..1 to normalised latents."""
        latents: Tensor = (self.encoder(pictures) - self.mean) / self.deviation
        return latents

    def decode(self, latents: Tensor) -> Tensor:
        """Decode normalised latents to pictures in about -1..1."""
        pictures: Tensor = self.decoder(latents * self.deviation + self.mean)
        return pictures

    def forward(self, pictures: Tensor) -> Tensor:
        """Encode and decode."""
        return self.decode(self.encode(pictures))
