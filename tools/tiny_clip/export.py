"""Make the model folder of tiny_clip from a training folder, in stock classes."""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from diffusers import AutoencoderDC, LattePipeline, LatteTransformer3DModel
from transformers import T5EncoderModel

from tools.tiny_clip.train_denoiser import make_scheduler, make_transformer
from tools.tiny_clip.words import tokenizer

FOLDER = Path("build/tiny_clip")
"""Folder in which the training works unless told otherwise."""
MODEL = Path(__file__).parents[2] / "models/tiny_clip"


def assemble(
    transformer: LatteTransformer3DModel, vae: AutoencoderDC, text_encoder: T5EncoderModel
) -> LattePipeline:
    """Put the trained parts together."""
    pipe = LattePipeline(
        vae=vae, text_encoder=text_encoder, tokenizer=tokenizer(), transformer=transformer,
        scheduler=make_scheduler(),
    )  # fmt: skip
    pipe.set_progress_bar_config(disable=True)
    return pipe


def load_parts(
    folder: Path,
) -> tuple[LatteTransformer3DModel, AutoencoderDC, T5EncoderModel, int]:
    """The averaged denoiser, autoencoder and text encoder of a training folder, and the steps."""
    transformer = make_transformer()
    state = torch.load(folder / "denoiser.pt", weights_only=True)
    transformer.load_state_dict(state["ema"])
    vae = AutoencoderDC.from_pretrained(folder / "vae")
    text = T5EncoderModel.from_pretrained(folder / "text_encoder")
    return transformer.eval(), vae.eval(), text.eval(), state["step"]


def main() -> None:
    """Export the averaged weights of a training folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, default=FOLDER, help="where train.py worked")
    parser.add_argument("--model", type=Path, default=MODEL)
    asked = parser.parse_args()
    *parts, step = load_parts(asked.folder)
    pipe = assemble(*parts).to(torch.float16)
    pipe.text_encoder.float()  # transformers loads what it finds; diffusers, unless told, float32
    pipe.save_pretrained(asked.model, safe_serialization=True)
    for path in asked.model.rglob("*.safetensors"):
        path.chmod(0o644)
    size = sum(path.stat().st_size for path in asked.model.rglob("*.safetensors"))
    print(f"step {step}: {size / 1e6:.1f} MB of weights in {asked.model}")


if __name__ == "__main__":
    main()
