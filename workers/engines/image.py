"""Reference images: a shot starts from a noised picture instead of from pure noise.

SDEdit (Meng et al., 2022, arXiv:2108.01073): the picture's latents get the shot's noise as far
as a step in the middle of the schedule asks for it, and only the steps from there on are taken.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from PIL import Image, ImageOps

from orchestrator.errors import BadRequest
from orchestrator.model import WHITE
from orchestrator.remedies import Say
from workers.engines.recipes import Pipe, Scheduler

MAX_PIXELS: Final = 25_000_000


def read(path: Path, width: int, height: int, background: str = WHITE) -> torch.Tensor:
    """Return the picture upright, cut to the middle and resized: (1, 3, height, width), -1..1.

    What is transparent in it is of the colour `background`.

    Raises:
        BadRequest: it is no picture, cut off, or too large.
    """
    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP")) as file:
            if file.width * file.height > MAX_PIXELS:
                raise BadRequest(
                    f"The reference image has {file.width}x{file.height} pixels.",
                    Say("Send one of at most 25 megapixels."),
                )
            upright = on_background(ImageOps.exif_transpose(file), background)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise BadRequest(
            f"The reference image cannot be read: {type(error).__name__}.",
            Say("Send a PNG, JPEG or WebP that opens in an image viewer."),
        ) from error
    fitted = ImageOps.fit(upright, (width, height), Image.Resampling.LANCZOS)
    pixels = torch.from_numpy(np.array(fitted, dtype=np.float32))
    return (pixels / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


def on_background(picture: Image.Image, colour: str) -> Image.Image:
    """Return a picture without transparency: what was transparent is a colour (`#rrggbb`)."""
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    ground = Image.new("RGBA", picture.size, colour)
    return Image.alpha_composite(ground, picture.convert("RGBA")).convert("RGB")


@torch.no_grad()
def encode(pipe: Pipe, picture: torch.Tensor) -> torch.Tensor:
    """Return the picture's latents as the denoiser knows them, float32 on the CPU.

    Nothing is drawn: of a posterior, its mode is taken.
    """
    vae = pipe.vae
    encoded = vae.encode(picture.to(pipe._execution_device, vae.dtype))
    if isinstance(encoded, torch.Tensor):  # tiny_world's are normalised already
        return encoded.float().cpu()
    latents: torch.Tensor = encoded.latent_dist.mode().float().cpu()
    config = vae.config
    if config.get("latents_mean") is not None and config.get("latents_std") is not None:
        mean, std = (torch.tensor(config[f"latents_{of}"]) for of in ("mean", "std"))
        latents = (latents - mean.view(1, -1, 1, 1)) / std.view(1, -1, 1, 1)
    else:
        latents = latents - (config.get("shift_factor") or 0.0)
    return latents * float(config["scaling_factor"])


def steps_left_out(steps: int, strength: float) -> int:
    """Return how many of the first steps are not taken; at least one always is."""
    return steps - max(1, round(steps * strength))


def noised(
    scheduler: Scheduler, start: torch.Tensor, noise: torch.Tensor, *, steps: int, left_out: int
) -> torch.Tensor:
    """Return the latents with as much of the noise as the first step taken expects.

    Divided by what every pipeline multiplies its `latents` by.
    """
    scheduler.set_timesteps(steps, device="cpu")
    time = scheduler.timesteps[left_out * scheduler.order]
    mixed = scheduler.add_noise(start.expand_as(noise), noise, time.repeat(len(noise)))
    latents: torch.Tensor = mixed / scheduler.init_noise_sigma
    return latents


@contextmanager
def late_start(scheduler: Scheduler, left_out: int) -> Iterator[None]:
    """Let the pipelines called in the block see the schedule without its first steps.

    A pipeline reads `scheduler.timesteps` once, before its loop. From the first step on, the
    whole schedule is back, because some schedulers count in it.
    """
    if not left_out:
        yield
        return
    set_timesteps, step = scheduler.set_timesteps, scheduler.step
    whole: Any = None

    @wraps(set_timesteps)
    def set_late(*args: Any, **kwargs: Any) -> None:
        nonlocal whole
        set_timesteps(*args, **kwargs)
        whole = scheduler.timesteps
        scheduler.timesteps = whole[left_out * scheduler.order :]
        if hasattr(scheduler, "set_begin_index"):
            scheduler.set_begin_index(left_out * scheduler.order)

    @wraps(step)
    def whole_step(*args: Any, **kwargs: Any) -> Any:
        scheduler.timesteps = whole
        return step(*args, **kwargs)

    scheduler.set_timesteps, scheduler.step = set_late, whole_step
    try:
        yield
    finally:
        del scheduler.set_timesteps, scheduler.step
