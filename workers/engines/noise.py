"""The noise that frames start from: one per shot, so that its frames belong together."""

import math
from typing import Any, Final

import torch

from orchestrator.wire import FrameSpec
from workers.engines.recipes import Pipe

TRAVEL: Final = math.radians(15)
"""Turn of a shot's noise from its first frame to its last, for models without a layout.

A still image model given one prompt and one noise paints one still. Turning the noise a little
toward a second one of the same shot makes it move; at 15 degrees the two ends correlate by
cos 15° = 0.97, so that they stay one picture.
"""


def latent_shape(pipe: Pipe, height: int, width: int) -> tuple[int, int, int]:
    """Return (channels, height, width) of one frame's latents, before any packing."""
    if hasattr(pipe, "latent_shape"):
        return tuple(pipe.latent_shape(height, width))[-3:]
    denoiser = denoiser_of(pipe)
    channels, scale = denoiser.config.in_channels, pipe.vae_scale_factor
    if hasattr(pipe, "_pack_latents"):
        return channels // 4, 2 * (height // (scale * 2)), 2 * (width // (scale * 2))
    return channels, height // scale, width // scale


def denoiser_of(pipe: Pipe) -> Any:
    """Return the network that denoises: a UNet or a transformer."""
    return getattr(pipe, "unet", None) or pipe.transformer


def shot_noise(shape: tuple[int, ...], frame: FrameSpec, travel: float) -> torch.Tensor:
    """Return the frame's starting noise, float32 on the CPU: the same on every device.

    Two noises a, b of the shot's seed span a plane; the frame takes the one at the angle
    phase * travel from a: cos·a + sin·b, which is again unit Gaussian noise at every angle.
    """
    generator = torch.Generator("cpu").manual_seed(frame.seed)
    here = torch.randn(shape, generator=generator)
    if not travel:
        return here
    there = torch.randn(shape, generator=generator)
    angle = frame.phase * travel
    return math.cos(angle) * here + math.sin(angle) * there
