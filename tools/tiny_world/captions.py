"""Captions for training pictures, and the word-level tokenizer that reads them."""

from __future__ import annotations

import random
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Final

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

VOCABULARY = Path(__file__).parents[2] / "models/tiny_world/vocabulary.toml"
LENGTH: Final = 24
"""Tokens of a caption, the summary token among them."""
PAD, UNKNOWN, SUMMARY = "<pad>", "<unk>", "<cls>"
FILLERS: Final = tuple(
    """
    a an the in on at of and with over under near by through across above below behind to from
    into it is its while very some my your one two big small little large tiny huge cute happy
    sad funny red blue green yellow white black orange pink brown golden old new young fast
    slow slowly quickly gently high low beautiful bright video clip cartoon movie shot style
    scene day
    """.split()  # noqa: SIM905 - a column of a hundred strings reads worse
)
ARTICLES = ("a ", "the ", "a little ", "a cute ", "one ", "my ", "")
JOINTS = ("in the ", "at the ", "on the ", "over the ", "in ", "at ", "on a ", "through the ", "")


@cache
def vocabulary() -> dict[str, dict[str, dict[str, list[str]]]]:
    """The vocabulary file: subjects, settings, motions → id → words."""
    return tomllib.loads(VOCABULARY.read_text("utf-8"))


def words_of(phrase: str) -> list[str]:
    """Split a phrase as the tokenizer does."""
    return re.findall(r"\w+", phrase.lower())


def make_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer with one token per word of the vocabulary and of the fillers."""
    words = set(FILLERS)
    for group in vocabulary().values():
        for entry in group.values():
            words.update(word for phrase in entry["words"] for word in words_of(phrase))
    special = [PAD, UNKNOWN, SUMMARY]
    numbers = {word: number for number, word in enumerate([*special, *sorted(words)])}
    raw = Tokenizer(models.WordLevel(numbers, unk_token=UNKNOWN))
    raw.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    raw.pre_tokenizer = pre_tokenizers.Split(Regex(r"\w+"), "removed", invert=True)
    raw.post_processor = processors.TemplateProcessing(
        single=f"{SUMMARY} $A", special_tokens=[(SUMMARY, numbers[SUMMARY])]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, pad_token=PAD, unk_token=UNKNOWN, cls_token=SUMMARY,
        model_max_length=LENGTH,
    )  # fmt: skip


def caption(rng: random.Random, subjects: list[str], setting: str | None) -> str:
    """One of the many ways to say what a picture shows; `setting` None leaves it out."""
    book = vocabulary()
    parts = []
    for subject in subjects:
        part = rng.choice(ARTICLES) + rng.choice(book["subjects"][subject]["words"])
        if rng.random() < 0.8:
            motion = rng.choice(list(book["motions"].values()))
            part += " " + rng.choice(motion["words"])
        parts.append(part)
    if len(parts) == 2 and rng.random() < 0.7:
        parts = [" and ".join(parts)]
    if setting is not None:
        parts.append(rng.choice(JOINTS) + rng.choice(book["settings"][setting]["words"]))
    if rng.random() < 0.35:
        rng.shuffle(parts)
    words = " ".join(parts).split()
    for _ in range(rng.choices((0, 1, 2, 3), (50, 25, 15, 10))[0]):
        word = rng.choice(FILLERS) if rng.random() < 0.5 else "<unk>"
        words.insert(rng.randint(0, len(words)), word)
    return " ".join(words)
