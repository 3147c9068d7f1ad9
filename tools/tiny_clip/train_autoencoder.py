"""Train the autoencoder of tiny_clip, a stock AutoencoderDC, and turn clips into latents.

AutoencoderKL, AnimateDiff's own, learns several times slower: its first layers work on every
pixel, and its group norms lose the colours. AutoencoderDC folds pixels at once, and its shortcuts
pass them on. AnimateDiff only asks its configuration for one more entry, `block_out_channels`,
whose length says how many pixels a side make one place.

Every step draws its own pictures from (seed, step), so a resumed training needs no more than
weights and optimiser, and ends with the weights of one that was never stopped.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC
from PIL import Image
from torch import Tensor

from tools.tiny_clip.clips import FRAMES, SIDE, clip_of, draw_clip, draw_still, drawn_clips
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import to_batch

CHANNELS = 8
"""Channels of a latent; eight pixels a side make one place."""
PLACES = SIDE // 8
BATCH = 16
CROP = 64
WHOLE_STEPS, WHOLE_BATCH = 80, 6
"""The last steps see whole frames."""
ENCODER_SHARE = 0.65
"""The share of the steps, the first ones, in which the encoder learns, too; then latents stay."""
PEAK_RATE = 1.5e-3
SAVE_EVERY = 100


def make_autoencoder() -> AutoencoderDC:
    """The autoencoder, untrained."""
    widths = (24, 48, 96, 96)
    model = AutoencoderDC(
        latent_channels=CHANNELS, encoder_block_out_channels=widths,
        decoder_block_out_channels=widths, encoder_layers_per_block=(0, 1, 1, 2),
        decoder_layers_per_block=(0, 2, 2, 2), encoder_qkv_multiscales=((),) * 4,
        decoder_qkv_multiscales=((),) * 4,
    )  # fmt: skip
    model.register_to_config(block_out_channels=widths)
    return model.to(memory_format=torch.channels_last)


def _batch(assets: Path, seed: int, step: int, *, whole: bool) -> Tensor:
    rng = random.Random(f"stills {seed} {step}")
    count, crop = (WHOLE_BATCH, SIDE) if whole else (BATCH, CROP)
    return to_batch(np.stack([draw_still(assets, rng, crop) for _ in range(count)]))


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _loss(model: AutoencoderDC, x: Tensor) -> tuple[Tensor, Tensor]:
    """L1 on pixels and on their differences, of a decoder that must bear noisy latents."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = model.encode(x).latent
        noise = torch.rand(len(x), 1, 1, 1) * 0.15
        decoded = model.decode(latents + noise * torch.randn_like(latents)).sample.float()
    pixel = (decoded - x).abs().mean()
    edges = sum(
        (a - b).abs().mean() for a, b in zip(_gradients(decoded), _gradients(x), strict=True)
    )
    return pixel + 0.5 * edges + 2e-3 * latents.float().square().mean(), pixel


@torch.inference_mode()
def encode(model: AutoencoderDC, frames: np.ndarray) -> Tensor:
    """Scaled latents of frames, float32 (N, CHANNELS, PLACES, PLACES)."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mean = model.encode(to_batch(frames)).latent
    return mean.float() * model.config.scaling_factor


@torch.inference_mode()
def decode(model: AutoencoderDC, latents: Tensor) -> np.ndarray:
    """Frames of scaled latents (N, CHANNELS, PLACES, PLACES), uint8 (N, SIDE, SIDE, 3)."""
    pixels = model.decode(latents / model.config.scaling_factor).sample
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def sheet(model: AutoencoderDC, assets: Path, seed: int, path: Path) -> float:
    """Save a few frames above what becomes of them; return the mean PSNR in decibels."""
    frames = np.concatenate([draw_clip(assets, clip_of(seed + 1, k))[4:12:4] for k in range(5)])
    seen = decode(model, encode(model, frames))
    Image.fromarray(np.concatenate([np.concatenate(list(x), 1) for x in (frames, seen)])).save(path)
    error = np.square(frames.astype(np.float32) - seen).mean((1, 2, 3))
    return float((10 * np.log10(255**2 / error)).mean())


def _scale(model: AutoencoderDC, assets: Path, seed: int) -> None:
    """Set the scaling factor so that latents have deviation 1."""
    frames = np.concatenate([draw_clip(assets, clip_of(seed, k))[::5] for k in range(40)])
    model.register_to_config(scaling_factor=1 / float(encode(model, frames).std()))


def train(folder: Path, assets: Path, seed: int, steps: int) -> AutoencoderDC:
    """Train (or load) the autoencoder; it lies in `folder`/vae afterwards."""
    done = folder / "vae"
    if (done / "config.json").exists():
        return AutoencoderDC.from_pretrained(done).eval()
    torch.manual_seed(seed)
    model = make_autoencoder()
    optimiser = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.95))
    checkpoint, start = folder / "autoencoder.pt", time.time()
    first = load_checkpoint(checkpoint, model=model, optimiser=optimiser)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 30, max(0.02, 1.6 * (1 - step / steps)))
        torch.manual_seed(seed * 1_000_003 + step)
        model.encoder.requires_grad_(step < steps * ENCODER_SHARE)
        whole = step >= steps - WHOLE_STEPS
        loss, pixel = _loss(model, _batch(assets, seed, step, whole=whole))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 20 == 0:
            spent = time.time() - start
            print(f"autoencoder {step} {spent:.0f} s L1 {pixel.item():.4f}", flush=True)
        if (step + 1) % SAVE_EVERY == 0 and step + 1 < steps:
            save_checkpoint(checkpoint, step + 1, model=model, optimiser=optimiser)
            ratio = sheet(model, assets, seed, folder / "autoencoder.png")
            print(f"autoencoder {step + 1} PSNR {ratio:.1f} dB", flush=True)
    _scale(model.eval(), assets, seed)
    print(f"autoencoder PSNR {sheet(model, assets, seed, folder / 'autoencoder.png'):.1f} dB")
    model.save_pretrained(done)
    return model


def latents(folder: Path, model: AutoencoderDC, assets: Path, seed: int, count: int) -> np.ndarray:
    """The training clips as latents, float16 (count, FRAMES, CHANNELS, PLACES, PLACES), on disk.

    A count beside the file says how many clips are done, so this resumes too.
    """
    path = folder / f"latents-{seed}-{count}.npy"
    part, mark = path.with_suffix(".part"), path.with_suffix(".done")
    if not path.exists():
        shape = (count, FRAMES, CHANNELS, PLACES, PLACES)
        first = int(mark.read_text()) if mark.exists() else 0
        if not first:
            np.lib.format.open_memmap(part, "w+", np.float16, shape).flush()
        store = np.load(part, mmap_mode="r+")
        for numbers, frames in drawn_clips(assets, seed, first, count):
            for number, clip in zip(numbers, frames, strict=True):
                store[number] = encode(model, clip).half().numpy()
            store.flush()
            mark.write_text(str(numbers.stop))
        part.rename(path)
    return np.load(path, mmap_mode="r")
