"""Captions of clips, the tokenizer that reads them, and where each thing stands in a prompt.

The tokenizer puts PLACES before the words, as other tokenizers put a token for the whole: one
for the setting, one for the pose at each frame, one for each square of the subject's looks. The
text encoder sees the words from there, and leaves at each place what its one task is.
"""

from __future__ import annotations

import random
from typing import Final

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from tools.tiny_clip.clips import FRAMES, Clip
from tools.tiny_world.captions import (
    ARTICLES,
    FILLERS,
    JOINTS,
    PAD,
    UNKNOWN,
    vocabulary,
    words_of,
)  # fmt: skip

LENGTH: Final = 120
"""Tokens of a prompt at most: the length that LattePipeline asks for."""
LOOK: Final = 6
"""A subject's looks are this many squares a side."""
SETTING_PLACE: Final = 0
POSE_PLACES: Final = slice(1, 1 + FRAMES)
LOOK_PLACES: Final = slice(1 + FRAMES, 1 + FRAMES + LOOK**2)
PLACES: Final = (
    "<setting>",
    *(f"<pose{frame}>" for frame in range(FRAMES)),
    *(f"<look{square}>" for square in range(LOOK**2)),
)
PARTIAL: Final = 0.06
"""Share of captions that leave something out."""


def tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word that tiny_world knows, and PLACES before them."""
    words = set(FILLERS)
    for group in vocabulary().values():
        for entry in group.values():
            words.update(word for phrase in entry["words"] for word in words_of(phrase))
    numbers = {word: number for number, word in enumerate([PAD, UNKNOWN, *PLACES, *sorted(words)])}
    raw = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)
    raw.post_processor = processors.TemplateProcessing(
        single=" ".join([*PLACES, "$A"]),
        special_tokens=[(place, numbers[place]) for place in PLACES],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=PAD, unk_token=UNKNOWN, model_max_length=LENGTH
    )


def said(rng: random.Random) -> tuple[bool, bool, bool]:
    """Choose which of subject, setting and motion a caption tells: nearly always all."""
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


def tokens_of(words: PreTrainedTokenizerFast, prompts: list[str]) -> tuple[Tensor, Tensor]:
    """Token ids and mask (N, longest), as the pipeline makes them but without its padding."""
    read = words(
        prompts, padding="longest", truncation=True, max_length=LENGTH, return_tensors="pt"
    )
    return read["input_ids"], read["attention_mask"]
