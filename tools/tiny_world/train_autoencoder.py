"""Train the autoencoder of tiny_world and turn the training pictures into latents."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import as_batch, pose_table, to_batch
from workers.engines.tiny_world.autoencoder import TinyWorldAutoencoder

BATCH = 24
CROP = 128
"""Most steps see crops around subjects, where all the detail is; the last see whole pictures."""
WHOLE_STEPS, WHOLE_BATCH = 60, 12
PEAK_RATE = 1.5e-3
SAVE_EVERY = 300


def _crops(store: np.ndarray, subjects: Tensor, poses: Tensor) -> Tensor:
    """A batch of random crops, three in four around the picture's first subject."""
    rows = torch.randint(0, len(store), (BATCH,))
    corners = torch.randint(0, store.shape[1] - CROP + 1, (BATCH, 2))
    near = (poses[rows, 0, :2] * store.shape[1] - CROP / 2 + 24 * torch.randn(BATCH, 2)).long()
    use = (subjects[rows, 0] >= 0) & (torch.rand(BATCH) < 0.75)
    corners = torch.where(use[:, None], near.clamp(0, store.shape[1] - CROP), corners)
    cut = [
        store[int(r), int(y) : int(y) + CROP, int(x) : int(x) + CROP]
        for r, (x, y) in zip(rows, corners, strict=True)
    ]
    return to_batch(np.stack(cut))


def _gradients(x: Tensor) -> tuple[Tensor, Tensor]:
    return x[..., 1:] - x[..., :-1], x[..., 1:, :] - x[..., :-1, :]


def _loss(model: TinyWorldAutoencoder, x: Tensor) -> tuple[Tensor, Tensor]:
    """L1 on pixels and on their differences; returns the loss and the pixel L1."""
    with torch.autocast("cpu", dtype=torch.bfloat16):
        latents = model.encoder(x)
        noise = torch.rand(len(x), 1, 1, 1) * 0.2
        decoded = model.decoder(latents + noise * torch.randn_like(latents)).float()
    pixel = (decoded - x).abs().mean()
    edges = sum(
        (a - b).abs().mean() for a, b in zip(_gradients(decoded), _gradients(x), strict=True)
    )
    return pixel + 0.5 * edges + 1e-3 * latents.float().square().mean(), pixel


def _normalise(model: TinyWorldAutoencoder, store: np.ndarray) -> None:
    """Set the buffers so that latents have mean 0 and deviation 1 in every channel."""
    with torch.inference_mode():
        latents = torch.cat(
            [
                model.encoder(as_batch(store, torch.arange(k, min(k + 32, len(store)))))
                for k in range(0, min(1024, len(store)), 32)
            ]
        )
    model.mean.copy_(latents.mean((0, 2, 3), keepdim=True))
    model.deviation.copy_(latents.std((0, 2, 3), keepdim=True))


def sheet(model: TinyWorldAutoencoder, store: np.ndarray, path: Path) -> None:
    """Save 8 pictures above what the autoencoder makes of them."""
    x = as_batch(store, torch.arange(8))
    with torch.inference_mode():
        y = model(x).clamp(-1, 1)
    rows = torch.cat([torch.cat(list(x), 2), torch.cat(list(y), 2)], 1)
    Image.fromarray(((rows + 1) * 127.5).byte().permute(1, 2, 0).numpy()).save(path)


def train(folder: Path, store: np.ndarray, seed: int, steps: int) -> TinyWorldAutoencoder:
    """Train (or load) the autoencoder; it lies in `folder`/vae afterwards.

    As with the denoiser, an interrupted training ends with the weights of an uninterrupted one.
    """
    done = folder / "vae"
    if (done / "config.json").exists():
        return TinyWorldAutoencoder.from_pretrained(done).eval()
    torch.manual_seed(seed)
    model = TinyWorldAutoencoder().to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.95))
    _, _, subjects, poses = pose_table(seed, len(store))
    checkpoint, start = folder / "autoencoder.pt", time.time()
    first = load_checkpoint(checkpoint, model=model, optimiser=optimiser)
    for step in range(first, steps):
        rate = PEAK_RATE * min(1, (step + 1) / 50) * max(0.02, min(1, 1.3 * (1 - step / steps)))
        for group in optimiser.param_groups:
            group["lr"] = rate
        if step < steps - WHOLE_STEPS:
            batch = _crops(store, subjects, poses)
        else:
            batch = as_batch(store, torch.randint(0, len(store), (WHOLE_BATCH,)))
        loss, pixel = _loss(model, batch)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            print(
                f"autoencoder {step} {time.time() - start:.0f} s L1 {pixel.item():.4f}", flush=True
            )
        if (step + 1) % SAVE_EVERY == 0:
            save_checkpoint(checkpoint, step + 1, model=model, optimiser=optimiser)
            sheet(model, store, folder / f"autoencoder-{step + 1}.png")
    _normalise(model.eval(), store)
    sheet(model, store, folder / "autoencoder.png")
    model.save_pretrained(done)
    return model


def latents(folder: Path, model: TinyWorldAutoencoder, store: np.ndarray) -> Tensor:
    """The training pictures as normalised latents, float16 (N, 32, 16, 16)."""
    path = folder / f"latents-{len(store)}.pt"
    if not path.exists():
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
            parts = [
                model.encode(as_batch(store, torch.arange(k, min(k + 64, len(store))))).half()
                for k in range(0, len(store), 64)
            ]
        torch.save(torch.cat(parts), path)
    return torch.load(path, weights_only=True)
