"""Make the model folder of tiny_world from a training checkpoint, in float16 safetensors."""

from __future__ import annotations

import argparse
import hashlib
import re
from pathlib import Path

import torch
from transformers import PreTrainedTokenizerFast

from tools.tiny_world.captions import make_tokenizer
from tools.tiny_world.train_denoiser import Denoiser, make_scheduler
from workers.engines.tiny_world import TinyWorldAutoencoder, TinyWorldPipeline

MODEL = Path(__file__).parents[2] / "models/tiny_world"


def assemble(
    denoiser: Denoiser, vae: TinyWorldAutoencoder, tokenizer: PreTrainedTokenizerFast
) -> TinyWorldPipeline:
    """Put the trained parts together."""
    return TinyWorldPipeline(
        vae=vae,
        text_encoder=denoiser.text.eval(),
        tokenizer=tokenizer,
        unet=denoiser.unet.eval(),
        layout_encoder=denoiser.layout.eval(),
        scheduler=make_scheduler(),
    )


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every weight file below the folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }


def write_digests(folder: Path) -> None:
    """Replace the [digests] table of the folder's card."""
    card = folder / "card.toml"
    rows = "".join(f'"{name}" = "{value}"\n' for name, value in digests(folder).items())
    text = re.sub(r"\[digests\]\n(?:[^\[\n].*\n)*", "[digests]\n" + rows, card.read_text("utf-8"))
    card.write_text(text, "utf-8")


def main() -> None:
    """Export the averaged weights of a training folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="where train.py worked")
    parser.add_argument("--model", type=Path, default=MODEL)
    asked = parser.parse_args()
    tokenizer = make_tokenizer()
    denoiser = Denoiser(len(tokenizer))
    state = torch.load(asked.folder / "denoiser.pt", weights_only=True)
    denoiser.load_state_dict(state["ema"])
    vae = TinyWorldAutoencoder.from_pretrained(asked.folder / "vae")
    pipe = assemble(denoiser, vae, tokenizer).to(torch.float16)
    pipe.save_pretrained(asked.model, safe_serialization=True)
    if (asked.model / "card.toml").exists():
        write_digests(asked.model)
    size = sum(path.stat().st_size for path in asked.model.rglob("*.safetensors"))
    print(f"step {state['step']}: {size / 1e6:.1f} MB of weights in {asked.model}")


if __name__ == "__main__":
    main()
