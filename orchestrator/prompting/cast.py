"""Who is in a shot, how they move and where: phrases of a description to ids of a vocabulary.

Longest phrase first, from left to right, one look per word. Emoji count as their Unicode names
(a rocket emoji says "rocket").
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from itertools import zip_longest
from typing import Final, Literal, NamedTuple

from orchestrator.model import Cast, Vocabulary
from orchestrator.prompting.defaults import (
    BARE_VERBS,
    COUNTS,
    DEFAULT_MOTIONS,
    MORE_MOTIONS,
    MORE_SETTINGS,
    NEAREST,
    SETTING_SUBJECTS,
    SMALL_WORDS,
    SUBJECT_SETTINGS,
)
from orchestrator.prompting.transformations import split_becoming

Kind = Literal["subject", "setting", "motion", "style"]
MAX_SUBJECTS: Final = 2
MAX_UNKNOWN: Final = 8
"""Unknown words named in a note."""
GENTLE: Final = "floats"
WEAK: Final = frozenset({"up", "down", "still", "upward", "downward"})
"""Words that move a subject only when nothing else does."""
WEAK_SETTINGS: Final = frozenset({"dark", "water", "winter"})
"""Words that are a setting only when no other is named: a dark forest is a forest."""
SIDES: Final = frozenset({"left", "right", "leftward", "rightward", "leftwards", "rightwards"})
TYPO_MIN: Final = 6
TYPO_MAX: Final = 16
"""Unknown words of this many letters may be misspelt subjects; shorter ones may be anything."""
TYPO_LIKENESS: Final = 0.8
_WORD: Final = re.compile(r"[^\W_]+")
_JOINTS: Final = frozenset({"and", "with", "plus", "a", "an", "the", "another", "one", "two"})


class Match(NamedTuple):
    """A phrase of the vocabulary, found at words `start` to `end`."""

    start: int
    end: int
    kind: Kind
    id: str
    phrase: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Understanding:
    """What a vocabulary says of one description."""

    cast: tuple[Cast, ...] = ()
    setting: str | None = None
    style: str | None = None
    understood: str = ""
    notes: tuple[str, ...] = ()


@dataclass(slots=True)
class _Role:
    subject: str
    motions: list[Match] = field(default_factory=list)
    count: int = 1


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


def understand(text: str, lexicon: Lexicon, before: Understanding | None) -> Understanding:
    """Find cast, setting and style of a description; what is not said comes from `before`."""
    first, later = split_becoming(text)
    words = words_of(first)
    matches = [m for m in lexicon.matches(words) if not _is_a_place(m, words)]
    after = list(lexicon.matches(words_of(later)))
    notes: list[str] = []
    roles = _roles(words, matches, notes)
    setting = (
        _setting(matches, notes) or _setting(after, notes) or (before.setting if before else None)
    )
    style = next((m.id for m in matches if m.kind == "style"), before.style if before else None)
    read: str | None = None
    if not roles:
        motions = [m for m in matches if m.kind == "motion"]
        roles, read = _stand_ins(words, matches, motions, setting, lexicon, before, notes)
    target = next((m.id for m in after if m.kind == "subject"), None)
    cast = tuple(_with_motion(role, lexicon, before, notes) for role in roles)
    if target:
        cast = (cast[0], Cast(subject=target, motion=cast[0].motion))
    if setting is None:
        setting = _default_setting(cast, lexicon, notes)
    unknown = [*_unknown(words, matches), *_unknown(words_of(later), after)]
    odd = [word for word in dict.fromkeys(unknown) if word != read]
    if odd:
        more = " …" if len(odd) > MAX_UNKNOWN else ""
        notes.append(
            f"Words without a picture in this model: {', '.join(odd[:MAX_UNKNOWN])}{more}."
        )
    return Understanding(
        cast=cast,
        setting=setting,
        style=style,
        understood=_line(cast, setting, style, becomes=target is not None),
        notes=tuple(dict.fromkeys(notes)),
    )


# --- phrases ------------------------------------------------------------------------------


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
            yield (*phrase[:-1], _plural(phrase[-1])), kind, id_
        elif kind == "motion" and (base := _base(phrase[0])) in BARE_VERBS:
            yield (base, *phrase[1:]), kind, id_
            yield (base.removesuffix("e") + "ing", *phrase[1:]), kind, id_
    for phrase_, id_ in MORE_MOTIONS.items():
        if id_ in vocabulary.motions:
            yield tuple(phrase_.split()), "motion", id_
    for phrase_, id_ in MORE_SETTINGS.items():
        if id_ in vocabulary.settings:
            yield tuple(phrase_.split()), "setting", id_


def _is_a_place(match: Match, words: Sequence[str]) -> bool:
    """Whether left or right says where somebody is ("on the left"), not where they go."""
    before = tuple(words[max(0, match.start - 2) : match.start])
    return match.phrase in (("left",), ("right",)) and before == ("on", "the")


def _plural(word: str) -> str:
    if word.endswith(("s", "x", "ch", "sh")):
        return word + "es"
    return word[:-1] + "ies" if word.endswith("y") and word[-2:-1] not in "aeiou" else word + "s"


def _base(verb: str) -> str:
    if verb.endswith("ies"):
        return verb[:-3] + "y"
    if verb.endswith(("shes", "ches", "sses", "oes")):
        return verb[:-2]
    return verb.removesuffix("s")


def _named(char: str) -> str:
    if unicodedata.category(char) != "So":
        return char
    return f" {unicodedata.name(char, '').lower().replace(' face', '')} "


# --- roles --------------------------------------------------------------------------------


def _roles(words: Sequence[str], matches: Sequence[Match], notes: list[str]) -> list[_Role]:
    """Give each motion to its subject: to the ones just named, or to the one it stands before."""
    roles: dict[str, _Role] = {}
    left_out: list[str] = []
    group: list[_Role] = []
    group_moves, group_end = False, 0
    coming: list[Match] = []
    actors = [m for m in matches if m.kind in ("subject", "motion")]
    for match, after in zip_longest(actors, actors[1:]):
        if match.kind == "motion":
            before_noun = after and after.kind == "subject" and after.start == match.end
            if not group or (before_noun and match.phrase[-1].endswith("ing")):
                coming.append(match)
            else:
                for role in group:
                    role.motions.append(match)
                group_moves = True
            continue
        role = roles.get(match.id) or _Role(match.id)
        if match.id not in roles:
            if len(roles) < MAX_SUBJECTS:
                roles[match.id] = role
            else:
                left_out.append(match.id)
        role.motions += coming
        nearby = words[max(group_end, match.start - 3) : match.start]
        role.count = max([role.count, *(COUNTS.get(word, 1) for word in nearby)])
        joined = group and not group_moves and _joined(words[group_end : match.start])
        group = [*group, role] if joined else [role]
        group_moves, group_end = bool(coming), match.end
        coming = []
    if left_out:
        shown = " and ".join(roles)
        notes.append(
            f"A shot shows two subjects: {shown}; left out: {', '.join(dict.fromkeys(left_out))}."
        )
    return _counted(list(roles.values()), notes)


def _counted(roles: list[_Role], notes: list[str]) -> list[_Role]:
    """Show one subject twice where several are wanted and nobody else is."""
    wanted = sum(role.count for role in roles)
    if len(roles) == 1 and wanted > 1:
        roles = [*roles, *roles]
    if wanted > MAX_SUBJECTS:
        shown = " and ".join(f"one {role.subject}" for role in roles)
        notes.append(f"A shot shows at most two subjects: {shown}.")
    return roles


def _joined(between: Sequence[str]) -> bool:
    """Whether the words between two subjects make them one group ("a cat and a dog")."""
    return len(between) <= 4 and bool({"and", "with", "plus"}.intersection(between))


def _stand_ins(
    words: Sequence[str],
    matches: Sequence[Match],
    motions: list[Match],
    setting: str | None,
    lexicon: Lexicon,
    before: Understanding | None,
    notes: list[str],
) -> tuple[list[_Role], str | None]:
    """Return who is shown where no known subject is named, and the word that was read as one.

    It is the last shot's subject, a near or misspelt one, or one that fits the setting.
    """
    if before and before.cast:
        return [_Role(each.subject, list(motions)) for each in before.cast], None
    subjects = lexicon.vocabulary.subjects
    for word in words:
        near = NEAREST.get(word) or NEAREST.get(word.removesuffix("s"), "")
        if near in subjects:
            notes.append(f"This model does not know {word!r}; a {near} is shown in its place.")
            return [_Role(near, list(motions))], word
    for word in _unknown(words, matches)[:MAX_UNKNOWN]:
        if meant := lexicon.misspelt(word):
            notes.append(f"{word!r} is read as {meant}.")
            return [_Role(meant, list(motions))], word
    wished = SETTING_SUBJECTS.get(setting or "", "balloon")
    chosen = wished if wished in subjects else next(iter(subjects))
    notes.append(
        f"No subject that this model knows was named; a {chosen} is shown. "
        f"It knows {len(subjects)}: {', '.join(list(subjects)[:8])} …"
    )
    return [_Role(chosen, list(motions))], None


def _with_motion(
    role: _Role, lexicon: Lexicon, before: Understanding | None, notes: list[str]
) -> Cast:
    if role.motions:
        chosen = _chosen(role.motions)
        if "moves_left" in {m.id for m in role.motions} and not chosen.endswith("_left"):
            notes.append(f"The {role.subject} {_spaced(chosen)}, which goes no way to the left.")
        return Cast(subject=role.subject, motion=chosen)
    motions = lexicon.vocabulary.motions
    earlier = next((c for c in before.cast if c.subject == role.subject), None) if before else None
    motion = earlier.motion if earlier else DEFAULT_MOTIONS.get(role.subject, GENTLE)
    if motion not in motions:
        motion = next(iter(motions), None)
    if motion and not earlier:
        notes.append(f"No motion was named for the {role.subject}; it {_spaced(motion)}.")
    return Cast(subject=role.subject, motion=motion)


def _chosen(motions: Sequence[Match]) -> str:
    """Return the motion that says most: an own way of moving, else one to the side named."""
    strong = [m for m in motions if m.phrase[0] not in WEAK or len(m.phrase) > 1] or motions
    own = [m for m in strong if not m.id.endswith(("_left", "_right"))]
    if own:
        return own[0].id
    sides = [m.id.rpartition("_")[2] for m in strong if SIDES.intersection(m.phrase)]
    ways = [m for m in strong if not sides or m.id.endswith(sides[0])]
    return ways[0].id


# --- setting, notes -----------------------------------------------------------------------


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
    notes.append(f"No setting was named; it is {_spaced(chosen)}.")
    return chosen


def _unknown(words: Sequence[str], matches: Sequence[Match]) -> list[str]:
    """Return the words, each once, that are neither in the vocabulary nor small."""
    known = {at for m in matches for at in range(m.start, m.end)}
    odd = (
        word
        for at, word in enumerate(words)
        if at not in known and word not in SMALL_WORDS and len(word) > 2
    )
    return list(dict.fromkeys(odd))


def _line(cast: Sequence[Cast], setting: str | None, style: str | None, *, becomes: bool) -> str:
    parts: list[str] = []
    if becomes and len(cast) == MAX_SUBJECTS:
        parts = [f"{cast[0].subject} becomes {cast[1].subject}", _spaced(cast[0].motion)]
    elif len(cast) == MAX_SUBJECTS and cast[0] == cast[1]:
        parts = [f"two {_plural(cast[0].subject)}", _spaced(cast[0].motion)]
    elif len(cast) == MAX_SUBJECTS and cast[0].motion == cast[1].motion:
        parts = [f"{cast[0].subject} and {cast[1].subject}", _spaced(cast[0].motion)]
    else:
        for each in cast:
            parts += [each.subject, _spaced(each.motion)]
    return " · ".join(part for part in [*parts, _spaced(setting), _spaced(style)] if part)


def _spaced(id_: str | None) -> str:
    return (id_ or "").replace("_", " ")
