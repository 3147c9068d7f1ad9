"""Fit the autoencoder of tiny_clip, a stock AutoencoderDC, and sharpen its decoder.

The encoder is not trained step by step: its weights are the principal components of blocks of
8x8 pixels, by one eigenvalue problem. AutoencoderDC folds pixels into channels, which loses
nothing, so its last convolution may do the rest; its residual blocks add nothing at first. The
decoder starts as the way back, 31 dB without a step of training, and then learns from noisy
latents. Latents never change, so the transformer may learn at the same time.

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
from diffusers.models.autoencoders.autoencoder_dc import ResBlock
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional

from tools.tiny_clip.clips import SIDE, clip_of, draw_clip, draw_still
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import to_batch

CHANNELS = 32
"""Channels of a latent; eight pixels a side make one place."""
FOLD = 8
PLACES = SIDE // FOLD
LOUD, LIFT = 16.0, 1.5
"""A constant in four channels, so that the decoder's last norm divides by nearly the same
everywhere, and what is added to pixels so that the activation behind it leaves them alone."""
FITTED = 480
"""Pictures that the principal components are of."""
BATCH = 6
PEAK_RATE = 1e-3
SAVE_EVERY = 100


def make_autoencoder() -> AutoencoderDC:
    """The autoencoder, neither fitted nor trained.

    AnimateDiff and Latte ask its configuration for one more entry, `block_out_channels`.
    """
    inside, outside = (12, 12, 48, 192), (16, 16, 64, 256)
    model = AutoencoderDC(
        latent_channels=CHANNELS, encoder_block_out_channels=inside,
        decoder_block_out_channels=outside, encoder_layers_per_block=(0, 1, 1, 1),
        decoder_layers_per_block=(0, 1, 1, 1), encoder_qkv_multiscales=((),) * 4,
        decoder_qkv_multiscales=((),) * 4, encoder_out_shortcut=False, decoder_in_shortcut=False,
    )  # fmt: skip
    model.register_to_config(block_out_channels=outside)
    return model.to(memory_format=torch.channels_last)


def _fold(x: Tensor, times: int) -> Tensor:
    for _ in range(times):
        x = functional.pixel_unshuffle(x, 2)
    return x


def _only_middle(conv: nn.Module, weight: Tensor, bias: Tensor | None = None) -> None:
    """Make a 3x3 convolution look at its own place only."""
    assert isinstance(conv, nn.Conv2d)
    nn.init.zeros_(conv.weight)
    conv.weight[:, :, 1, 1] = weight
    if conv.bias is not None:
        conv.bias.copy_(torch.zeros(len(weight)) if bias is None else bias)


@torch.no_grad()
def fit(model: AutoencoderDC, pictures: np.ndarray) -> None:
    """Set the weights to the principal components of pictures (N, SIDE, SIDE, 3), and the scale."""
    rows = _fold(to_batch(pictures).contiguous(), 3).movedim(1, -1).flatten(0, 2).double()
    mean = rows.mean(0)
    values, vectors = torch.linalg.eigh(torch.cov((rows - mean).T))
    axes = vectors[:, -CHANNELS:].flip(1)
    axes = (axes * axes.sum(0).sign()).float()
    for part in (model.encoder, model.decoder):
        for block in (each for each in part.modules() if isinstance(each, ResBlock)):
            nn.init.zeros_(block.norm.weight)
            nn.init.zeros_(block.norm.bias)
    for block in (each for each in model.encoder.modules() if isinstance(each, ResBlock)):
        nn.init.zeros_(block.conv1.weight)
        nn.init.zeros_(block.conv2.weight)
    for down in (model.encoder.down_blocks[1][1], model.encoder.down_blocks[2][1]):
        _only_middle(down.conv, torch.zeros(down.conv.weight.shape[:2]))
    _only_middle(model.encoder.conv_in.conv, torch.eye(3))
    _only_middle(model.encoder.conv_out, axes.T, -(axes.T @ mean.float()))
    for up in (model.decoder.up_blocks[1][0], model.decoder.up_blocks[2][0]):
        _only_middle(up.conv, torch.zeros(up.conv.weight.shape[:2]))
    pixels = torch.arange(192)
    # A folded picture's channels, twice folded again, stand in groups of 16 of 64 twice folded.
    level = torch.cat([torch.zeros(12), torch.full((4,), LOUD)]).reshape(1, 16, 1, 1)
    bias = _fold(level.expand(1, 16, 4, 4), 2)[0, :, 0, 0].clone()
    bias[pixels] = mean.float()
    weight = torch.zeros(256, CHANNELS)
    weight[pixels] = axes
    _only_middle(model.decoder.conv_in, weight, bias)
    size = float((4 * LOUD**2 + 12 * rows.square().mean()) / 16) ** 0.5
    nn.init.constant_(model.decoder.norm_out.weight, size)
    nn.init.constant_(model.decoder.norm_out.bias, LIFT)
    back = torch.zeros(12, 16)
    back[:, :12] = torch.eye(12)
    _only_middle(model.decoder.conv_out.conv, back, torch.full((12,), -LIFT))
    model.register_to_config(scaling_factor=float(values[-CHANNELS:].mean()) ** -0.5)


def _batch(assets: Path, seed: int, step: int) -> Tensor:
    rng = random.Random(f"stills {seed} {step}")
    return to_batch(np.stack([draw_still(assets, rng) for _ in range(BATCH)]))


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _loss(model: AutoencoderDC, x: Tensor) -> tuple[Tensor, Tensor]:
    """L1 on pixels and on their differences, of a decoder that must bear noisy latents."""
    with torch.no_grad():
        latents = encode(model, x) / model.config.scaling_factor
        noise = torch.rand(len(x), 1, 1, 1) * 0.15 / model.config.scaling_factor
        latents = latents + noise * torch.randn_like(latents)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        decoded = model.decode(latents).sample.float()
    pixel = (decoded - x).abs().mean()
    edges = sum(
        (a - b).abs().mean() for a, b in zip(_gradients(decoded), _gradients(x), strict=True)
    )
    return pixel + 0.5 * edges, pixel


@torch.inference_mode()
def encode(model: AutoencoderDC, x: Tensor) -> Tensor:
    """Scaled latents (N, CHANNELS, PLACES, PLACES) of pixels (N, 3, SIDE, SIDE) in -1..1.

    They are those of `model.encode`, whose residual blocks add nothing, at a tenth of the work.
    """
    last, order = model.encoder.conv_out, _fold(torch.arange(192.0).reshape(1, 3, 8, 8), 3)
    weight = torch.empty_like(last.weight[..., 1, 1])
    weight[:, order.flatten().long()] = last.weight[..., 1, 1]
    blocks = x.unflatten(3, (PLACES, FOLD)).unflatten(2, (PLACES, FOLD)).permute(0, 2, 4, 1, 3, 5)
    found = functional.linear(blocks.flatten(3), weight, last.bias).permute(0, 3, 1, 2)
    return found * model.config.scaling_factor


@torch.inference_mode()
def decode(model: AutoencoderDC, latents: Tensor) -> np.ndarray:
    """Frames of scaled latents (N, CHANNELS, PLACES, PLACES), uint8 (N, SIDE, SIDE, 3)."""
    pixels = model.decode(latents / model.config.scaling_factor).sample
    return ((pixels.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).numpy()


def sheet(model: AutoencoderDC, assets: Path, seed: int, path: Path) -> float:
    """Save a few frames above what becomes of them; return the mean PSNR in decibels."""
    frames = np.concatenate([draw_clip(assets, clip_of(seed + 1, k))[4:12:4] for k in range(5)])
    seen = decode(model, encode(model, to_batch(frames)))
    Image.fromarray(np.concatenate([np.concatenate(list(x), 1) for x in (frames, seen)])).save(path)
    error = np.square(frames.astype(np.float32) - seen).mean((1, 2, 3))
    return float((10 * np.log10(255**2 / error)).mean())


def train(folder: Path, assets: Path, seed: int, steps: int) -> AutoencoderDC:
    """Fit and train (or load) the autoencoder; it lies in `folder`/vae afterwards."""
    done = folder / "vae"
    if (done / "config.json").exists():
        return AutoencoderDC.from_pretrained(done).eval()
    torch.manual_seed(seed)
    model, rng = make_autoencoder(), random.Random(f"fit {seed}")
    fit(model, np.stack([draw_still(assets, rng) for _ in range(FITTED)]))
    model.encoder.requires_grad_(False)
    print(f"autoencoder fitted: {sheet(model, assets, seed, folder / 'autoencoder.png'):.1f} dB")
    optimiser = torch.optim.AdamW(model.decoder.parameters(), PEAK_RATE, betas=(0.9, 0.95))
    checkpoint, start = folder / "autoencoder.pt", time.time()
    first = load_checkpoint(checkpoint, model=model, optimiser=optimiser)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 50, max(0.02, 1.6 * (1 - step / steps)))
        torch.manual_seed(seed * 1_000_003 + step)
        loss, pixel = _loss(model, _batch(assets, seed, step))
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
        optimiser.step()
        if step % 20 == 0:
            spent = time.time() - start
            print(f"autoencoder {step} {spent:.0f} s L1 {pixel.item():.4f}", flush=True)
        if (step + 1) % SAVE_EVERY == 0 and step + 1 < steps:
            save_checkpoint(checkpoint, step + 1, model=model, optimiser=optimiser)
            ratio = sheet(model, assets, seed, folder / "autoencoder.png")
            print(f"autoencoder {step + 1} PSNR {ratio:.1f} dB", flush=True)
    print(
        f"autoencoder PSNR {sheet(model.eval(), assets, seed, folder / 'autoencoder.png'):.1f} dB"
    )
    model.save_pretrained(done)
    return model
