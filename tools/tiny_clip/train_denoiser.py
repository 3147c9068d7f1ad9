"""Train the denoiser of tiny_clip: Latte's transformer, space and time in turn, from nothing.

It draws its clips as it goes, and is told what they show by the states that the text encoder
learns to find (`states.py`), slightly shaken. Most steps see a few frames of each clip: the
transformer is then given the places in time of those frames. The last steps see whole clips, and
read captions with the trained text encoder. Every step draws from (seed, step) alone.

What a prompt says fixes nearly all of a clip, so it predicts the clip itself (not its noise),
most often from nothing but noise. Linear heads, which are thrown away afterwards, ask halfway:
where each place of a frame lies on the subject, and what it will look like.
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
from diffusers import AutoencoderDC, DDIMScheduler, LatteTransformer3DModel
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from torch.nn import functional
from transformers import T5EncoderModel

from tools.tiny_clip.clips import FRAMES, MOTIONS, Clip, clip_of, draw_clip, squares
from tools.tiny_clip.states import WIDTH, States, own_axes, pose_features, states, waves
from tools.tiny_clip.train_autoencoder import CHANNELS, PLACES, encode
from tools.tiny_clip.words import caption, said, tokenizer, tokens_of
from tools.tiny_world.checkpoint import load_checkpoint, save_checkpoint
from tools.tiny_world.dataset import to_batch

BATCH, SEEN = 12, 4
"""Clips of a batch, and frames of each."""
WHOLE_BATCH = 3
WHOLE_SHARE = 0.12
"""Clips of a batch of whole clips, and the share of the steps, the last ones, that see those."""
READING_SHARE = 0.3
"""The share of the steps, the last ones, that read captions."""
SHAKEN, WORDS = 0.05, 12
"""Noise on the states, and how many words there are at most, before."""
PEAK_RATE = 1e-3
DROP_TEXT = 0.03
PURE = 0.5
"""Share of the clips that are pure noise, as sampling begins."""
SUBJECT_WEIGHT = 3.0
"""Factor by which a place inside the subject's square counts more."""
SAVE_EVERY, SHOW_EVERY = 25, 100
"""Steps between checkpoints, and between sheets of samples."""
PATCH = 2
CELLS = PLACES // PATCH
LAYERS, HEADS = 5, 8
READS, KNOWS, SKETCHES = 1, 1, 3
"""Layers: the one whose spatial block must have read the frame's pose, the one whose temporal
block must know each cell's place on the subject, and the one whose must know its looks."""


def make_transformer(layers: int = LAYERS) -> LatteTransformer3DModel:
    """The denoiser, untrained; its gates stand open from the start.

    Half of its output channels go unused: LattePipeline takes them for a learned variance.
    """
    model = LatteTransformer3DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=CHANNELS,
        out_channels=2 * CHANNELS, num_layers=layers, cross_attention_dim=WIDTH,
        attention_bias=True, sample_size=PLACES, patch_size=PATCH,
        activation_fn="gelu-approximate", norm_type="ada_norm_single",
        norm_elementwise_affine=False, norm_eps=1e-6, caption_channels=WIDTH, video_length=FRAMES,
    )  # fmt: skip
    nn.init.normal_(model.adaln_single.linear.weight, std=0.01)
    nn.init.zeros_(model.adaln_single.linear.bias)
    for block in (*model.transformer_blocks, *model.temporal_transformer_blocks):
        nn.init.zeros_(block.scale_shift_table)
        block.scale_shift_table.data[2::3] = 1.0
    return model


def make_scheduler() -> DDIMScheduler:
    """The noise schedule of training and sampling: clip prediction, zero terminal SNR."""
    return DDIMScheduler(
        num_train_timesteps=1000, beta_schedule="scaled_linear", beta_start=0.00085,
        beta_end=0.012, prediction_type="sample", rescale_betas_zero_snr=True,
        timestep_spacing="trailing", clip_sample=False,
    )  # fmt: skip


@contextmanager
def frames_at(model: LatteTransformer3DModel, numbers: list[int]) -> Iterator[None]:
    """Within, the transformer takes a clip's frames for those of these numbers."""
    whole = model.temp_pos_embed
    model.temp_pos_embed = whole[:, numbers]
    try:
        yield
    finally:
        model.temp_pos_embed = whole


