"""Train the text encoder of tiny_clip, a stock T5EncoderModel: words in, states out.

At the places before the words it must say what `states.py` wants: which setting, the subject's
pose at every frame, and its picture square by square; at the words themselves, nothing.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

from tools.tiny_clip.clips import MOTIONS, SETTING_NAMES, Clip
from tools.tiny_clip.states import PIXELS, WIDTH, States, looks, states
from tools.tiny_clip.words import (
    LOOK,
    LOOK_PLACES,
    PLACES,
    POSE_PLACES,
    SETTING_PLACE,
    caption,
    said,
    tokenizer,
    tokens_of,
)  # fmt: skip
from tools.tiny_world.captions import vocabulary, words_of
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import SUBJECTS

BATCH = 32
PEAK_RATE = 2e-3
SAVE_EVERY = 100
WEIGHTS = {"look": 4.0, "pose": 4.0, "setting": 1.0, "words": 0.2}
"""Weights of the errors at these places."""


def make_text_encoder(words: int) -> T5EncoderModel:
    """The text encoder, untrained."""
    return T5EncoderModel(
        T5Config(
            vocab_size=words, d_model=WIDTH, d_kv=32, d_ff=512, num_layers=2, num_heads=6,
            dropout_rate=0.0, feed_forward_proj="gated-gelu", pad_token_id=0, eos_token_id=0,
            use_cache=False,
        )
    )  # fmt: skip


@torch.no_grad()
def sort_words(text: T5EncoderModel, words: PreTrainedTokenizerFast) -> None:
    """Let words of one meaning start alike, and those of subjects, settings, motions related."""
    rows, ids = text.get_input_embeddings().weight, words.get_vocab()
    for group in vocabulary().values():
        kind = 1.5 * torch.randn(WIDTH)
        for entry in group.values():
            meaning = kind + torch.randn(WIDTH)
            for word in {word for phrase in entry["words"] for word in words_of(phrase)}:
                rows[ids[word]] = meaning + 0.2 * torch.randn(WIDTH)


def _batch(seed: int, step: int) -> tuple[list[str], Tensor, Tensor]:
    """Draw captions with the numbers of subject, setting, motion and which of them are told."""
    rng = random.Random(f"words {seed} {step}")
    prompts, numbers, told = [], [], []
    for _ in range(BATCH):
        clip = Clip(rng.choice(SUBJECTS), rng.choice(SETTING_NAMES), rng.choice(MOTIONS), 0)
        which = said(rng)
        prompts.append(caption(rng, clip, which))
        numbers.append(
            (
                SUBJECTS.index(clip.subject),
                SETTING_NAMES.index(clip.setting),
                MOTIONS.index(clip.motion),
            )
        )
        told.append(which)
    return prompts, torch.tensor(numbers), torch.tensor(told)


def _losses(
    text: T5EncoderModel, read: tuple[Tensor, Tensor], wanted: States, numbers: Tensor, told: Tensor
) -> dict[str, Tensor]:
    """Squared errors of the states, of what is told."""
    ids, mask = read
    found = text(input_ids=ids, attention_mask=mask).last_hidden_state
    subject, place, motion = told.unbind(1)
    words = found[:, len(PLACES) :][mask[:, len(PLACES) :] > 0]
    pairs = {
        "look": (found[:, LOOK_PLACES][subject], wanted.looks[numbers[subject, 0]]),
        "pose": (found[:, POSE_PLACES][motion], wanted.poses[numbers[motion, 2]]),
        "setting": (found[:, SETTING_PLACE][place], wanted.settings[numbers[place, 1]]),
        "words": (words, wanted.nothing.expand_as(words)),
    }
    return {name: (one - other).square().mean() for name, (one, other) in pairs.items()}


def sheet(text: T5EncoderModel, assets: Path, path: Path) -> None:
    """Save what the encoder says of the looks of eight subjects, below the truth."""
    ids, mask = tokens_of(tokenizer(), [f"a {name} in the sky" for name in SUBJECTS[::8]])
    wanted = states(assets).looks.flatten(0, 1)
    back = torch.linalg.lstsq(wanted, looks(assets).flatten(0, 1)).solution
    with torch.inference_mode():
        found = text(input_ids=ids, attention_mask=mask).last_hidden_state[:, LOOK_PLACES] @ back
    rows = []
    for look in (looks(assets)[::8], found):
        grid = look.reshape(-1, LOOK, LOOK, PIXELS, PIXELS, 4).permute(0, 1, 3, 2, 4, 5)
        tiles = grid.reshape(-1, LOOK * PIXELS, LOOK * PIXELS, 4)[..., :3]
        rows.append(torch.cat(list(tiles), 1))
    pixels = ((torch.cat(rows).clamp(-1, 1) + 1) * 127.5).byte().numpy()
    picture = Image.fromarray(np.ascontiguousarray(pixels))
    picture.resize((picture.width * 3, picture.height * 3), Image.Resampling.NEAREST).save(path)


def train(folder: Path, assets: Path, seed: int, steps: int) -> T5EncoderModel:
    """Train (or load) the text encoder; it lies in `folder`/text_encoder afterwards."""
    done = folder / "text_encoder"
    if (done / "config.json").exists():
        return T5EncoderModel.from_pretrained(done).eval()
    torch.manual_seed(seed)
    words, wanted = tokenizer(), states(assets)
    text = make_text_encoder(len(words))
    sort_words(text, words)
    optimiser = torch.optim.AdamW(text.parameters(), PEAK_RATE, betas=(0.9, 0.98))
    checkpoint, start = folder / "text.pt", time.time()
    first = load_checkpoint(checkpoint, text=text, optimiser=optimiser)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 100, max(0.01, 1.25 * (1 - step / steps)))
        prompts, numbers, told = _batch(seed, step)
        losses = _losses(text, tokens_of(words, prompts), wanted, numbers, told)
        optimiser.zero_grad()
        torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(text.parameters(), 1.0)
        optimiser.step()
        if step % 25 == 0:
            found = " ".join(f"{name} {loss:.4f}" for name, loss in losses.items())
            print(f"text {step} {time.time() - start:.0f} s {found}", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, text=text, optimiser=optimiser)
            sheet(text, assets, folder / "text.png")
    text.eval().save_pretrained(done)
    return text
