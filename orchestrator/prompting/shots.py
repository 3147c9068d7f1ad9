"""Shots of a prompt: by timestamps, list items, marks of length, and "then" and "cut to"."""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from orchestrator.prompting import timeline
from orchestrator.prompting.instructions import tidy
from orchestrator.prompting.measures import read_seconds

_ITEM: Final = re.compile(r"^ ?(?:#?\d{1,3}[.):](?!\d)|[-*•–·]) ?(?=\S)")
_INLINE_ITEM: Final = re.compile(r"(?:^| )(\d{1,2})[.)] (?=\S)")
_MARK: Final = re.compile(
    r"(?:\b(?:scene|shot|part) ?\d{1,3} ?[:,–-]? ?)?"
    r"(?P<mark>(?:\[|\((?! ?\d+ ?\))) ?(?P<number>[-−]?\d{1,15}(?:[.,]\d{1,6})?) ?"
    r"(?P<unit>s|secs?|seconds?|ms|mins?|minutes?)? ?[\])])(?: ?:(?= ))?",
    re.IGNORECASE,
)
_THEN: Final = (
    "then|after that|afterwards|finally|next|luego|después|puis|ensuite|dann|затем|потом|ثم|"
    "然后|然後|接着"
)
_CUT: Final = re.compile(
    rf"(?:[,;.!?…،，。] ?(?:and )?|(?<!now )\band )(?:{_THEN})(?:\b|(?<=[然后後接着])),? ?"
    r"(?:(?:we |it )?(?:smash |hard |jump )?cuts? (?:back )?to:? )?"
    r"|(?<!since)(?<!back)(?<!until)(?<!even)(?<!by)(?<!and) then (?=\S)"
    r"|[,;.!?…]? ?\b(?:smash |hard |jump )?cut (?:back )?to\b:? ?"
    r"|[,;.!?…]? ?\b(?:next |new )?(?:shot|scene)(?: ?\d{1,3})?: ?",
    re.IGNORECASE,
)


class Piece(NamedTuple):
    """The text of one shot, with the length its mark gave it."""

    text: str
    seconds: float | None = None
    negative: str = ""
    said: str = ""
    """The mark, where words gave the length."""
    fixed: bool = False
    """A field gave the length, and words of one are only words."""


class Cut(NamedTuple):
    """A text, cut into shots; `title` is common to all."""

    pieces: tuple[Piece, ...]
    title: str = ""
    notes: tuple[str, ...] = ()


def cut(text: str) -> Cut:
    """Cut a text into its shots."""
    if found := timeline.read(text):
        spans = [Piece(one_line(s.text), s.seconds, said=s.stamp) for s in found.spans]
        pieces = [part for span in spans for part in _parts(span)]
        return Cut(tuple(pieces), one_line(found.head), found.notes)
    return Cut(
        tuple(part for item in _items(text) for marked in _marked(item) for part in _parts(marked))
    )


def one_line(text: str) -> str:
    """Return a text with single spaces for all white space."""
    return " ".join(text.split())


# --- inside -------------------------------------------------------------------------------


def _parts(piece: Piece) -> Iterator[Piece]:
    """Yield the shots that "then" and "cut to" part; they share the length of a mark."""
    parts = [part for part in _CUT.split(piece.text) if tidy(part)] or [piece.text]
    for part in parts:
        share = piece.seconds / len(parts) if piece.seconds else piece.seconds
        yield piece._replace(text=part, seconds=share)


def _items(text: str) -> list[str]:
    """Return the items of a numbered or bulleted list, each as one line; else the whole text."""
    lines = [line for line in (one_line(raw) for raw in text.splitlines()) if line]
    starts = [bool(_ITEM.match(line)) for line in lines]
    if sum(starts) < 2:
        return _inline_items(" ".join(lines))
    items: list[str] = []
    for line, starts_item in zip(lines, starts, strict=True):
        if starts_item:
            items.append(_ITEM.sub("", line, count=1))
        elif items:
            items[-1] += f" {line}"
        elif not line.endswith(":"):
            items.append(line)
    return items


def _inline_items(line: str) -> list[str]:
    """Return the items of "1. … 2. …" in one line; else the line."""
    found = list(_INLINE_ITEM.finditer(line))
    if len(found) < 2 or [int(each[1]) for each in found] != list(range(1, len(found) + 1)):
        return [line]
    ends = [each.start() for each in found[1:]] + [len(line)]
    head = [line[: found[0].start()]] if tidy(line[: found[0].start()]) else []
    return head + [line[each.end() : end] for each, end in zip(found, ends, strict=True)]


def _marked(line: str) -> list[Piece]:
    """Cut a line at its "[3s]" marks: each is for the text after it, or before where text leads."""
    marks = list(_MARK.finditer(line))
    if not marks:
        return [Piece(line)]
    seconds = [read_seconds(mark["number"], mark["unit"] or "s") for mark in marks]
    said = [mark["mark"] for mark in marks]
    starts, ends = [m.start() for m in marks], [m.end() for m in marks]
    if tidy(line[: starts[0]]):
        texts = [line[a:b] for a, b in zip([0, *ends], starts, strict=False)]
        rest = line[ends[-1] :]
        found = [
            Piece(text, s, said=mark)
            for text, s, mark in zip(texts, seconds, said, strict=True)
            if tidy(text)
        ]
        return [*found, Piece(rest)] if tidy(rest) else found
    texts = [line[a:b] for a, b in zip(ends, [*starts[1:], len(line)], strict=True)]
    return [
        Piece(text, s, said=mark)
        for text, s, mark in zip(texts, seconds, said, strict=True)
        if tidy(text)
    ]
