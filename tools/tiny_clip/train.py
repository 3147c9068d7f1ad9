"""Train tiny_clip from nothing: `python -m tools.tiny_clip.train --folder … --seed 0`.

Fetches the sprites with npm, trains the autoencoder and the text encoder, turns the drawn clips
into latents and trains the denoiser. Every stage starts from the seed, leaves its result in the
folder and is skipped when it is there, so the same command resumes, and to the same weights.
`--stage` does one stage alone, so that two can run side by side. `export.py` makes the model.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC, UNetMotionModel
from PIL import Image
from transformers import CLIPTextModel

from tools.tiny_clip import train_autoencoder, train_denoiser, train_text
from tools.tiny_clip.export import FOLDER, assemble
from tools.tiny_world.world import fetch_sprites

STAGES = ("autoencoder", "text", "latents", "denoiser")
STEPS = 8
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
    unet: UNetMotionModel, vae: AutoencoderDC, text: CLIPTextModel, path: Path
) -> None:
    """Save six frames of each of eight clips."""
    pipe, rows = assemble(unet, vae, text), []
    for seed, (subject, motion, setting) in enumerate(SHEET):
        frames = pipe(
            f"a {subject} {motion} in the {setting}", num_inference_steps=STEPS,
            guidance_scale=1.0, generator=torch.Generator().manual_seed(seed),
        ).frames[0]  # fmt: skip
        rows.append(np.concatenate([np.asarray(frame) for frame in frames[::3]], 1))
    Image.fromarray(np.concatenate(rows)).save(path)


def main() -> None:
    """Run all stages, or one."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--clips", type=int, default=1600)
    parser.add_argument("--autoencoder-steps", type=int, default=1000)
    parser.add_argument("--text-steps", type=int, default=900)
    parser.add_argument("--steps", type=int, default=1800)
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
    if {"latents", "denoiser"} & set(stages):
        vae = train_autoencoder.train(folder, assets, seed, asked.autoencoder_steps)
        store = train_autoencoder.latents(folder, vae, assets, seed, asked.clips)
    if "denoiser" in stages:
        text = train_text.train(folder, assets, seed, asked.text_steps)
        data = train_denoiser.load_data(store, seed, text)
        train_denoiser.train(
            folder, data, seed, asked.steps,
            lambda unet, step: sample_sheet(unet, vae, text, folder / f"sheet-{step}.png"),
        )  # fmt: skip


if __name__ == "__main__":
    main()
