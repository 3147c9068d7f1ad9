"""Train the denoiser of tiny_clip: AnimateDiff's U-Net, motion modules and all, from nothing.

It learns from cached latents and a text encoder that stands still. Most steps see a few frames
of each clip: the motion modules are then given the places in time of those frames. The last
steps see whole clips. Every step draws from (seed, step) alone, as with the autoencoder.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNetMotionModel
from diffusers.models.attention_processor import AttnProcessor
from diffusers.models.embeddings import SinusoidalPositionalEmbedding
from torch import Tensor, nn
from transformers import CLIPTextModel

from tools.tiny_clip.clips import FRAMES, MOTIONS, clip_of, squares
from tools.tiny_clip.train_autoencoder import CHANNELS, PLACES
from tools.tiny_clip.train_text import WIDTH
from tools.tiny_clip.words import caption, said, tokenizer, tokens_of
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint

BATCH, SEEN = 8, 4
"""Clips of a batch, and frames of each."""
WHOLE_BATCH = 2
WHOLE_SHARE = 0.12
"""Clips of a batch of whole clips, and the share of the steps, the last ones, that see those."""
PEAK_RATE = 6e-4
DROP_TEXT = 0.08
SUBJECT_WEIGHT = 3.0
"""Factor by which a place inside the subject's square counts more."""
SAVE_EVERY, SHOW_EVERY = 50, 250
"""Steps between checkpoints, and between sheets of samples."""


def make_unet() -> UNetMotionModel:
    """The denoiser, untrained."""
    down, up = ("CrossAttnDownBlockMotion",) * 3, ("CrossAttnUpBlockMotion",) * 3
    return UNetMotionModel(
        sample_size=PLACES, in_channels=CHANNELS, out_channels=CHANNELS,
        block_out_channels=(64, 128, 112), down_block_types=down, up_block_types=up,
        layers_per_block=1, norm_num_groups=16, cross_attention_dim=WIDTH,
        num_attention_heads=4, motion_num_attention_heads=4, motion_max_seq_length=32,
        use_motion_mid_block=False,
    )  # fmt: skip


def make_scheduler() -> DDIMScheduler:
    """The noise schedule of training and sampling: v-prediction, zero terminal SNR."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085,
        beta_end=0.012, prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip


@contextmanager
def frames_at(unet: nn.Module, numbers: Tensor) -> Iterator[None]:
    """Within, the motion modules take a clip's frames for those of these numbers."""
    places = [m for m in unet.modules() if isinstance(m, SinusoidalPositionalEmbedding)]
    whole = [place.pe for place in places]
    for place, rows in zip(places, whole, strict=True):
        place.pe = rows[:, numbers]
    try:
        yield
    finally:
        for place, rows in zip(places, whole, strict=True):
            place.pe = rows


@dataclass(frozen=True, slots=True)
class Data:
    """The training set: latents, who speaks for them, and where the subjects are."""

    latents: np.ndarray
    seed: int
    text: CLIPTextModel
    masks: Tensor
    """By motion, (motions, FRAMES, PLACES, PLACES)."""


def load_data(latents: np.ndarray, seed: int, text: CLIPTextModel) -> Data:
    """The training set of these latents, drawn from this seed."""
    masks = np.stack([squares(motion, PLACES) for motion in MOTIONS])
    return Data(latents, seed, text.eval().requires_grad_(False), torch.from_numpy(masks))


def _times(count: int) -> Tensor:
    """Draw timesteps, more of them where the clip is still to be laid out."""
    dice, place = torch.rand(2, count)
    return torch.where(dice < 0.2, 999, (1000 * place**0.7).long().clamp(max=999))


def _words(data: Data, rng: random.Random, rows: list[int]) -> Tensor:
    """Draw what is said of the clips, as states of the text encoder (B, LENGTH, WIDTH)."""
    prompts = [
        "" if rng.random() < DROP_TEXT else caption(rng, clip_of(data.seed, row), said(rng))
        for row in rows
    ]
    with torch.no_grad():
        return data.text(input_ids=tokens_of(tokenizer(), prompts)).last_hidden_state


def loss_of(
    unet: UNetMotionModel, data: Data, scheduler: DDIMScheduler, rng: random.Random, *, whole: bool
) -> Tensor:
    """The weighted v-prediction loss of a random batch."""
    count = WHOLE_BATCH if whole else BATCH
    rows = [rng.randrange(len(data.latents)) for _ in range(count)]
    numbers = sorted(rng.sample(range(FRAMES), FRAMES if whole else SEEN))
    clean = np.stack([data.latents[row][numbers] for row in rows])
    x = torch.from_numpy(clean).float().transpose(1, 2)
    motions = [MOTIONS.index(clip_of(data.seed, row).motion) for row in rows]
    weight = 1 + SUBJECT_WEIGHT * data.masks[motions][:, numbers][:, None]
    states = _words(data, rng, rows).repeat_interleave(len(numbers), 0)
    noise, times = torch.randn_like(x), _times(count)
    noisy, target = scheduler.add_noise(x, noise, times), scheduler.get_velocity(x, noise, times)
    with frames_at(unet, torch.tensor(numbers)), torch.autocast("cpu", dtype=torch.bfloat16):
        velocity = unet(noisy, times, encoder_hidden_states=states).sample.float()
    return ((velocity - target).square() * weight).mean() / weight.mean()


def _rate(step: int, steps: int) -> float:
    """Learning-rate factor: a short warm-up, then flat, then down over the last 40 %."""
    return min(1, (step + 1) / 100) * max(0.01, min(1, 2.5 * (1 - step / steps)))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, step: int) -> None:
    keep = min(0.998, (1 + step) / (10 + step))
    for slow, fast in zip(ema.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def train(
    folder: Path, data: Data, seed: int, steps: int, sample: Callable[[UNetMotionModel, int], None]
) -> UNetMotionModel:
    """Train to `steps` and return the averaged weights; an interruption changes nothing."""
    torch.manual_seed(seed)
    unet = make_unet()
    # Fused attention is slow backwards in bfloat16 on a CPU.
    unet.set_attn_processor(AttnProcessor())
    ema = copy.deepcopy(unet)
    optimiser = torch.optim.AdamW(unet.parameters(), PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    checkpoint = folder / "denoiser.pt"
    step = load_checkpoint(checkpoint, model=unet, ema=ema, optimiser=optimiser)
    scheduler, start, running = make_scheduler(), time.time(), 0.0
    while step < steps:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * _rate(step, steps)
        torch.manual_seed(seed * 1_000_003 + step)
        rng = random.Random(f"denoiser {seed} {step}")
        loss = loss_of(unet, data, scheduler, rng, whole=step >= steps * (1 - WHOLE_SHARE))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(unet.parameters(), 1.0)
        optimiser.step()
        step += 1
        _average(ema, unet, step)
        running = 0.98 * running + 0.02 * loss.item() if running else loss.item()
        if step % 25 == 0:
            print(f"denoiser {step} {time.time() - start:.0f} s loss {running:.4f}", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            save_checkpoint(checkpoint, step, model=unet, ema=ema, optimiser=optimiser)
        if step % SHOW_EVERY == 0 or step == steps:
            sample(ema, step)
    return ema.eval()
