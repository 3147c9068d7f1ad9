"""Stock diffusers pipelines with tiny random weights, and the cards that name them."""

import json
from pathlib import Path
from typing import Any

from orchestrator.catalog import CostPrior, ModelCard
from orchestrator.model import Size, Vocabulary
from orchestrator.wire import FrameSpec, RenderWork

SCHEDULERS: dict[str, dict[str, Any]] = {
    "DDIMScheduler": {"clip_sample": False, "steps_offset": 1},
    "PNDMScheduler": {"skip_prk_steps": True, "steps_offset": 1},
    "EulerAncestralDiscreteScheduler": {"steps_offset": 1},
    "HeunDiscreteScheduler": {"steps_offset": 1},
}
"""A scheduler as Stable Diffusion's own folders have it."""


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
        "native": Size(width=64, height=32),
        "output": Size(width=64, height=32),
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
        "width": 64,
        "height": 32,
        "output_width": 64,
        "output_height": 32,
        "fps": 12,
        "steps": 2,
        "guidance_scale": 3.0,
        "micro_batch": 4,
        "step_gpu_ms_prior": 0,
        "decode_gpu_ms_prior": 0,
    }
    return RenderWork(frames=frames, **facts | changes)


def save(pipeline: str, folder: Path, *, scheduler: str = "") -> None:
    """Save a pipeline of a few thousand random weights, as a folder of the hub has it."""
    import diffusers
    import torch

    from workers.engines.recipes import pipeline_class

    torch.manual_seed(0)
    parts = _PARTS[pipeline](folder / "words")
    if scheduler:
        parts["scheduler"] = getattr(diffusers, scheduler)(**SCHEDULERS.get(scheduler, {}))
    pipeline_class(pipeline)(**parts).save_pretrained(folder)


def _stable_diffusion(words: Path) -> dict[str, Any]:
    import diffusers

    tokenizer = _clip_tokenizer(words)
    return {
        "vae": _vae(),
        "text_encoder": _clip(tokenizer),
        "tokenizer": tokenizer,
        "unet": _unet(cross_attention_dim=16),
        "scheduler": diffusers.DDIMScheduler(**SCHEDULERS["DDIMScheduler"]),
        "safety_checker": None,
        "feature_extractor": None,
        "requires_safety_checker": False,
    }


def _stable_diffusion_xl(words: Path) -> dict[str, Any]:
    import diffusers

    tokenizer = _clip_tokenizer(words)
    return {
        "vae": _vae(),
        "text_encoder": _clip(tokenizer),
        "text_encoder_2": _clip(tokenizer, projection_dim=16),
        "tokenizer": tokenizer,
        "tokenizer_2": tokenizer,
        "unet": _unet(
            cross_attention_dim=32,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=6 * 8 + 16,
        ),
        "scheduler": diffusers.EulerDiscreteScheduler(),
    }


