"""Train the denoiser of tiny_clip: Latte's transformer, space and time in turn, from nothing.

It draws its clips as it goes, and is told what they show by the states that the text encoder
learns to find (`states.py`), slightly shaken. Most steps see a few frames of each clip, and of
those some cells, most of them near the subject; `forward` gives each its own place. The last
steps see whole clips, and read captions with the trained text encoder. Every step draws from
(seed, step) alone.

What a prompt says fixes nearly all of a clip, so it predicts the clip itself (not its noise),
most often from nothing but noise. Linear heads, which are thrown away afterwards, ask halfway:
which frame this is, where each place of it lies on the subject, what it will look like. And
four heads of some cross-attentions are shown where to look: at the pose of their frame, then at
the squares of the looks, or at the setting, that four points of their cell lie on.
"""

from __future__ import annotations

import copy
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderDC, DDIMScheduler, LatteTransformer3DModel
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.attention_processor import Attention, AttnProcessor
from torch import Tensor, nn
from torch.nn import functional
from transformers import T5EncoderModel

from tools.tiny_clip.clips import FRAMES, MOTIONS, Clip, clip_of, draw_clip, squares
from tools.tiny_clip.states import WIDTH, States, own_axes, pose_features, states, waves
from tools.tiny_clip.train_autoencoder import CHANNELS, PLACES, encode
from tools.tiny_clip.words import (
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
from tools.tiny_world.dataset import to_batch

BATCH, SEEN, CHOSEN = 8, 3, 24
"""Clips of a batch, frames of each, and cells of each frame, the same in all frames of a clip."""
NEAR_SHARE = 0.8
"""The share of the chosen cells that are near the subject in one of the frames, if so many are."""
WHOLE_BATCH = 2
WHOLE_SHARE = 0.05
"""Clips of a batch of whole clips, and the share of the steps, the last ones, that see those."""
READING_SHARE = 0.3
"""The share of the steps, the last ones, that read captions."""
SHAKEN, WORDS = 0.05, 12
"""Noise on the states, and how many words there are at most, before."""
PEAK_RATE = 1.5e-3
DROP_TEXT = 0.03
PURE = 0.7
"""Share of the clips that are pure noise, as sampling begins."""
SUBJECT_WEIGHT = 3.0
"""Factor by which a place inside the subject's square counts more."""
AVERAGE_EVERY = 5
SAVE_EVERY, SHOW_EVERY = 20, 100
"""Steps between checkpoints, and between sheets of samples."""
PATCH = 2
CELLS = PLACES // PATCH
LAYERS, HEADS = 4, 8
READS, KNOWS, SKETCHES = 1, 1, 2
GUIDED = 4
"""Heads that are shown where to look."""
POINTS = {
    2: ((-0.25, -0.25), (-0.25, 0.25), (0.25, -0.25), (0.25, 0.25)),
    3: ((-0.4, 0.0), (0.4, 0.0), (0.0, -0.4), (0.0, 0.4)),
}
"""By layer, the points of a cell whose looks they read: parts of its side from its middle."""
"""Layers: the one whose spatial block must have read the frame's pose, the one whose temporal
block must know each cell's place on the subject, and the one whose must know its looks."""


def make_transformer() -> LatteTransformer3DModel:
    """The denoiser, untrained; its gates stand open from the start.

    Half of its output channels go unused: LattePipeline takes them for a learned variance.
    """
    model = LatteTransformer3DModel(
        num_attention_heads=HEADS, attention_head_dim=WIDTH // HEADS, in_channels=CHANNELS,
        out_channels=2 * CHANNELS, num_layers=LAYERS, cross_attention_dim=WIDTH,
        attention_bias=True, sample_size=PLACES, patch_size=PATCH,
        activation_fn="gelu-approximate", norm_type="ada_norm_single",
        norm_elementwise_affine=False, norm_eps=1e-6, caption_channels=WIDTH, video_length=FRAMES,
    )  # fmt: skip
    for linear in (each for each in model.modules() if isinstance(each, nn.Linear)):
        nn.init.normal_(linear.weight, std=linear.in_features**-0.5)
        nn.init.zeros_(linear.bias)
    nn.init.normal_(model.proj_out.weight, std=0.02)
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


def _self_attention(
    block: BasicTransformerBlock, states: Tensor, parts: list[Tensor], across: int
) -> Tensor:
    """Attend along axis `across` of states (clips, frames, cells, WIDTH)."""
    shift, scale, gate = parts
    rows = (block.norm1(states) * (1 + scale) + shift).movedim(across, 2)
    seen = block.attn1(rows.flatten(0, 1)).unflatten(0, rows.shape[:2]).movedim(2, across)
    return states + gate * seen


def _cross_attention(
    block: BasicTransformerBlock, states: Tensor, said: Tensor
) -> tuple[Tensor, Tensor]:
    """Read prompts (clips, places, WIDTH); also how much each head would look at each place.

    All frames of a clip read the same prompt here; the model itself works it out for each.
    """
    attention, shape = block.attn2, states.shape
    asks = attention.to_q(states.flatten(1, 2)).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    keys = attention.to_k(said).unflatten(-1, (HEADS, -1)).permute(0, 2, 3, 1)
    values = attention.to_v(said).unflatten(-1, (HEADS, -1)).transpose(1, 2)
    logits = (asks @ keys).float() * attention.scale
    read = (logits.softmax(-1).to(values.dtype) @ values).transpose(1, 2).flatten(2)
    return states + attention.to_out[0](read).view(shape), logits.unflatten(2, shape[1:3])


def _feed_forward(block: BasicTransformerBlock, states: Tensor, parts: list[Tensor]) -> Tensor:
    shift, scale, gate = parts
    return states + gate * block.ff(block.norm2(states) * (1 + scale) + shift)


def _parts(block: BasicTransformerBlock, times: Tensor) -> tuple[list[Tensor], list[Tensor]]:
    """Shift, scale and gate of the block's self-attention and of its feed-forward."""
    table = block.scale_shift_table[None] + times.unflatten(1, (6, -1))
    parts = list(table[:, :, None, None].unbind(1))
    return parts[:3], parts[3:]


def forward(
    model: LatteTransformer3DModel,
    noisy: Tensor,
    times: Tensor,
    said: Tensor,
    numbers: list[int],
    cells: Tensor,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Predict some frames and some cells of clips, and keep the states halfway.

    Args:
        model: the transformer; with all frames and all cells this is its own forward.
        noisy: latents of the frames, (clips, CHANNELS, frames, PLACES, PLACES).
        times: timesteps of the clips.
        said: states of the prompts, (clips, places, WIDTH).
        numbers: which frames these are.
        cells: which cells to look at, (clips, chosen).

    Returns:
        the cells' latents, (clips, frames, chosen, PATCH², CHANNELS); and by name states, and
        how much heads look at places, (clips, HEADS, frames, chosen, places).
    """
    clips = len(noisy)
    states = model.pos_embed(noisy.transpose(1, 2).flatten(0, 1)).unflatten(0, (clips, -1))
    rows = cells[:, None, :, None].expand(-1, states.shape[1], -1, states.shape[-1])
    states = states.gather(2, rows)
    spread, embedded = model.adaln_single(
        times, added_cond_kwargs={"resolution": None, "aspect_ratio": None},
        batch_size=clips, hidden_dtype=states.dtype,
    )  # fmt: skip
    said = model.caption_projection(said)
    kept = {}
    blocks = zip(model.transformer_blocks, model.temporal_transformer_blocks, strict=True)
    for layer, (spatial, temporal) in enumerate(blocks):
        first, last = _parts(spatial, spread)
        states = _self_attention(spatial, states, first, 2)
        states, kept[f"look{layer}"] = _cross_attention(spatial, states, said)
        states = _feed_forward(spatial, states, last)
        if layer == READS:
            kept["pose"] = states
        if layer == 0:
            states = states + model.temp_pos_embed[:, numbers, None].to(states.dtype)
        first, last = _parts(temporal, spread)
        states = _feed_forward(temporal, _self_attention(temporal, states, first, 1), last)
        if layer == 0:
            kept["frame"] = states
        if layer == KNOWS:
            kept["cell"] = states
        if layer == SKETCHES:
            kept["sketch"] = states
    shift, scale = (model.scale_shift_table[None] + embedded[:, None])[:, :, None, None].unbind(1)
    found = model.proj_out(model.norm_out(states) * (1 + scale) + shift)
    return found.unflatten(-1, (PATCH**2, -1))[..., :CHANNELS], kept


def cell_features() -> tuple[Tensor, Tensor]:
    """Places of each cell on the subject, (motions, FRAMES, cells, 15), and where they count.

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


def where_to_look() -> dict[int, Tensor]:
    """By layer, the places that guided heads should read, (motions, FRAMES, cells, GUIDED)."""
    middle = (torch.arange(CELLS) + 0.5) / CELLS
    down, across = (part.flatten() for part in torch.meshgrid(middle, middle, indexing="ij"))
    a, b, c, d = (part[..., None] for part in own_axes().unbind(-1))
    frame = torch.arange(FRAMES)[:, None, None] + POSE_PLACES.start
    tables = {READS: frame.expand(len(MOTIONS), FRAMES, CELLS**2, GUIDED)}
    for layer, points in POINTS.items():
        found = []
        for right, below in points:
            x, y = across + right / CELLS, down + below / CELLS
            column = ((a * x + b * y + c + 1) / 2 * LOOK).floor()
            row = ((a * y - b * x + d + 1) / 2 * LOOK).floor()
            on = (column >= 0) & (column < LOOK) & (row >= 0) & (row < LOOK)
            square = LOOK_PLACES.start + row * LOOK + column
            found.append(torch.where(on, square, SETTING_PLACE).long())
        tables[layer] = torch.stack(found, -1)
    return tables


def in_cells(latents: Tensor) -> Tensor:
    """Latents (…, channels, PLACES, PLACES) as the transformer's cells, (…, cells, PATCH², c)."""
    tiles = latents.unflatten(-1, (CELLS, PATCH)).unflatten(-3, (CELLS, PATCH))
    return tiles.movedim(-5, -1).transpose(-4, -3).flatten(-5, -4).flatten(-3, -2)


class Heads(nn.Module):
    """Linear questions to the transformer's states; they are not part of the model."""

    def __init__(self) -> None:
        super().__init__()
        self.frame = nn.Linear(WIDTH, FRAMES)
        self.pose = nn.Linear(WIDTH, pose_features().shape[-1])
        self.cell = nn.Linear(WIDTH, 15)
        self.sketch = nn.Linear(WIDTH, CHANNELS * PATCH**2)


@dataclass(frozen=True, slots=True)
class Data:
    """All that draws, encodes and speaks for the clips, and where their subjects are."""

    assets: Path
    seed: int
    vae: AutoencoderDC
    text: T5EncoderModel | None
    """None: only steps that read no captions can be done."""
    states: States
    masks: Tensor
    """By motion, (motions, FRAMES, cells, PATCH²)."""
    poses: Tensor
    cells: Tensor
    near: Tensor
    looking: dict[int, Tensor]


def load_data(assets: Path, seed: int, vae: AutoencoderDC, text: T5EncoderModel | None) -> Data:
    """The training set drawn from this seed."""
    masks = torch.from_numpy(np.stack([squares(motion, PLACES) for motion in MOTIONS]))
    masks = in_cells(masks[:, :, None])[..., 0]
    if text is not None:
        text.eval().requires_grad_(False)
    return Data(
        assets,
        seed,
        vae,
        text,
        states(assets),
        masks,
        pose_features(),
        *cell_features(),
        where_to_look(),
    )


def _times(count: int) -> Tensor:
    """Draw timesteps: pure noise for PURE of them, any for the others."""
    dice, place = torch.rand(2, count)
    return torch.where(dice < PURE, 999, (1000 * place).long().clamp(max=999))


def told(data: Data, rng: random.Random, clips: list[Clip]) -> Tensor:
    """Say the clips as shaken states, (B, places, WIDTH), with words behind."""
    places = torch.stack([data.states.of(clip) for clip in clips])
    behind = data.states.nothing.expand(len(clips), rng.randint(1, WORDS), -1)
    found = torch.cat([places, behind], 1)
    return found + SHAKEN * torch.randn_like(found)


@torch.no_grad()
def read(text: T5EncoderModel, rng: random.Random, clips: list[Clip]) -> Tensor:
    """Let the text encoder read captions of the clips: states (B, longest, WIDTH).

    States behind the words are zero, as the pipeline makes them for several prompts.
    """
    prompts = ["" if rng.random() < DROP_TEXT else caption(rng, c, said(rng)) for c in clips]
    ids, mask = tokens_of(tokenizer(), prompts)
    return text(input_ids=ids, attention_mask=mask).last_hidden_state * mask[..., None]


def choose(data: Data, motions: list[int], numbers: list[int]) -> Tensor:
    """Choose CHOSEN cells for each clip, NEAR_SHARE of them near its subject, (clips, CHOSEN)."""
    near = data.near[motions][:, numbers, :, 0].amax(1)
    urge = torch.rand(near.shape)
    first = (urge + near).topk(round(NEAR_SHARE * CHOSEN), dim=1).indices
    return (urge - 1).scatter(1, first, urge.gather(1, first)).topk(CHOSEN, dim=1).indices


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
    clean = encode(data.vae, to_batch(drawn)).clone().unflatten(0, (count, -1))
    prompts = told(data, rng, clips)
    if reading:
        assert data.text is not None
        prompts = read(data.text, rng, clips)
    noise, times = torch.randn_like(clean), _times(count)
    noisy = scheduler.add_noise(clean, noise, times).transpose(1, 2)
    motions = [MOTIONS.index(clip.motion) for clip in clips]
    cells = torch.arange(CELLS**2).expand(count, -1) if whole else choose(data, motions, numbers)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found, kept = forward(model, noisy, times, prompts, numbers, cells)

    def there(table: Tensor) -> Tensor:
        """The chosen cells of a table (clips, frames, cells, …)."""
        return torch.stack([each[:, rows] for each, rows in zip(table, cells, strict=True)])

    def of_motion(table: Tensor) -> Tensor:
        """The rows of the clips' motions and frames of a table (motions, FRAMES, …)."""
        return table[motions][:, numbers]

    wanted = there(in_cells(clean))
    weight = 1 + SUBJECT_WEIGHT * there(of_motion(data.masks))[..., None]
    near = there(of_motion(data.near))
    cell = heads.cell(_plain(kept["cell"])) - there(of_motion(data.cells))
    sketch = heads.sketch(_plain(kept["sketch"])).unflatten(-1, (PATCH**2, -1)) - wanted
    pose = heads.pose(_plain(kept["pose"])) - of_motion(data.poses)[:, :, None]
    frame, which = heads.frame(_plain(kept["frame"])), torch.tensor(numbers)[None, :, None]
    guided = [
        functional.cross_entropy(
            kept[f"look{layer}"][:, :GUIDED].permute(0, 4, 2, 3, 1), there(of_motion(table))
        )
        for layer, table in data.looking.items()
    ]
    return {
        "clip": ((found.float() - wanted).square() * weight).mean() / weight.mean(),
        "sketch": (sketch.square() * weight).mean() / weight.mean(),
        "cell": cell[..., 0].square().mean() + (cell[..., 1:].square() * near).mean() / near.mean(),
        "pose": pose.square().mean(),
        "frame": functional.cross_entropy(frame.permute(0, 3, 1, 2), which.expand(frame.shape[:3])),
        "reads": guided[0],
        "looks": torch.stack(guided[1:]).mean(),
    }


def _plain(states: Tensor) -> Tensor:
    return functional.layer_norm(states.float(), states.shape[-1:])


WEIGHTS = {
    "clip": 1.0,
    "sketch": 0.5,
    "cell": 0.5,
    "pose": 0.5,
    "frame": 0.2,
    "reads": 0.3,
    "looks": 0.2,
}
"""Weights of the losses."""


def _rate(step: int, steps: int) -> float:
    """Learning-rate factor: a short warm-up, then flat, then down over the last 40 %."""
    return min(1, (step + 1) / 40) * max(0.01, min(1, 2.5 * (1 - step / steps)))


@torch.no_grad()
def _average(ema: nn.Module, model: nn.Module, step: int) -> None:
    keep = min(0.98, step / (10 * AVERAGE_EVERY + step))
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
    optimiser = torch.optim.AdamW(
        learned, PEAK_RATE, betas=(0.9, 0.95), weight_decay=0.01, fused=True
    )
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
        if step % AVERAGE_EVERY == 0 or step == steps:
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