def cell_features() -> tuple[Tensor, Tensor]:
    """Where each cell lies on the subject, (motions, FRAMES, cells, 15), and where that counts.

    The features are the share of the subject's square that a cell is near, and its place in the
    subject's own directions, in waves; these count only near the square (…, 1).
    """
    middle = (torch.arange(CELLS) + 0.5) / CELLS
    down, across = (part.flatten() for part in torch.meshgrid(middle, middle, indexing="ij"))
    a, b, c, d = (part[..., None] for part in own_axes().unbind(-1))
    u, v = a * across + b * down + c, a * down - b * across + d
    far = torch.maximum(u.abs(), v.abs())
    inside = (3 - 2 * far).clamp(0, 1)
    columns = [inside]
    for place in (u, v):
        columns += [place, *waves(place, 0.5, 1, 2)]
    return torch.stack(columns, -1), (far < 1.6).float()[..., None]


class Heads(nn.Module):
    """Linear questions to the transformer's states; they are not part of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.pose = nn.Linear(WIDTH, pose_features().shape[-1])
        self.cell = nn.Linear(WIDTH, 15)
        self.sketch = nn.Linear(WIDTH, CHANNELS * PATCH**2)


@dataclass(frozen=True, slots=True)
class Data:
    """What draws, encodes and speaks for the clips, and where their subjects are."""

    assets: Path
    seed: int
    vae: AutoencoderDC
    text: T5EncoderModel | None
    """None: only steps that read no captions can be done."""
    states: States
    masks: Tensor
    """By motion, (motions, FRAMES, PLACES, PLACES)."""
    poses: Tensor
    cells: Tensor
    near: Tensor


def load_data(assets: Path, seed: int, vae: AutoencoderDC, text: T5EncoderModel | None) -> Data:
    """The training set drawn from this seed."""
    masks = torch.from_numpy(np.stack([squares(motion, PLACES) for motion in MOTIONS]))
    if text is not None:
        text.eval().requires_grad_(False)
    return Data(assets, seed, vae, text, states(assets), masks, pose_features(), *cell_features())


def _times(count: int) -> Tensor:
    """Draw timesteps: pure noise for PURE of them, any for the others."""
    dice, place = torch.rand(2, count)
    return torch.where(dice < PURE, 999, (1000 * place).long().clamp(max=999))


def told(data: Data, rng: random.Random, clips: list[Clip]) -> Tensor:
    """What is said of the clips, as shaken states, (B, places, WIDTH), with words behind."""
    places = torch.stack([data.states.of(clip) for clip in clips])
    behind = data.states.nothing.expand(len(clips), rng.randint(1, WORDS), -1)
    found = torch.cat([places, behind], 1)
    return found + SHAKEN * torch.randn_like(found)


@torch.no_grad()
def read(text: T5EncoderModel, rng: random.Random, clips: list[Clip]) -> Tensor:
    """What the text encoder makes of captions of the clips, (B, longest, WIDTH).

    States behind the words are zero, as the pipeline makes them for several prompts.
    """
    prompts = ["" if rng.random() < DROP_TEXT else caption(rng, c, said(rng)) for c in clips]
    ids, mask = tokens_of(tokenizer(), prompts)
    return text(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]


def loss_of(
    model: LatteTransformer3DModel,
    heads: Heads,
    data: Data,
    scheduler: DDIMScheduler,
    step: int,
    *,
    whole: bool,
    reading: bool,
) -> dict[str, Tensor]:
    """The losses of a random batch: of the clip, and of what the heads are asked."""
    rng = random.Random(f"denoiser {data.seed} {step}")
    count = WHOLE_BATCH if whole else BATCH
    clips = [clip_of(data.seed, BATCH * step + k) for k in range(count)]
    numbers = sorted(rng.sample(range(FRAMES), FRAMES if whole else SEEN))
    drawn = np.concatenate([draw_clip(data.assets, clip, numbers) for clip in clips])
    clean = encode(data.vae, to_batch(drawn)).clone().unflatten(0, (count, -1)).transpose(1, 2)
    prompts = told(data, rng, clips)
    if reading:
        assert data.text is not None
        prompts = read(data.text, rng, clips)
    noise, times = torch.randn_like(clean), _times(count)
    noisy = scheduler.add_noise(clean, noise, times)
    motions = [MOTIONS.index(clip.motion) for clip in clips]
    kept: dict[str, Tensor] = {}
    hooks = [
        block.register_forward_hook(lambda _, __, out, name=name: kept.update({name: out}))
        for name, block in (
            ("pose", model.transformer_blocks[READS]),
            ("cell", model.temporal_transformer_blocks[KNOWS]),
            ("sketch", model.temporal_transformer_blocks[SKETCHES]),
        )
    ]
    with frames_at(model, numbers), torch.autocast("cpu", dtype=torch.bfloat16):
        found = model(noisy, timestep=times, encoder_hidden_states=prompts).sample
    for hook in hooks:
        hook.remove()
    weight = 1 + SUBJECT_WEIGHT * data.masks[motions][:, numbers][:, None]
    scale = weight.mean()
    asked = _asked(heads, kept, count)
    near = data.near[motions][:, numbers]
    sketch = functional.pixel_unshuffle(clean.transpose(1, 2), PATCH).flatten(3).transpose(2, 3)
    rough = functional.avg_pool2d(weight[:, 0], PATCH).flatten(2)[..., None]
    off = (asked["cell"] - data.cells[motions][:, numbers]).square()
    return {
        "clip": ((found[:, :CHANNELS].float() - clean).square() * weight).mean() / scale,
        "sketch": ((asked["sketch"] - sketch).square() * rough).mean() / scale,
        "cell": off[..., 0].mean() + (off[..., 1:] * near).mean() / near.mean(),
        "pose": (asked["pose"] - data.poses[motions][:, numbers][:, :, None]).square().mean(),
    }


def _asked(heads: Heads, kept: dict[str, Tensor], count: int) -> dict[str, Tensor]:
    """The heads' answers, each (clips, frames, cells, …)."""
    pose = heads.pose(_plain(kept["pose"])).unflatten(0, (count, -1))
    later = {
        name: head(_plain(kept[name])).unflatten(0, (count, -1)).transpose(1, 2)
        for name, head in (("cell", heads.cell), ("sketch", heads.sketch))
    }
    return {"pose": pose, **later}


