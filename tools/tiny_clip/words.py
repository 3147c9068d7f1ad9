"""Captions of clips, the tokenizer that reads them, and where each thing stands in a prompt.

A prompt is padded to 77 places. The text encoder is causal, so what stands after the words has
read them all, and each of those places has one task: the setting, the pose at one frame, or
one square of the subject's looks.
"""

from __future__ import annotations

import random
from typing import Final

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tools.tiny_clip.clips import FRAMES, Clip
from tools.tiny_world.captions import ARTICLES, FILLERS, JOINTS, make_tokenizer, vocabulary

LENGTH: Final = 77
SPOKEN: Final = 24
"""Places for words; longer prompts lose what stands behind them."""
LOOK: Final = 6
"""A subject's looks are this many squares a side."""
SETTING_PLACE: Final = SPOKEN
POSE_PLACES: Final = slice(SPOKEN + 1, SPOKEN + 1 + FRAMES)
LOOK_PLACES: Final = slice(SPOKEN + 1 + FRAMES, LENGTH)
PARTIAL: Final = 0.06
"""Share of captions that leave something out."""


def tokenizer() -> PreTrainedTokenizerFast:
    """The word-level tokenizer of tiny_world, for prompts padded to LENGTH."""
    words = make_tokenizer()
    words.model_max_length = LENGTH
    return words


def said(rng: random.Random) -> tuple[bool, bool, bool]:
    """Which of subject, setting and motion a caption tells: nearly always all."""
    if rng.random() >= PARTIAL:
        return True, True, True
    return rng.random() < 0.7, rng.random() < 0.5, rng.random() < 0.5


def caption(rng: random.Random, clip: Clip, told: tuple[bool, bool, bool]) -> str:
    """One of the many ways to say what a clip shows."""
    book = vocabulary()
    parts = []
    if told[0]:
        parts.append(rng.choice(ARTICLES) + rng.choice(book["subjects"][clip.subject]["words"]))
    if told[2]:
        parts.append(rng.choice(book["motions"][clip.motion]["words"]))
    place = rng.choice(JOINTS) + rng.choice(book["settings"][clip.setting]["words"])
    if told[1]:
        parts.insert(0 if rng.random() < 0.15 else len(parts), place)
    words = " ".join(parts).split()
    if rng.random() < 0.3:
        word = rng.choice(FILLERS) if rng.random() < 0.6 else "<unk>"
        words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)


def tokens_of(words: PreTrainedTokenizerFast, prompts: list[str]) -> Tensor:
    """Token ids (N, LENGTH), as the pipeline makes them."""
    return words(
        prompts, padding="max_length", truncation=True, max_length=LENGTH, return_tensors="pt"
    )["input_ids"].to(torch.long)
