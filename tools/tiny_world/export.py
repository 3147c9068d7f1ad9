"""Make the model folder of tiny_world from a training checkpoint, in float16 safetensors."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Mapping
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


def write_table(folder: Path, name: str, rows: Mapping[str, str | float]) -> None:
    """Replace a table of plain values in the folder's card."""
    card = folder / "card.toml"
    lines = "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in rows.items())
    table = re.compile(rf"\[{name}\]\n(?:[^\[\n].*\n)*")
    card.write_text(table.sub(f"[{name}]\n{lines}", card.read_text("utf-8")), "utf-8")


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
    for path in asked.model.rglob("*.safetensors"):
        path.chmod(0o644)
    if (asked.model / "card.toml").exists():
        write_table(asked.model, "digests", digests(asked.model))
    size = sum(path.stat().st_size for path in asked.model.rglob("*.safetensors"))
    print(f"step {state['step']}: {size / 1e6:.1f} MB of weights in {asked.model}")


if __name__ == "__main__":
    main()
