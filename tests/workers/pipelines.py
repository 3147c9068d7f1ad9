"""Stock diffusers pipelines with tiny random weights, and the cards that name them."""

import json
from pathlib import Path
from typing import Any

from orchestrator.catalog import CostPrior, ModelCard
from orchestrator.model import Size, Vocabulary
from orchestrator.wire import FrameSpec, RenderWork

SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": False},
    "PNDMScheduler": {"skip_prk_steps": True},
}
"""What Stable Diffusion's own folders say of a scheduler."""


def card(folder: Path | str = "", **changes: Any) -> ModelCard:
    """Return a card of a tiny StableDiffusionPipeline in `folder`, with changes."""
    facts: dict[str, Any] = {
        "id": "tiny",
        "version": "1",
        "title": "Tiny random weights",
        "kind": "frames",
        "engine": "diffusers",
        "pipeline": "StableDiffusionPipeline",
        "source": "local",
        "path": str(folder),
        "revision": "",
        "licence": "CC0-1.0",
        "parameters": 1,
        "native": Size(width=32, height=16),
        "output": Size(width=32, height=16),
        "default_steps": 2,
        "min_steps": 1,
        "max_steps": 50,
        "guidance_scale": 3.0,
        "micro_batch": 4,
        "fps": 12,
        "seconds": 2.0,
        "max_seconds": 10.0,
        "max_frames": 120,
        "memory_mb": 64,
        "domains": (),
        "uses_layout": False,
        "frame_multiple": 1,
        "size_multiple": 8,
        "priors": {
            "cpu": CostPrior(ms_per_frame_step_megapixel=1000, decode_ms_per_frame=1, startup_ms=0)
        },
        "vocabulary": Vocabulary(),
        "digests": {},
        "scores": {},
    }
    return ModelCard(**facts | changes)


def shot(count: int, **changes: Any) -> tuple[FrameSpec, ...]:
    """Return the frames of one shot."""
    facts: dict[str, Any] = {"prompt": "a dog", "negative_prompt": "", "seed": 7} | changes
    return tuple(
        FrameSpec(index=index, phase=index / max(count - 1, 1), **facts) for index in range(count)
    )


def work(frames: tuple[FrameSpec, ...], **changes: Any) -> RenderWork:
    """Return render work for the tiny card."""
    facts: dict[str, Any] = {
        "model": "tiny",
        "model_version": "1",
        "width": 32,
        "height": 16,
        "output_width": 32,
        "output_height": 16,
        "fps": 12,
        "steps": 2,
        "guidance_scale": 3.0,
        "micro_batch": 4,
        "step_gpu_ms_prior": 0,
        "decode_gpu_ms_prior": 0,
    }
    return RenderWork(frames=frames, **facts | changes)


def save_stable_diffusion(folder: Path, *, scheduler: str = "DDIMScheduler") -> None:
    """Save a StableDiffusionPipeline of a few thousand random weights, as a hub folder has it."""
    import diffusers  # noqa: PLC0415 - only the tests that use it pay its seconds
    import torch  # noqa: PLC0415
    from transformers import CLIPTextConfig, CLIPTextModel  # noqa: PLC0415

    torch.manual_seed(0)
    tokenizer = _tokenizer(folder / "words")
    text_encoder = CLIPTextModel(
        CLIPTextConfig(
            hidden_size=16,
            intermediate_size=24,
            num_attention_heads=2,
            num_hidden_layers=2,
            vocab_size=len(tokenizer),
            max_position_embeddings=tokenizer.model_max_length,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.eos_token_id,
        )
    )
    unet = diffusers.UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=16,
        norm_num_groups=2,
        attention_head_dim=4,
    )
    vae = diffusers.AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
    )
    pipe = diffusers.StableDiffusionPipeline(
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=getattr(diffusers, scheduler)(steps_offset=1, **SCHEDULERS.get(scheduler, {})),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipe.save_pretrained(folder)


def _tokenizer(folder: Path) -> Any:
    """Return a CLIP tokenizer that knows letters."""
    from transformers import CLIPTokenizer  # noqa: PLC0415

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'!"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )
