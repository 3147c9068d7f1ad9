"""Subjects of a shot and their motions: who is named, who stands in, and how each moves."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Final

from orchestrator.model import Cast
from orchestrator.prompting.defaults import (
    COLOURS,
    COUNTS,
    DEFAULT_MOTIONS,
    NEAREST,
    SETTING_SUBJECTS,
    SMALL_WORDS,
)
from orchestrator.prompting.lexicon import Lexicon, Match

MAX_SUBJECTS: Final = 2
MAX_UNKNOWN: Final = 8
"""Unknown words named in a note."""
GENTLE: Final = "floats"
WEAK: Final = frozenset({"up", "down", "still", "upward", "downward"})
"""Words that move a subject only when nothing else does."""
SIDES: Final = frozenset({"left", "right", "leftward", "rightward", "leftwards", "rightwards"})


@dataclass(slots=True)
class Role:
    """A subject of a shot, how often it is wanted and the motions that were named for it."""

    subject: str
    motions: list[Match] = field(default_factory=list)
    count: int = 1


def roles_of(words: Sequence[str], matches: Sequence[Match], notes: list[str]) -> list[Role]:
    """Give each motion to its subject: to the ones just named, or to the one it stands before."""
    roles: dict[str, Role] = {}
    left_out: list[str] = []
    group: list[Role] = []
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
        role = roles.get(match.id) or Role(match.id)
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


def _counted(roles: list[Role], notes: list[str]) -> list[Role]:
    """Show one subject twice where several are wanted and nobody else is."""
    wanted = sum(role.count for role in roles)
    if len(roles) == 1 and wanted > 1:
        roles = [*roles, *roles]
    if wanted > MAX_SUBJECTS:
        shown = " and ".join(f"one {role.subject}" for role in roles)
        notes.append(f"A shot shows at most two subjects: {shown}.")
    return roles


def _joined(between: Sequence[str]) -> bool:
    """Tell whether the words between two subjects make them one group ("a cat and a dog")."""
    return len(between) <= 4 and bool({"and", "with", "plus"}.intersection(between))


def stand_ins(
    words: Sequence[str],
    matches: Sequence[Match],
    setting: str | None,
    lexicon: Lexicon,
    before: Sequence[Cast],
    notes: list[str],
) -> tuple[list[Role], str | None]:
    """Return who is shown where no known subject is named, and the word that was read as one.

    It is the last shot's subject, a near or misspelt one, or one that fits the setting.
    """
    motions = [m for m in matches if m.kind == "motion"]
    if before:
        return [Role(each.subject, list(motions)) for each in before], None
    subjects = lexicon.vocabulary.subjects
    for word in words:
        near = NEAREST.get(word) or NEAREST.get(word.removesuffix("s"), "")
        if near in subjects:
            notes.append(f"This model does not know {word!r}; a {near} is shown in its place.")
            return [Role(near, list(motions))], word
    for word in unknown_words(words, matches)[:MAX_UNKNOWN]:
        if meant := lexicon.misspelt(word):
            notes.append(f"{word!r} is read as {meant}.")
            return [Role(meant, list(motions))], word
    wished = SETTING_SUBJECTS.get(setting or "", "balloon")
    chosen = wished if wished in subjects else next(iter(subjects))
    notes.append(
        f"No subject that this model knows was named; a {chosen} is shown. "
        f"It knows {len(subjects)}: {', '.join(list(subjects)[:8])} …"
    )
    return [Role(chosen, list(motions))], None


def with_motion(role: Role, lexicon: Lexicon, before: Sequence[Cast], notes: list[str]) -> Cast:
    """Return a subject with its motion: the one named, that of the shot before, or its own."""
    if role.motions:
        chosen = _chosen(role.motions)
        if "moves_left" in {m.id for m in role.motions} and not chosen.endswith("_left"):
            notes.append(f"The {role.subject} {spaced(chosen)}, which goes no way to the left.")
        return Cast(subject=role.subject, motion=chosen)
    motions = lexicon.vocabulary.motions
    earlier = next((c for c in before if c.subject == role.subject), None)
    motion = earlier.motion if earlier else DEFAULT_MOTIONS.get(role.subject, GENTLE)
    if motion not in motions:
        motion = next(iter(motions), None)
    if motion and not earlier:
        notes.append(f"No motion was named for the {role.subject}; it {spaced(motion)}.")
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


def unknown_words(words: Sequence[str], matches: Sequence[Match]) -> list[str]:
    """Return the words, each once, that are neither in the vocabulary nor small; colours too."""
    known = {at for m in matches for at in range(m.start, m.end)}
    odd = (
        word
        for at, word in enumerate(words)
        if at not in known and (word in COLOURS or (word not in SMALL_WORDS and len(word) > 2))
    )
    return list(dict.fromkeys(odd))


def spaced(id_: str | None) -> str:
    """Return an id as words."""
    return (id_ or "").replace("_", " ")
