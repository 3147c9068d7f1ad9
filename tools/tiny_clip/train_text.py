"""Train the text encoder of tiny_clip to imagine: words in, setting, poses and looks out.

The encoder is a stock CLIPTextModel. Linear heads, which are thrown away afterwards, must find
the setting, the subject's pose at every frame and the subject's picture, square by square, in
the states at their places. The U-Net then learns from states that say what to paint and where.
"""

from __future__ import annotations

import random
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTextConfig, CLIPTextModel

from tools.tiny_clip.clips import MOTIONS, SETTING_NAMES, Clip, poses_of
from tools.tiny_clip.words import (
    LENGTH,
    LOOK,
    LOOK_PLACES,
    POSE_PLACES,
    SETTING_PLACE,
    caption,
    said,
    tokenizer,
    tokens_of,
)  # fmt: skip
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import SUBJECTS
from tools.tiny_world.world import sprite

WIDTH = 192
BATCH = 48
PEAK_RATE = 2e-3
SAVE_EVERY = 200
PIXELS = 6
"""Pixels a side of one square of the looks."""


def make_text_encoder(words: int) -> CLIPTextModel:
    """The text encoder, untrained."""
    return CLIPTextModel(
        CLIPTextConfig(
            vocab_size=words, hidden_size=WIDTH, intermediate_size=640, num_hidden_layers=3,
            num_attention_heads=6, max_position_embeddings=LENGTH, projection_dim=WIDTH,
            pad_token_id=0, bos_token_id=2, eos_token_id=0, attention_dropout=0.0,
        )
    )  # fmt: skip


def looks(assets: Path) -> Tensor:
    """Every subject's picture as squares, (subjects, LOOK², 4·PIXELS²), -1..1, premultiplied."""
    side = LOOK * PIXELS
    rows = []
    for name in SUBJECTS:
        small = sprite(assets, name).resize((side, side), Image.Resampling.BOX)
        pixels = np.asarray(small, np.float32) / 255
        pixels[..., :3] = (pixels[..., :3] * 2 - 1) * pixels[..., 3:]
        pixels[..., 3] = pixels[..., 3] * 2 - 1
        cut = pixels.reshape(LOOK, PIXELS, LOOK, PIXELS, 4).transpose(0, 2, 1, 3, 4)
        rows.append(cut.reshape(LOOK * LOOK, -1))
    return torch.from_numpy(np.stack(rows))


def pose_features() -> Tensor:
    """Every motion's poses as features, (motions, FRAMES, 29): places in waves, size, turn."""
    poses = torch.from_numpy(np.stack([poses_of(motion) for motion in MOTIONS]))
    x, y, scale, turn = poses.unbind(-1)
    angle = turn * torch.pi / 180
    columns = [2 * x - 1, 2 * y - 1, 2 * scale.log(), angle.cos(), angle.sin()]
    for place in (x, y):
        for wave in (0.5, 1, 2, 3, 4, 6):
            columns += [(torch.pi * wave * place).sin(), (torch.pi * wave * place).cos()]
    return torch.stack(columns, -1)


class Imagination(nn.Module):
    """The text encoder and the heads that question it."""

    def __init__(self, words: int, features: int) -> None:
        super().__init__()
        self.text = make_text_encoder(words)
        self.setting = nn.Linear(WIDTH, len(SETTING_NAMES))
        self.pose = nn.Linear(WIDTH, features)
        self.look = nn.Linear(WIDTH, 4 * PIXELS**2)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Setting logits, pose features and looks of prompts (B, LENGTH)."""
        states = self.text(input_ids=tokens).last_hidden_state
        return (
            self.setting(states[:, SETTING_PLACE]),
            self.pose(states[:, POSE_PLACES]),
            self.look(states[:, LOOK_PLACES]),
        )


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
    model: Imagination, tokens: Tensor, numbers: Tensor, told: Tensor, targets: list[Tensor]
) -> list[Tensor]:
    """Squared errors of looks and poses, and the cross-entropy of the setting, of what is told."""
    setting, pose, look = model(tokens)
    subject, place, motion = told.unbind(1)
    return [
        functional.mse_loss(look[subject].float(), targets[0][numbers[subject, 0]]),
        functional.mse_loss(pose[motion].float(), targets[1][numbers[motion, 2]]),
        functional.cross_entropy(setting[place].float(), numbers[place, 1]),
    ]


def sheet(model: Imagination, path: Path) -> None:
    """Save what the encoder imagines of eight subjects."""
    prompts = [f"a {name} in the sky" for name in SUBJECTS[:64:8]]
    with torch.inference_mode():
        look = model(tokens_of(tokenizer(), prompts))[2]
    grid = look.reshape(-1, LOOK, LOOK, PIXELS, PIXELS, 4).permute(0, 1, 3, 2, 4, 5)
    tiles = grid.reshape(-1, LOOK * PIXELS, LOOK * PIXELS, 4)[..., :3]
    row = torch.cat(list(tiles), 1).clamp(-1, 1)
    picture = Image.fromarray(((row + 1) * 127.5).byte().numpy())
    picture.resize((picture.width * 3, picture.height * 3), Image.Resampling.NEAREST).save(path)


def train(folder: Path, assets: Path, seed: int, steps: int) -> CLIPTextModel:
    """Train (or load) the text encoder; it lies in `folder`/text_encoder afterwards."""
    done = folder / "text_encoder"
    if (done / "config.json").exists():
        return CLIPTextModel.from_pretrained(done).eval()
    torch.manual_seed(seed)
    words, targets = tokenizer(), [looks(assets), pose_features()]
    model = Imagination(len(words), targets[1].shape[-1])
    optimiser = torch.optim.AdamW(model.parameters(), PEAK_RATE, betas=(0.9, 0.98))
    checkpoint, start = folder / "text.pt", time.time()
    first = load_checkpoint(checkpoint, model=model, optimiser=optimiser)
    for step in range(first, steps):
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * min(1, (step + 1) / 100, max(0.01, 1.25 * (1 - step / steps)))
        prompts, numbers, told = _batch(seed, step)
        look, pose, setting = _losses(model, tokens_of(words, prompts), numbers, told, targets)
        optimiser.zero_grad()
        (4 * look + 4 * pose + 0.2 * setting).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        if step % 50 == 0:
            found = f"look {look:.4f} pose {pose:.4f} setting {setting:.4f}"
            print(f"text {step} {time.time() - start:.0f} s {found}", flush=True)
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == steps:
            save_checkpoint(checkpoint, step + 1, model=model, optimiser=optimiser)
            sheet(model, folder / "text.png")
    model.text.eval().save_pretrained(done)
    return model.text
