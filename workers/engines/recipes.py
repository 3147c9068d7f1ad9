"""The diffusers pipelines that a model card may name, and what differs between them.

The table is the allow-list: a class that is not here is never instantiated, whatever a card
or a model folder says.
"""

from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import diffusers

from orchestrator.errors import BadRequest

Pipe: TypeAlias = Any
"""A pipeline, or the class of one: each of diffusers' has parts and calls of its own."""
Scheduler: TypeAlias = Any
"""A pipeline's scheduler, of which the same is true."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """A pipeline class's way to take its text and its noise."""

    text: tuple[str, ...]
    """Call arguments that `encode_prompt` returns, in order; "" for one the call makes itself."""
    packed: bool = False
    """Latents travel as 2x2 patches (Flux)."""

    @property
    def positive(self) -> tuple[str, ...]:
        """The arguments that carry the prompt."""
        return tuple(name for name in self.text if name and not name.startswith("negative_"))

    @property
    def negative(self) -> tuple[str, ...]:
        """The arguments that carry the negative prompt; empty where the class has none."""
        return tuple(name for name in self.text if name.startswith("negative_"))


_PLAIN: Final = Recipe(text=("prompt_embeds", "negative_prompt_embeds"))
_MASKED: Final = Recipe(
    text=(
        "prompt_embeds",
        "prompt_attention_mask",
        "negative_prompt_embeds",
        "negative_prompt_attention_mask",
    )
)
RECIPES: Final[dict[str, Recipe]] = {
    "TinyWorldPipeline": _PLAIN,
    "StableDiffusionPipeline": _PLAIN,
    "StableDiffusionXLPipeline": Recipe(
        text=(
            "prompt_embeds",
            "negative_prompt_embeds",
            "pooled_prompt_embeds",
            "negative_pooled_prompt_embeds",
        )
    ),
    "SanaPipeline": _MASKED,
    "PixArtSigmaPipeline": _MASKED,
    "FluxPipeline": Recipe(text=("prompt_embeds", "pooled_prompt_embeds", ""), packed=True),
}


def recipe(pipeline: str) -> Recipe:
    """Return what is known of a pipeline class.

    Raises:
        BadRequest: the class is not on the list.
    """
    try:
        return RECIPES[pipeline]
    except KeyError:
        raise BadRequest(
            f"The pipeline class {pipeline!r} is not one of {', '.join(RECIPES)}."
        ) from None


def pipeline_class(pipeline: str) -> Pipe:
    """Return the class of an allowed pipeline name."""
    recipe(pipeline)
    if pipeline == "TinyWorldPipeline":
        from workers.engines.tiny_world import TinyWorldPipeline

        return TinyWorldPipeline
    return getattr(diffusers, pipeline)
