"""Text embeddings: every distinct prompt is encoded once, alone, and blended where a shot asks."""

import inspect
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import torch

from orchestrator.wire import FrameSpec
from workers.engines.recipes import Pipe, Recipe

KEPT: Final = 64
"""Prompts whose embeddings stay on the device (4 MB each for the largest encoders)."""

Embeddings = dict[str, torch.Tensor]
"""Argument of the pipeline's call -> its tensor, batch first."""


def normalised(prompt: str) -> str:
    """Return the prompt as the encoder gets it: composed characters, single spaces."""
    return " ".join(unicodedata.normalize("NFC", prompt).split())


class Texts:
    """Embeddings of one loaded pipeline's prompts.

    A prompt is always encoded in a batch of one, so its embedding does not depend on its
    neighbours; a negative prompt by the pipeline's own path for negative prompts.
    """

    def __init__(self, pipe: Pipe, recipe: Recipe) -> None:
        self._pipe = pipe
        self._recipe = recipe
        call = inspect.signature(pipe.__call__).parameters
        self._arguments: dict[str, Any] = {
            # The call's own defaults: Sana's instruction to its encoder is one of them.
            name: call[name].default if name in call else parameter.default
            for name, parameter in inspect.signature(pipe.encode_prompt).parameters.items()
        }
        self._prompt = lru_cache(KEPT)(self._encode_prompt)
        self._negative = lru_cache(KEPT)(self._encode_negative)

    def of(self, frames: Sequence[FrameSpec], *, guided: bool) -> Embeddings:
        """Return the embeddings of a micro-batch; with `guided`, the negative ones too."""
        rows = [self._frame(frame, guided=guided) for frame in frames]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}

    def _frame(self, frame: FrameSpec, *, guided: bool) -> Embeddings:
        row = self._prompt(normalised(frame.prompt))
        if frame.prompt_to and frame.blend:
            row = blended(row, self._prompt(normalised(frame.prompt_to)), frame.blend)
        if guided and self._recipe.negative:
            row = row | self._negative(normalised(frame.negative_prompt))
        return row

    def _encode_prompt(self, prompt: str) -> Embeddings:
        encoded = self._encode(prompt=prompt, do_classifier_free_guidance=False)
        return {name: encoded[name] for name in self._recipe.positive}

    def _encode_negative(self, prompt: str) -> Embeddings:
        # An empty one is left to the pipeline's default: SDXL makes zeros of it, others encode "".
        asked = {"negative_prompt": prompt} if prompt else {}
        encoded = self._encode(
            prompt=None, do_classifier_free_guidance=True, **self._prompt(""), **asked
        )
        return {name: encoded[name] for name in self._recipe.negative}

    def _encode(self, **asked: Any) -> Embeddings:
        asked |= {
            "device": self._pipe._execution_device,
            "num_images_per_prompt": 1,
            "clean_caption": False,
        }
        known = {name: value for name, value in asked.items() if name in self._arguments}
        encoded = self._pipe.encode_prompt(**self._arguments | known)
        return dict(zip(self._recipe.text, encoded, strict=True))


def blended(start: Embeddings, end: Embeddings, blend: float) -> Embeddings:
    """Return the embeddings `blend` of the way from start to end; masks are joined."""
    return {
        name: torch.lerp(tensor, end[name], blend)
        if tensor.is_floating_point()
        else torch.maximum(tensor, end[name])
        for name, tensor in start.items()
    }
