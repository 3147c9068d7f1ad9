"""The pipeline of tiny_world: a caption and a layout per frame in, pictures out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import DDIMScheduler, DiffusionPipeline, ImagePipelineOutput, UNet2DConditionModel
from diffusers.image_processor import VaeImageProcessor
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import BertModel, PreTrainedTokenizerFast

from workers.engines.tiny_world.autoencoder import TinyWorldAutoencoder
from workers.engines.tiny_world.layout import Placement, TinyWorldLayoutEncoder, view_of

StepCallback = Callable[[Any, int, Any, dict[str, Any]], dict[str, Any] | None]
Layouts = Sequence[Sequence[Placement]]
Generators = torch.Generator | Sequence[torch.Generator] | None


class TinyWorldPipeline(DiffusionPipeline):  # type: ignore[misc]  # diffusers has no types
    """Paints frames of the little world, each from its own caption, layout and noise.

    A frame's result depends on its own row of the arguments alone. All frames of a shot
    start from the same `latents`, which also choose the variant of the backdrop.
    """

    model_cpu_offload_seq = "text_encoder->layout_encoder->unet->vae"
    _callback_tensor_inputs = ("latents",)

    def __init__(
        self,
        vae: TinyWorldAutoencoder,
        text_encoder: BertModel,
        tokenizer: PreTrainedTokenizerFast,
        unet: UNet2DConditionModel,
        layout_encoder: TinyWorldLayoutEncoder,
        scheduler: DDIMScheduler,
    ) -> None:
        super().__init__()
        self.register_modules(
            vae=vae,
            text_encoder=text_encoder,
            tokenizer=tokenizer,
            unet=unet,
            layout_encoder=layout_encoder,
            scheduler=scheduler,
        )
        self.vae_scale_factor = 16
        self.image_processor = VaeImageProcessor(vae_scale_factor=self.vae_scale_factor)

    @classmethod
    def from_pretrained(cls, folder: str | Path, **options: Any) -> TinyWorldPipeline:
        """Load the model folder, in float32 unless told otherwise.

        Our own two classes are passed in, never looked up by name.
        """
        precision = options.pop("dtype", None) or options.pop("torch_dtype", torch.float32)
        ours = {
            "vae": (TinyWorldAutoencoder, "vae"),
            "layout_encoder": (TinyWorldLayoutEncoder, "layout_encoder"),
        }
        for name, (kind, subfolder) in ours.items():
            if name not in options:
                options[name] = kind.from_pretrained(
                    folder,
                    subfolder=subfolder,
                    dtype=precision,
                    local_files_only=options.get("local_files_only", False),
                )
        pipe: TinyWorldPipeline = super().from_pretrained(folder, dtype=precision, **options)
        for part in (pipe.unet, pipe.vae):
            part.to(memory_format=torch.channels_last)
        return pipe

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """Channels, rows and columns of one frame's latents."""
        scale = self.vae_scale_factor
        return int(self.unet.config.out_channels), height // scale, width // scale

    def encode_prompt(
        self,
        prompt: str | Sequence[str] | None,
        device: torch.device | None = None,
        num_images_per_prompt: int = 1,
        do_classifier_free_guidance: bool = True,
        negative_prompt: str | Sequence[str] | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Encode captions to (B, 24, 128); the first row of each also serves as its summary.

        An empty caption is a single <cls>: what guidance steers away from.
        """
        device = device or self._execution_device
        if prompt_embeds is None:
            prompt_embeds = self._encode([prompt] if isinstance(prompt, str) else prompt, device)
        if do_classifier_free_guidance and negative_prompt_embeds is None:
            texts = negative_prompt or ""
            many = [texts] * len(prompt_embeds) if isinstance(texts, str) else texts
            negative_prompt_embeds = self._encode(many, device)
        prompt_embeds = prompt_embeds.repeat_interleave(num_images_per_prompt, 0)
        if negative_prompt_embeds is not None:
            negative_prompt_embeds = negative_prompt_embeds.repeat_interleave(
                num_images_per_prompt, 0
            )
        return prompt_embeds, negative_prompt_embeds

    def _encode(self, texts: Sequence[str] | None, device: torch.device) -> Tensor:
        tokens = self.tokenizer(
            list(texts or [""]),
            padding="max_length",
            truncation=True,
            max_length=self.text_encoder.config.max_position_embeddings,
            return_tensors="pt",
        ).to(device)
        mask = tokens["attention_mask"]
        states = self.text_encoder(input_ids=tokens["input_ids"], attention_mask=mask)
        embeds: Tensor = states.last_hidden_state * mask[..., None]
        return embeds

    def prepare_latents(
        self, batch: int, height: int, width: int, generator: Generators = None
    ) -> Tensor:
        """Draw one starting noise per frame."""
        shape = (batch, *self.latent_shape(height, width))
        device = self._execution_device
        many = list(generator) if isinstance(generator, Sequence) else generator
        noise: Tensor = randn_tensor(shape, generator=many, device=device, dtype=self.unet.dtype)
        return noise

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Decode to pictures (B, 3, H, W) in 0..1."""
        pictures = self.vae.decode(latents.to(self.vae.dtype))
        shown: Tensor = (pictures.float() / 2 + 0.5).clamp(0, 1)
        return shown

    @torch.no_grad()
    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        negative_prompt: str | Sequence[str] | None = None,
        layout: Layouts | None = None,
        height: int = 256,
        width: int = 256,
        num_inference_steps: int = 2,
        guidance_scale: float = 1.0,
        latents: Tensor | None = None,
        prompt_embeds: Tensor | None = None,
        negative_prompt_embeds: Tensor | None = None,
        generator: Generators = None,
        resume_latents: Tensor | None = None,
        backdrop: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
        callback_on_step_end: StepCallback | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = ("latents",),
    ) -> ImagePipelineOutput | tuple[Any]:
        """Paint one picture per prompt, layout and starting noise.

        A loop that was stopped goes on with its `resume_latents`; `latents` are still its noise.
        Finished pictures show a `backdrop`, (1, 3, H, W) in -1..1, in the place of the setting.

        Raises:
            ValueError: a size the latents cannot have, an unknown subject, rows that differ.
        """
        _check_size(height, width, self.vae_scale_factor)
        guided = guidance_scale > 1
        texts, against = self.encode_prompt(
            prompt,
            do_classifier_free_guidance=guided,
            negative_prompt=negative_prompt,
            prompt_embeds=prompt_embeds,
            negative_prompt_embeds=negative_prompt_embeds,
        )
        if latents is None:
            latents = self.prepare_latents(len(texts), height, width, generator)
        latents = latents.to(self._execution_device, self.unet.dtype)
        rows = _rows(layout, len(texts), len(latents))
        latents = latents * self.scheduler.init_noise_sigma
        embeds = torch.cat([against, texts]) if guided and against is not None else texts
        views = self.layout_encoder.backdrops(view_of(latents, self.layout_encoder.config.views))
        summary = embeds[:, 0] + (torch.cat([views, views]) if guided else views)
        plan = _laid_out(self.layout_encoder, rows, latents, summary)
        self.scheduler.set_timesteps(num_inference_steps, device=latents.device)
        latents = latents if resume_latents is None else resume_latents.to(latents)
        for index, time in enumerate(self.progress_bar(self.scheduler.timesteps)):
            doubled = torch.cat([latents, latents]) if guided else latents
            velocity = self.unet(
                torch.cat([doubled, plan], 1).contiguous(memory_format=torch.channels_last),
                time,
                encoder_hidden_states=embeds,
                class_labels=summary,
            ).sample
            if guided:
                base, asked = velocity.chunk(2)
                velocity = base + guidance_scale * (asked - base)
            latents = self.scheduler.step(velocity, time, latents).prev_sample
            if callback_on_step_end is not None:
                known: Mapping[str, Any] = {"latents": latents}
                named = {name: known[name] for name in callback_on_step_end_tensor_inputs}
                named = callback_on_step_end(self, index, time, named) or named
                latents = named.get("latents", latents)
        images = self._finish(latents, rows, backdrop, output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _finish(
        self, latents: Tensor, rows: Layouts, backdrop: Tensor | None, output_type: str
    ) -> object:
        if output_type == "latent":
            return latents
        pictures = self.decode_latents(latents)
        if backdrop is not None:
            pictures = self.layout_encoder.laid_over(pictures, rows, backdrop)
        if output_type == "pt":
            return pictures
        arrays = self.image_processor.pt_to_numpy(pictures)
        return arrays if output_type == "np" else self.image_processor.numpy_to_pil(arrays)


def _check_size(height: int, width: int, multiple: int) -> None:
    if height % multiple or width % multiple:
        msg = f"height and width must be multiples of {multiple}"
        raise ValueError(msg)


def _rows(layout: Layouts | None, prompts: int, latents: int) -> Layouts:
    """Return a layout for each frame; without any, all are empty."""
    rows = [list(frame or ()) for frame in (layout or [()] * latents)]
    if not len(rows) == prompts == latents:
        msg = f"{prompts} prompts and {len(rows)} layouts for {latents} latents"
        raise ValueError(msg)
    return rows


def _laid_out(
    encoder: TinyWorldLayoutEncoder,
    rows: Layouts,
    latents: Tensor,
    summary: Tensor,
) -> Tensor:
    """Lay the frames out; under guidance (two summaries a frame) first without identity."""
    numbers, poses = (part.to(latents.device) for part in encoder.tensors(rows))
    plans = [
        encoder(numbers, poses, part, *latents.shape[-2:]).to(latents.dtype)
        for part in summary.chunk(len(summary) // len(latents))
    ]
    return torch.cat([*(encoder.anonymous(plan) for plan in plans[:-1]), plans[-1]])