def _plain(states: Tensor) -> Tensor:
    return functional.layer_norm(states.float(), states.shape[-1:])


WEIGHTS = {"clip": 1.0, "sketch": 0.5, "cell": 0.3, "pose": 0.3}
"""What each loss counts."""


def _rate(step: int, steps: int) -> float:
    """Learning-rate factor: a short warm-up, then flat, then down over the last 40 %."""
    return min(1, (step + 1) / 100) * max(0.01, min(1, 2.5 * (1 - step / steps)))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, step: int) -> None:
    keep = min(0.995, (1 + step) / (10 + step))
    for slow, fast in zip(ema.parameters(), model.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def train(
    folder: Path,
    data: Data,
    seed: int,
    steps: int,
    sample: Callable[[LatteTransformer3DModel, int], None],
) -> LatteTransformer3DModel:
    """Train to `steps` and return the averaged weights; an interruption changes nothing."""
    torch.manual_seed(seed)
    model, heads = make_transformer(), Heads()
    for attention in (each for each in model.modules() if isinstance(each, Attention)):
        # Fused attention is slow backwards in bfloat16 on a CPU.
        attention.set_processor(AttnProcessor())
    ema = copy.deepcopy(model)
    learned = [*model.parameters(), *heads.parameters()]
    optimiser = torch.optim.AdamW(learned, PEAK_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    checkpoint = folder / "denoiser.pt"
    step = load_checkpoint(checkpoint, model=model, heads=heads, ema=ema, optimiser=optimiser)
    scheduler, start = make_scheduler(), time.time()
    running: dict[str, float] = {}
    while step < steps:
        for group in optimiser.param_groups:
            group["lr"] = PEAK_RATE * _rate(step, steps)
        torch.manual_seed(seed * 1_000_003 + step)
        whole = step >= steps * (1 - WHOLE_SHARE)
        reading = step >= steps * (1 - READING_SHARE)
        losses = loss_of(model, heads, data, scheduler, step, whole=whole, reading=reading)
        optimiser.zero_grad()
        torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum().backward()
        torch.nn.utils.clip_grad_norm_(learned, 1.0)
        optimiser.step()
        step += 1
        _average(ema, model, step)
        for name, loss in losses.items():
            running[name] = 0.95 * running.get(name, loss.item()) + 0.05 * loss.item()
        if step % 10 == 0:
            parts = " ".join(f"{name} {loss:.4f}" for name, loss in running.items())
            print(f"denoiser {step} {time.time() - start:.0f} s {parts}", flush=True)
        if step % SAVE_EVERY == 0 or step == steps:
            save_checkpoint(
                checkpoint, step, model=model, heads=heads, ema=ema, optimiser=optimiser
            )
        if step % SHOW_EVERY == 0 or step == steps:
            sample(ema, step)
    return ema.eval()
