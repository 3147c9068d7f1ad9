"""Train the U-Net, the text encoder and the subjects' codes of tiny_world together."""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMScheduler, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from tools.tiny_world.captions import LENGTH, caption
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import SUBJECTS, pose_table, scene
from tools.tiny_world.world import SETTINGS, VIEWS, fetch_sprites, sprite
from workers.engines.tiny_world.layout import SUB, TinyWorldLayoutEncoder

BATCH = 32
PEAK_RATE = 6e-4
CODE_RATE = 2e-3
TEXT_DIM = 128
LATENT = 16
CODE_SIZE = 32
CAPTIONS_EACH = 4
DROP_ALL, DROP_TEXT = 0.08, 0.03
SUBJECT_WEIGHT = 3.0
"""Weight of a cell inside a subject's square."""
SAVE_EVERY, SHOW_EVERY = 100, 500
"""Steps between checkpoints, and between sheets of samples."""


class Denoiser(nn.Module):
    """The parts that learn together; `judge` only helps the text encoder and is not kept."""

    def __init__(self, words: int) -> None:
        super().__init__()
        self.layout = TinyWorldLayoutEncoder(SUBJECTS, views=VIEWS, view_dim=TEXT_DIM)
        assert self.layout.config.code_size == CODE_SIZE
        self.text = BertModel(
            BertConfig(
                vocab_size=words, hidden_size=TEXT_DIM, num_hidden_layers=2,
                num_attention_heads=4, intermediate_size=256, max_position_embeddings=LENGTH,
                type_vocab_size=1, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
                pad_token_id=0,
            )
        )  # fmt: skip
        self.unet = UNet2DConditionModel(
            sample_size=LATENT, in_channels=32 + self.layout.out_channels, out_channels=32,
            layers_per_block=1, block_out_channels=(112, 144, 176),
            down_block_types=("DownBlock2D",) * 3,
            up_block_types=("UpBlock2D",) * 3,
            cross_attention_dim=TEXT_DIM, attention_head_dim=8, norm_num_groups=16,
            class_embed_type="projection", projection_class_embeddings_input_dim=TEXT_DIM,
        ).to(memory_format=torch.channels_last)  # fmt: skip
        self.judge = nn.Linear(TEXT_DIM, len(SETTINGS))

    def embed(self, tokens: Tensor) -> Tensor:
        """Encode token ids (B, L); padding gives zeros, so a null caption is one <cls>."""
        mask = tokens != 0
        states = self.text(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return states * mask[..., None]


def make_scheduler() -> DDIMScheduler:
    """The noise schedule of training and sampling: v-prediction, zero terminal SNR."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085,
        beta_end=0.012, prediction_type="v_prediction", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip


def starting_codes(assets: Path) -> Tensor:
    """Start of the first four channels of every subject's code: a 32×32 thumbnail.

    Opacity as a logit-like value in -3..3, then colours times opacity in 0..2. The other
    channels start as noise, and all of them are trained.
    """
    codes = []
    for subject in SUBJECTS:
        small = sprite(assets, subject).resize((CODE_SIZE, CODE_SIZE), Image.Resampling.BOX)
        pixels = torch.from_numpy(np.asarray(small, np.float32) / 255).permute(2, 0, 1)
        opacity = pixels[3:]
        codes.append(torch.cat([6 * opacity - 3, 2 * pixels[:3] * opacity]))
    return torch.stack(codes)


@dataclass(frozen=True, slots=True)
class Data:
    """The training set as tensors."""

    latents: Tensor
    settings: Tensor
    views: Tensor
    subjects: Tensor
    poses: Tensor
    tokens: Tensor
    names_setting: Tensor


def load_data(folder: Path, latents: Tensor, seed: int, tokenizer: PreTrainedTokenizerFast) -> Data:
    """Latents with their scenes and a few captions each."""
    count = len(latents)
    path = folder / f"captions-{seed}-{count}.pt"
    if not path.exists():
        rng = random.Random(seed)
        texts, named = [], []
        for index in range(count):
            drawn = scene(seed, index)
            for _ in range(CAPTIONS_EACH):
                said = rng.random() >= 0.04
                named.append(said)
                subjects = [pose.subject for pose in drawn.poses if rng.random() < 0.9]
                texts.append(caption(rng, subjects, drawn.setting if said else None))
        encoded = tokenizer(
            texts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
        )
        tokens = encoded["input_ids"].view(count, CAPTIONS_EACH, LENGTH)
        torch.save((tokens, torch.tensor(named).view(count, CAPTIONS_EACH)), path)
    tokens, named_setting = torch.load(path, weights_only=True)
    return Data(latents, *pose_table(seed, count), tokens, named_setting)


def _times() -> Tensor:
    """Draw timesteps where a sampler of one to four steps goes: the start, and then above 250.

    Caption and layout say nearly all there is to a picture, so a few steps are enough.
    """
    dice, place = torch.rand(2, BATCH)
    middle = torch.where(dice < 0.9, 250 + 750 * place, 250 * place).long()
    return torch.where(dice < 0.4, 999, middle)


def _loss(model: Denoiser, data: Data, scheduler: DDIMScheduler) -> tuple[Tensor, Tensor]:
    """The weighted v-prediction loss of a random batch, and how often its setting is read."""
    rows = torch.randint(0, len(data.latents), (BATCH,))
    which = torch.randint(0, CAPTIONS_EACH, (BATCH,))
    clean = data.latents[rows].float()
    tokens = data.tokens[rows, which].clone()
    dice = torch.rand(BATCH)
    tokens[dice < DROP_ALL + DROP_TEXT, 1:] = 0
    noise, times = torch.randn_like(clean), _times()
    noisy = scheduler.add_noise(clean, noise, times)
    target = scheduler.get_velocity(clean, noise, times)
    numbers, poses = data.subjects[rows], data.poses[rows]
    embeds = model.embed(tokens)
    summary = embeds[:, 0] + model.layout.backdrops(data.views[rows])
    plan = model.layout(numbers, poses, summary, LATENT, LATENT)
    codes = model.layout.config.code_channels * SUB**2
    plan = torch.where((dice < DROP_ALL)[:, None, None, None], model.layout.anonymous(plan), plan)
    squares = plan[:, codes : codes + SUB**2].detach().mean(1, keepdim=True).clamp(max=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inputs = torch.cat([noisy, plan], 1).contiguous(memory_format=torch.channels_last)
        velocity = model.unet(inputs, times, embeds, class_labels=summary).sample.float()
    loss = ((velocity - target).square() * (1 + SUBJECT_WEIGHT * squares)).mean()
    told = data.names_setting[rows, which] & (dice >= DROP_ALL + DROP_TEXT)
    guess, truth = model.judge(embeds[:, 0])[told], data.settings[rows][told]
    right = (guess.argmax(1) == truth).float().mean().detach()
    return loss + 0.1 * functional.cross_entropy(guess, truth), right


def _rate(step: int, steps: int) -> float:
    """Learning-rate factor: a short warm-up, then flat, then down over the last 40 %."""
    return min(1, (step + 1) / 100) * max(0.01, min(1, 2.5 * (1 - step / steps)))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, step: int) -> None:
    keep = min(0.998, (1 + step) / (10 + step))
    for slow, fast in zip(ema.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def train(
    folder: Path,
    data: Data,
    seed: int,
    words: int,
    steps: int,
    sample: Callable[[Denoiser, int], None],
) -> Denoiser:
    """Train to `steps` and return the averaged weights.

    A checkpoint holds all that the next step depends on, the state of the random numbers
    included: a training that was interrupted ends with the weights of one that was not.
    """
    torch.manual_seed(seed)  # whatever the stages before drew
    model = Denoiser(words)
    model.layout.codes.data[:, :4] = starting_codes(fetch_sprites(folder))
    # Fused attention is slow backwards in bfloat16 on a CPU: 140 ms a layer, plain 45 ms.
    model.unet.set_attn_processor(AttnProcessor())
    ema = copy.deepcopy(model)
    codes = [model.layout.codes]
    rest = [p for name, p in model.named_parameters() if name != "layout.codes"]
    optimiser = torch.optim.AdamW(
        [{"params": rest, "peak": PEAK_RATE}, {"params": codes, "peak": CODE_RATE}],
        PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.0,
    )  # fmt: skip
    checkpoint = folder / "denoiser.pt"
    step = load_checkpoint(checkpoint, model=model, ema=ema, optimiser=optimiser)
    scheduler, start, running = make_scheduler(), time.time(), 0.0
    while step < steps:
        for group in optimiser.param_groups:
            group["lr"] = group["peak"] * _rate(step, steps)
        loss, right = _loss(model, data, scheduler)
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        step += 1
        _average(ema, model, step)
        running = 0.98 * running + 0.02 * loss.item() if running else loss.item()
        if step % 50 == 0:
            spent = time.time() - start
            print(f"denoiser {step} {spent:.0f} s loss {running:.4f} text {right:.2f}", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            save_checkpoint(checkpoint, step, model=model, ema=ema, optimiser=optimiser)
        if step % SHOW_EVERY == 0 or step == steps:
            sample(ema, step)
    return ema.eval()
