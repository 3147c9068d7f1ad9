"""Casts, settings and styles: phrases of a description to ids of a vocabulary.

Longest phrase first, from left to right, one look per word.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from orchestrator.model import Cast
from orchestrator.prompting.defaults import COLOURS, SUBJECT_SETTINGS
from orchestrator.prompting.lexicon import Lexicon, Match, plural, words_of
from orchestrator.prompting.roles import (
    MAX_SUBJECTS,
    MAX_UNKNOWN,
    roles_of,
    spaced,
    stand_ins,
    unknown_words,
    with_motion,
)
from orchestrator.prompting.transformations import split_becoming

WEAK_SETTINGS: Final = frozenset({"dark", "water", "winter"})
"""Words that are a setting only when no other is named: a dark forest is a forest."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """One description, as a vocabulary understands it."""

    cast: tuple[Cast, ...] = ()
    setting: str | None = None
    style: str | None = None
    understood: str = ""
    notes: tuple[str, ...] = ()


NOTHING: Final = Understanding()


def understand(text: str, lexicon: Lexicon, before: Understanding | None) -> Understanding:
    """Find cast, setting and style of a description; what is not said comes from `before`."""
    before = before or NOTHING
    first, later = split_becoming(text)
    words, words_after = words_of(first), words_of(later)
    matches = [m for m in lexicon.matches(words) if not _is_a_place(m, words)]
    after = list(lexicon.matches(words_after))
    notes: list[str] = []
    roles, read = roles_of(words, matches, notes), None
    setting = _setting(matches, notes) or _setting(after, notes) or before.setting
    if not roles:
        roles, read = stand_ins(words, matches, setting, lexicon, before.cast, notes)
    target = next((m.id for m in after if m.kind == "subject"), None)
    cast = tuple(with_motion(role, lexicon, before.cast, notes) for role in roles)
    if target:
        cast = (cast[0], Cast(subject=target, motion=cast[0].motion))
    setting = setting or _default_setting(cast, lexicon, notes)
    style = next((m.id for m in matches if m.kind == "style"), before.style)
    unknown = [*unknown_words(words, matches), *unknown_words(words_after, after)]
    notes += _not_shown([word for word in dict.fromkeys(unknown) if word != read])
    return Understanding(
        cast=cast,
        setting=setting,
        style=style,
        understood=_line(cast, setting, style, becomes=target is not None),
        notes=tuple(dict.fromkeys(notes)),
    )


# --- inside -------------------------------------------------------------------------------


def _is_a_place(match: Match, words: Sequence[str]) -> bool:
    """Tell whether left or right is a place ("on the left"), not a way to go."""
    before = tuple(words[max(0, match.start - 2) : match.start])
    return match.phrase in (("left",), ("right",)) and before == ("on", "the")


def _setting(matches: Sequence[Match], notes: list[str]) -> str | None:
    """Return the first setting named; others are noted, but not the rest of a compound."""
    named = [m for m in matches if m.kind == "setting"]
    found = [m for m in named if m.phrase[0] not in WEAK_SETTINGS or len(m.phrase) > 1] or named
    if not found:
        return None
    end, others = found[0].end, []
    for match in found[1:]:
        if match.start == end:
            end = match.end
        elif match.id != found[0].id:
            others.append(match.id)
    if others:
        notes.append(f"A shot has one setting: {found[0].id}; left out: {', '.join(others)}.")
    return found[0].id


def _default_setting(cast: Sequence[Cast], lexicon: Lexicon, notes: list[str]) -> str | None:
    settings = lexicon.vocabulary.settings
    if not settings:
        return None
    wished = SUBJECT_SETTINGS.get(cast[0].subject, "sky") if cast else "sky"
    chosen = wished if wished in settings else next(iter(settings))
    notes.append(f"No setting was named; it is {spaced(chosen)}.")
    return chosen


def _not_shown(words: Sequence[str]) -> Iterator[str]:
    """Yield what a picture of these words would have had: unknown things, and colours."""
    things = [word for word in words if word not in COLOURS]
    colours = [word for word in words if word in COLOURS]
    for said, found in (
        ("Words without a picture in this model", things),
        ("This model's subjects have their own colours; not shown", colours),
    ):
        if found:
            more = " …" if len(found) > MAX_UNKNOWN else ""
            yield f"{said}: {', '.join(found[:MAX_UNKNOWN])}{more}."


def _line(cast: Sequence[Cast], setting: str | None, style: str | None, *, becomes: bool) -> str:
    parts: list[str] = []
    if becomes and len(cast) == MAX_SUBJECTS:
        parts = [f"{cast[0].subject} becomes {cast[1].subject}", spaced(cast[0].motion)]
    elif len(cast) == MAX_SUBJECTS and cast[0] == cast[1]:
        parts = [f"two {plural(cast[0].subject)}", spaced(cast[0].motion)]
    elif len(cast) == MAX_SUBJECTS and cast[0].motion == cast[1].motion:
        parts = [f"{cast[0].subject} and {cast[1].subject}", spaced(cast[0].motion)]
    else:
        for each in cast:
            parts += [each.subject, spaced(each.motion)]
    return " · ".join(part for part in [*parts, spaced(setting), spaced(style)] if part)
