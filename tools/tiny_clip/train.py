"""Train tiny_clip from nothing: `python -m tools.tiny_clip.train --folder … --seed 0`.

Fetches the sprites with npm, fits the autoencoder, trains the text encoder and the denoiser, which
draws its clips as it goes. Every stage starts from the seed, leaves its result in the folder and
is skipped when it is there, so the same command resumes, and to the same weights. `--stage` does
one stage alone, so that two can run side by side. `export.py` makes the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC, LatteTransformer3DModel
from PIL import Image
from transformers import T5EncoderModel

from tools.tiny_clip import train_autoencoder, train_denoiser, train_text
from tools.tiny_clip.clips import SIDE
from tools.tiny_clip.export import FOLDER, assemble
from tools.tiny_world.world import fetch_sprites

STAGES = ("autoencoder", "text", "denoiser")
STEPS = 4
"""Sampling steps, by default."""
SHEET = (
    ("rocket", "rises", "night"),
    ("cat", "moves right", "meadow"),
    ("elephant", "bounces", "beach"),
    ("dog", "spins", "space"),
    ("whale", "moves left", "ocean"),
    ("taxi", "moves right", "city"),
    ("penguin", "grows", "snow"),
    ("guitar", "swings", "desert"),
)


def sample_sheet(
    transformer: LatteTransformer3DModel, vae: AutoencoderDC, text: T5EncoderModel, path: Path
) -> None:
    """Save six frames of each of eight clips."""
    pipe, rows = assemble(transformer, vae, text), []
    for seed, (subject, motion, setting) in enumerate(SHEET):
        frames = pipe(
            f"a {subject} {motion} in the {setting}", num_inference_steps=STEPS,
            guidance_scale=1.0, generator=torch.Generator().manual_seed(seed),
            height=SIDE, width=SIDE, clean_caption=False,
        ).frames[0]  # fmt: skip
        rows.append(np.concatenate([np.asarray(frame) for frame in frames[::3]], 1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    """Run all stages, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--autoencoder-steps", type=int, default=0)
    parser.add_argument("--text-steps", type=int, default=1500)
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--stage", choices=STAGES, help="this one alone")
    asked = parser.parse_args()
    torch.set_num_threads(asked.threads)
    asked.folder.mkdir(parents=True, exist_ok=True)
    folder, seed, stages = asked.folder, asked.seed, (asked.stage,) if asked.stage else STAGES
    assets = fetch_sprites(folder)
    if "autoencoder" in stages:
        train_autoencoder.train(folder, assets, seed, asked.autoencoder_steps)
    if "text" in stages:
        train_text.train(folder, assets, seed, asked.text_steps)
    if "denoiser" in stages:
        vae = train_autoencoder.train(folder, assets, seed, asked.autoencoder_steps)
        text = train_text.train(folder, assets, seed, asked.text_steps)
        train_denoiser.train(
            folder, train_denoiser.load_data(assets, seed, vae, text), seed, asked.steps,
            lambda model, step: sample_sheet(model, vae, text, folder / f"sheet-{step}.png"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