def _sana(words: Path) -> dict[str, Any]:
    import diffusers
    from transformers import Gemma2Config, Gemma2Model

    tokenizer = _word_tokenizer()
    return {
        "tokenizer": tokenizer,
        "text_encoder": Gemma2Model(
            Gemma2Config(
                vocab_size=len(tokenizer),
                hidden_size=16,
                intermediate_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=8,
            )
        ),
        "vae": diffusers.AutoencoderDC(
            latent_channels=4,
            attention_head_dim=2,
            encoder_block_types=("ResBlock", "EfficientViTBlock"),
            decoder_block_types=("ResBlock", "EfficientViTBlock"),
            encoder_block_out_channels=(8, 8),
            decoder_block_out_channels=(8, 8),
            encoder_qkv_multiscales=((), (5,)),
            decoder_qkv_multiscales=((), (5,)),
            encoder_layers_per_block=(1, 1),
            decoder_layers_per_block=(1, 1),
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
        "transformer": diffusers.SanaTransformer2DModel(
            patch_size=1,
            in_channels=4,
            out_channels=4,
            num_layers=1,
            num_attention_heads=2,
            attention_head_dim=4,
            num_cross_attention_heads=2,
            cross_attention_head_dim=4,
            cross_attention_dim=8,
            caption_channels=16,
            sample_size=32,
        ),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(shift=7.0),
    }


def _pixart(words: Path) -> dict[str, Any]:
    import diffusers

    tokenizer = _word_tokenizer()
    return {
        "tokenizer": tokenizer,
        "text_encoder": _t5(tokenizer),
        "vae": _vae(),
        "transformer": diffusers.PixArtTransformer2DModel(
            sample_size=8,
            num_layers=1,
            patch_size=2,
            attention_head_dim=4,
            num_attention_heads=2,
            caption_channels=16,
            in_channels=4,
            cross_attention_dim=8,
            out_channels=8,
            use_additional_conditions=False,
        ),
        "scheduler": diffusers.DDIMScheduler(**SCHEDULERS["DDIMScheduler"]),
    }


def _flux(words: Path) -> dict[str, Any]:
    import diffusers

    clip_tokenizer, t5_tokenizer = _clip_tokenizer(words), _word_tokenizer()
    return {
        "tokenizer": clip_tokenizer,
        "text_encoder": _clip(clip_tokenizer),
        "tokenizer_2": t5_tokenizer,
        "text_encoder_2": _t5(t5_tokenizer),
        "vae": _vae(shift_factor=0.1),
        "transformer": diffusers.FluxTransformer2DModel(
            patch_size=1,
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(4, 4, 8),
            guidance_embeds=True,
        ),
        "scheduler": diffusers.FlowMatchEulerDiscreteScheduler(),
    }


def _tiny_world(words: Path) -> dict[str, Any]:
    import diffusers
    from transformers import BertConfig, BertModel

    from workers.engines.tiny_world import TinyWorldAutoencoder, TinyWorldLayoutEncoder

    tokenizer = _word_tokenizer()
    layout_encoder = TinyWorldLayoutEncoder(("dog", "cat"), code_size=8, views=4, view_dim=16)
    return {
        "vae": TinyWorldAutoencoder(
            latent_channels=4, fine_channels=8, coarse_channels=8, paint_channels=8
        ),
        "text_encoder": BertModel(
            BertConfig(
                vocab_size=len(tokenizer),
                hidden_size=16,
                num_hidden_layers=1,
                num_attention_heads=2,
                intermediate_size=16,
                max_position_embeddings=16,
            ),
            add_pooling_layer=False,
        ),
        "tokenizer": tokenizer,
        "unet": _unet(
            in_channels=4 + layout_encoder.out_channels,
            cross_attention_dim=16,
            class_embed_type="projection",
            projection_class_embeddings_input_dim=16,
        ),
        "layout_encoder": layout_encoder,
        "scheduler": diffusers.DDIMScheduler(
            prediction_type="v_prediction", **SCHEDULERS["DDIMScheduler"]
        ),
    }


_PARTS = {
    "TinyWorldPipeline": _tiny_world,
    "StableDiffusionPipeline": _stable_diffusion,
    "StableDiffusionXLPipeline": _stable_diffusion_xl,
    "SanaPipeline": _sana,
    "PixArtSigmaPipeline": _pixart,
    "FluxPipeline": _flux,
}


def _vae(**changes: Any) -> Any:
    """Return an autoencoder that halves each side."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=2,
        **changes,
    )


def _unet(**changes: Any) -> Any:
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        block_out_channels=(8, 16),
        layers_per_block=1,
        sample_size=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=2,
        attention_head_dim=4,
        **changes,
    )


def _clip(tokenizer: Any, **changes: Any) -> Any:
    """Return a CLIP text encoder; with `projection_dim`, the kind that projects its pooled text."""
    from transformers import (
        CLIPTextConfig,
        CLIPTextModel,
        CLIPTextModelWithProjection,
    )

    kind = CLIPTextModelWithProjection if changes else CLIPTextModel
    return kind(
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
            **changes,
        )
    )


def _t5(tokenizer: Any) -> Any:
    from transformers import T5Config, T5EncoderModel

    return T5EncoderModel(
        T5Config(vocab_size=len(tokenizer), d_model=16, d_kv=8, d_ff=16, num_layers=1, num_heads=2)
    )


def _clip_tokenizer(folder: Path) -> Any:
    """Return a CLIP tokenizer that knows letters."""
    from transformers import CLIPTokenizer

    letters = "abcdefghijklmnopqrstuvwxyz0123456789.,'!"
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    folder.mkdir(parents=True)
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return CLIPTokenizer(
        str(folder / "vocab.json"), str(folder / "merges.txt"), model_max_length=16
    )


def _word_tokenizer() -> Any:
    """Return a tokenizer of a few words, in the place of T5's and Gemma's."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<bos>", "<unk>", "a", "dog", "cat", "big", "red", "rain", "blue"]
    words_model = models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(words_model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        bos_token="<bos>",
        unk_token="<unk>",
        model_max_length=64,
    )
