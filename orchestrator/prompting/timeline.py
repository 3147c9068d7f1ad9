"""Timestamps in a prompt: `[00:00-00:03] a dog`, `0:00-0:03 a dog`, `[0:00] a dog [0:03] a cat`.

Each is one shot; how long it is the stamps say. A time of day is none of them: unless it stands
in square brackets, the first stamp must be the beginning of the video.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple

from orchestrator.errors import BadRequest
from orchestrator.prompting.measures import MAX_SECONDS
from orchestrator.remedies import Say

_CLOCK: Final = r"(?:\d{1,2}:)?\d{1,3}:[0-5]\d(?:[.,]\d{1,3})?"
_COUNT: Final = r"\d{1,4}(?:[.,]\d{1,3})?(?: ?s(?:ec(?:ond)?s?)?)?"
_TO: Final = r" ?(?:-{1,2}>?|[–—→]|to\b|until\b) ?"
_RANGE: Final = (
    rf"(?:{_CLOCK}{_TO}{_CLOCK}"
    rf"|{_COUNT}{_TO}\d{{1,4}}(?:[.,]\d{{1,3}})? ?s(?:ec(?:ond)?s?)?)(?![^\W_]|:\d)"
)
_LABEL: Final = r"(?:\b(?:scene|shot|part) ?\d{1,3} ?[:,–-]? ?)?"
_STAMP: Final = re.compile(
    rf"(?P<before>(?:^[ \t]*(?:[-*•] |\d{{1,2}}[.)] )?)?){_LABEL}"
    rf"(?:(?P<open>[\[(]) ?(?P<inside>{_RANGE}|{_CLOCK}) ?[\])]"
    rf"|(?<![^\W_])(?<![:.,])(?P<bare>{_RANGE}|{_CLOCK})(?![^\W_]|:\d))"
    r"(?: ?[:–—-](?=[\s*_]))?",
    re.IGNORECASE | re.MULTILINE,
)
_WITHIN: Final = re.compile(
    rf"\[ ?(?P<stamp>{_RANGE})(?: ?[:,–—-])? (?P<words>[^\[\]]{{1,2000}})\]", re.IGNORECASE
)
"""A shot inside the brackets of its stamp: "[0:00-0:03 a dog]"."""
_NUMBERED: Final = re.compile(r"(?:^|\n)\s*\d{1,3}\s*$")
"""The number of a subtitle, on a line of its own before its stamp."""
_HEADING: Final = re.compile(r"(?:^|\s)#{1,6}\s*$")
"""Marks of a heading before its stamp."""


class Span(NamedTuple):
    """The words of one shot and its length; the last stamp may leave that open."""

    text: str
    seconds: float | None
    stamp: str


@dataclass(frozen=True, slots=True)
class Timeline:
    """Shots by their stamps; `head` stands before the first one and is common to all."""

    head: str
    spans: tuple[Span, ...]
    notes: tuple[str, ...] = ()


class _Stamp(NamedTuple):
    start: int
    end: int
    shown: str
    begin: float
    until: float | None


def read(text: str) -> Timeline | None:
    """Return the shots of a text with timestamps, or None where it has none.

    Raises:
        BadRequest: a stamp ends before it begins.
    """
    within = _WITHIN.search(text)
    if within and _seconds(re.split(_TO, within["stamp"], maxsplit=1)[0]) == 0:
        text = _WITHIN.sub(r"[\g<stamp>] \g<words>", text)
    stamps = _chosen(list(_STAMP.finditer(text)))
    if not stamps:
        return None
    starts, ends = [each.start for each in stamps], [each.end for each in stamps]
    head, tail = _bare(text[: starts[0]]), _bare(text[ends[-1] :])
    if head and not tail:
        between = zip([0, *ends], starts, strict=False)
        head = ""
    else:
        between = zip(ends, [*starts[1:], len(text)], strict=True)
    texts = [_bare(text[begin:end]) for begin, end in between]
    lengths = _lengths(stamps)
    spans = [
        Span(words, seconds, stamp.shown)
        for words, seconds, stamp in zip(texts, lengths, stamps, strict=True)
    ]
    return Timeline("" if head.endswith(":") else head, tuple(spans), _notes(stamps))


# --- inside -------------------------------------------------------------------------------


def _chosen(found: Sequence[re.Match[str]]) -> list[_Stamp]:
    """Return the stamps that cut the text: in brackets, else at the beginning of lines."""
    square = [each for each in found if each["open"] == "["]
    round_ = [each for each in found if each["open"] == "("]
    bare = [each for each in found if each["bare"]]
    at_lines = [each for each in bare if each.start() == 0 or each["before"] or _leads(each)]
    if at_lines and at_lines[0] is bare[0] and not _bare(bare[0].string[: bare[0].start()]):
        at_lines = bare
    for group, anywhere in ((square, True), (round_, False), (at_lines, False)):
        ranges = [stamp for stamp in map(_stamp, group) if stamp.until is not None]
        if ranges and (anywhere or ranges[0].begin == 0):
            return ranges
        singles = [_stamp(each) for each in group if group is not at_lines or _leads(each)]
        rising = all(a.begin < b.begin for a, b in pairwise(singles))
        if len(singles) > 1 and singles[0].begin == 0 and rising:
            return singles
    return []


def _leads(found: re.Match[str]) -> bool:
    """Tell whether a stamp begins its line."""
    begin = found.string.rfind("\n", 0, found.start()) + 1
    return not found.string[begin : found.start()].strip(" \t\n*_#>")


def _stamp(found: re.Match[str]) -> _Stamp:
    shown = found["inside"] or found["bare"]
    parts = re.split(_TO, shown, maxsplit=1, flags=re.IGNORECASE)
    begin = _seconds(parts[0])
    until = _seconds(parts[1]) if len(parts) > 1 else None
    return _Stamp(found.start(), found.end(), shown, begin, until)


def _seconds(clock: str) -> float:
    total = 0.0
    for part in re.sub(r"[^\d:.,]", "", clock).replace(",", ".").split(":"):
        total = total * 60 + float(part)
    return total


def _lengths(stamps: Sequence[_Stamp]) -> list[float | None]:
    ends = [*(each.begin for each in stamps[1:]), None]
    lengths: list[float | None] = []
    for stamp, following in zip(stamps, ends, strict=True):
        until = following if stamp.until is None else stamp.until
        if until is not None and not 0 < until - stamp.begin <= MAX_SECONDS:
            raise BadRequest(
                f"The timestamp {stamp.shown} makes a shot of {until - stamp.begin:g} seconds.",
                Say("Let each end after it begins, as in [00:00-00:03] a dog runs."),
            )
        lengths.append(None if until is None else round(until - stamp.begin, 3))
    return lengths


def _notes(stamps: Sequence[_Stamp]) -> tuple[str, ...]:
    if any(each.until not in (None, following.begin) for each, following in pairwise(stamps)):
        return ("The timestamps leave gaps or overlap; the shots follow one another without.",)
    return ()


def _bare(text: str) -> str:
    """Return the words between two stamps without a subtitle's number and dashes."""
    return _HEADING.sub("", _NUMBERED.sub("", text)).strip(" \t\n-–—*•_")
