"""Train tiny_world from nothing: `python -m tools.tiny_world.train --folder … --seed 0`.

Fetches the sprites with npm, draws the pictures, trains the autoencoder, then the U-Net
with text encoder and subject codes. Every stage starts from the seed, leaves its result in
the folder and is skipped when it is there, so the same command resumes, and to the same weights.
`export.py` makes the model folder.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from tools.tiny_world import train_autoencoder, train_denoiser
from tools.tiny_world.captions import make_tokenizer
from tools.tiny_world.dataset import pictures
from tools.tiny_world.export import assemble
from tools.tiny_world.world import path_pose
from workers.engines.tiny_world import TinyWorldAutoencoder

SHEET = (
    ("rocket", "rises", "night"),
    ("cat", "moves_right", "meadow"),
    ("elephant", "bounces", "beach"),
    ("dog", "spins", "space"),
    ("whale", "moves_left", "ocean"),
    ("car", "moves_right", "city"),
    ("penguin", "grows", "snow"),
    ("guitar", "swings", "desert"),
)


def sample_sheet(denoiser: train_denoiser.Denoiser, vae: TinyWorldAutoencoder, path: Path) -> None:
    """Save eight shots of six frames each."""
    pipe = assemble(denoiser, vae, make_tokenizer())
    pipe.set_progress_bar_config(disable=True)
    rows = []
    for seed, (subject, motion, setting) in enumerate(SHEET):
        noise = pipe.prepare_latents(1, 256, 256, torch.Generator().manual_seed(seed))
        poses = [path_pose(subject, motion, phase) for phase in np.linspace(0.05, 0.95, 6)]
        frames = pipe(
            prompt=[f"a {subject} in the {setting}"] * 6,
            layout=[[pose] for pose in poses],
            latents=noise.repeat(6, 1, 1, 1), num_inference_steps=3, output_type="pil",
        ).images  # fmt: skip
        rows.append(np.concatenate([np.asarray(frame) for frame in frames], 1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    """Run all stages."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--pictures", type=int, default=20_000)
    parser.add_argument("--scenes", type=int, default=14_000, help="of them, for the denoiser")
    parser.add_argument("--autoencoder-steps", type=int, default=1660)
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--threads", type=int, default=2)
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    store = pictures(asked.folder, asked.seed, asked.pictures)
    vae = train_autoencoder.train(asked.folder, store, asked.seed, asked.autoencoder_steps)
    latents = train_autoencoder.latents(asked.folder, vae, store[: asked.scenes])
    tokenizer = make_tokenizer()
    data = train_denoiser.load_data(asked.folder, latents, asked.seed, tokenizer)
    train_denoiser.train(
        asked.folder,
        data,
        asked.seed,
        len(tokenizer),
        asked.steps,
        lambda model, step: sample_sheet(model, vae, asked.folder / f"sheet-{step}.png"),
    )


if __name__ == "__main__":
    main()
