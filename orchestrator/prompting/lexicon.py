"""The words of a vocabulary as a text may have them: phrases, plurals, other forms, near misses.

Emoji count as their Unicode names (a rocket emoji says "rocket").
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Final, Literal, NamedTuple

from orchestrator.model import Vocabulary
from orchestrator.prompting.defaults import BARE_VERBS, MORE_MOTIONS, MORE_SETTINGS

Kind = Literal["subject", "setting", "motion", "style"]
TYPO_MIN: Final = 6
TYPO_MAX: Final = 16
"""Unknown words of this many letters may be misspelt subjects; shorter ones may be anything."""
TYPO_LIKENESS: Final = 0.8
_WORD: Final = re.compile(r"[^\W_]+")


class Match(NamedTuple):
    """A phrase of the vocabulary, found at words `start` to `end`."""

    start: int
    end: int
    kind: Kind
    id: str
    phrase: tuple[str, ...]


class Lexicon:
    """A vocabulary, indexed by the words of its phrases."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary = vocabulary
        self._phrases: dict[tuple[str, ...], tuple[Kind, str]] = {}
        for phrase, kind, id_ in _phrases(vocabulary):
            self._phrases.setdefault(phrase, (kind, id_))
        for phrase, kind, id_ in _variants(vocabulary):
            self._phrases.setdefault(phrase, (kind, id_))
        self._longest = max((len(phrase) for phrase in self._phrases), default=0)
        self._names: dict[str, list[str]] = {}
        for phrase, (kind, _) in self._phrases.items():
            if kind == "subject" and len(phrase) == 1:
                self._names.setdefault(phrase[0][0], []).append(phrase[0])

    def __bool__(self) -> bool:
        return bool(self.vocabulary.subjects)

    def misspelt(self, word: str) -> str | None:
        """Return the subject whose name, of one word, a longer word nearly is."""
        if not TYPO_MIN <= len(word) <= TYPO_MAX:
            return None
        close = get_close_matches(word, self._names.get(word[0], ()), 1, TYPO_LIKENESS)
        return self._phrases[(close[0],)][1] if close else None

    def matches(self, words: Sequence[str]) -> Iterator[Match]:
        """Yield the phrases in the words, from left to right, longest first, never overlapping."""
        at = 0
        while at < len(words):
            for length in range(min(self._longest, len(words) - at), 0, -1):
                phrase = tuple(words[at : at + length])
                if phrase in self._phrases:
                    kind, id_ = self._phrases[phrase]
                    yield Match(at, at + length, kind, id_, phrase)
                    at += length
                    break
            else:
                at += 1


def words_of(text: str) -> list[str]:
    """Return the words of a text: lower case, compatibility forms folded, emoji by name."""
    named = "".join(_named(char) if ord(char) > 0x2000 else char for char in text)
    return _WORD.findall(unicodedata.normalize("NFKC", named).casefold())


def plural(word: str) -> str:
    """Return the plural of a noun."""
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else word + "s"


def base_form(verb: str) -> str:
    """Return the plain form of a verb: run for runs."""
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if verb.endswith(("shes", "ches", "sses", "oes")):
        return verb[:-2]
    return verb.removesuffix("s")


# --- inside -------------------------------------------------------------------------------


def _phrases(vocabulary: Vocabulary) -> Iterator[tuple[tuple[str, ...], Kind, str]]:
    tables: tuple[tuple[Kind, dict[str, tuple[str, ...]]], ...] = (
        ("subject", dict(vocabulary.subjects)),
        ("setting", dict(vocabulary.settings)),
        ("motion", dict(vocabulary.motions)),
        ("style", dict(vocabulary.styles)),
    )
    for kind, rows in tables:
        for id_, phrases in rows.items():
            for phrase in phrases:
                yield tuple(_WORD.findall(phrase.casefold())), kind, id_


def _variants(vocabulary: Vocabulary) -> Iterator[tuple[tuple[str, ...], Kind, str]]:
    """Yield plurals of subjects, other forms of plain verbs (run, running for runs), more verbs."""
    for phrase, kind, id_ in _phrases(vocabulary):
        if kind == "subject":
            yield (*phrase[:-1], plural(phrase[-1])), kind, id_
        elif kind == "motion" and (base := base_form(phrase[0])) in BARE_VERBS:
            yield (base, *phrase[1:]), kind, id_
            yield (base.removesuffix("e") + "ing", *phrase[1:]), kind, id_
    for phrase_, id_ in MORE_MOTIONS.items():
        if id_ in vocabulary.motions:
            yield tuple(phrase_.split()), "motion", id_
    for phrase_, id_ in MORE_SETTINGS.items():
        if id_ in vocabulary.settings:
            yield tuple(phrase_.split()), "setting", id_


def _named(char: str) -> str:
    if unicodedata.category(char) != "So":
        return char
    return f" {unicodedata.name(char, '').lower().replace(' face', '')} "
