"""A prompt, parsed: its shots, and the wishes found in its words.

Deterministic and linear in the text; no model is needed. `prompt_words` reads instructions,
`prompt_cast` maps what is left to a model's vocabulary, and this module cuts the text into
shots and puts the parts together. docs/prompts.md tells people what they can write.
"""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, TypeVar

from orchestrator import safe_text
from orchestrator.errors import BadRequest
from orchestrator.model import Scene, SceneText, Screenplay, Vocabulary
from orchestrator.prompting.cast import Lexicon, Understanding, understand
from orchestrator.prompting.instructions import Wishes, read_seconds, take, tidy
from orchestrator.remedies import Say

T = TypeVar("T")

MAX_SHOTS: Final = 64

_ITEM: Final = re.compile(r"^ ?(?:#?\d{1,3}[.):]|[-*•–·]) ?(?=\S)")
_INLINE_ITEM: Final = re.compile(r"(?:^| )(\d{1,2})[.)] (?=\S)")
_MARK: Final = re.compile(
    r"[\[(] ?(?P<number>[-−]?\d{1,15}(?:[.,]\d{1,6})?) ?"
    r"(?P<unit>s|secs?|seconds?|ms|mins?|minutes?)? ?[\])]",
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


def parse(
    text: str,
    *,
    vocabulary: Vocabulary,
    scenes: tuple[SceneText, ...] = (),
    max_chars: int = 10_000,
    before: Scene | None = None,
) -> Screenplay:
    """Understand a prompt, or a storyboard whose title and style the prompt is.

    `before`: the scene it goes on from; what is left unsaid is as it was there.

    Raises:
        BadRequest: there is nothing to show, it is no text, or it asks for what no video has.
    """
    clean = _checked(text, "The prompt", max_chars) if text.strip() or not scenes else ""
    if scenes:
        pieces = [_storyboard_piece(n, scene, max_chars) for n, scene in enumerate(scenes, start=1)]
        title, title_wishes = take(_one_line(clean))
    else:
        pieces, title, title_wishes = list(_pieces(clean)), "", Wishes()
    if len(pieces) > MAX_SHOTS:
        raise BadRequest(
            f"The video would have {len(pieces)} shots.",
            Say(f"Ask for at most {MAX_SHOTS} shots, or make several videos."),
        )
    taken = [take(piece.text) for piece in pieces]
    every = [title_wishes, *(wishes for _, wishes in taken)]
    built = _scenes(pieces, taken, title, title_wishes, Lexicon(vocabulary), before)
    if not built:
        raise BadRequest(
            "The prompt has instructions, but nothing to show.",
            Say('Say what the video should show, as in "a dog runs on the beach, 3 seconds".'),
        )
    notes = [note for _, found in built for note in found]
    return Screenplay(
        scenes=tuple(scene for scene, _ in built),
        seconds=_last([wishes.video_seconds for wishes in every]),
        fps=_last([wishes.fps for wishes in every]),
        size=_last([wishes.size for wishes in every]),
        seed=_last([wishes.seed for wishes in every]),
        notes=tuple(dict.fromkeys([*_contradictions(every), *notes])),
    )


# --- text ---------------------------------------------------------------------------------


def _checked(text: str, noun: str, max_chars: int) -> str:
    """Return the text in normal form C; refuse what is no text."""
    if not text.strip():
        raise BadRequest(
            f"{noun} is empty.",
            Say('Say what the video should show, as in "a dog runs on the beach".'),
        )
    check(text, noun, max_chars)
    clean = unicodedata.normalize("NFC", text)
    if not any(unicodedata.category(char)[0] in "LNS" for char in clean):
        raise BadRequest(
            f"{noun} has no words.",
            Say('Say what the video should show, as in "a dog runs on the beach".'),
        )
    return clean


def check(text: str, noun: str, max_chars: int) -> None:
    """Refuse what is no text, or too much of it.

    Raises:
        BadRequest: it has a character that no text has, or more than `max_chars`.
    """
    if len(text) > max_chars:
        raise BadRequest(
            f"{noun} has {len(text)} characters.", Say(f"Shorten it to at most {max_chars}.")
        )
    if char := safe_text.no_text(text):
        raise BadRequest(
            f"{noun} is not text: it has the character U+{ord(char):04X}.",
            Say("Send plain text in UTF-8, without control characters."),
        )


def _one_line(text: str) -> str:
    return " ".join(text.split())


# --- shots --------------------------------------------------------------------------------


def _pieces(text: str) -> Iterator[Piece]:
    """Yield the shots of a text: list items, marked stretches, and what "then" and "cut" part."""
    for item in _items(text):
        for marked in _marked(item):
            parts = [part for part in _CUT.split(marked.text) if tidy(part)]
            for part in parts or [marked.text]:
                share = marked.seconds / len(parts) if marked.seconds and parts else marked.seconds
                yield Piece(part, share)


def _items(text: str) -> list[str]:
    """Return the items of a numbered or bulleted list, each as one line; else the whole text."""
    lines = [line for line in (_one_line(raw) for raw in text.splitlines()) if line]
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
    starts, ends = [m.start() for m in marks], [m.end() for m in marks]
    if tidy(line[: starts[0]]):
        texts = [line[a:b] for a, b in zip([0, *ends], starts, strict=False)]
        rest = line[ends[-1] :]
        found = [Piece(text, s) for text, s in zip(texts, seconds, strict=True) if tidy(text)]
        return [*found, Piece(rest)] if tidy(rest) else found
    texts = [line[a:b] for a, b in zip(ends, [*starts[1:], len(line)], strict=True)]
    return [Piece(text, s) for text, s in zip(texts, seconds, strict=True) if tidy(text)]


def _storyboard_piece(number: int, scene: SceneText, max_chars: int) -> Piece:
    clean = _checked(scene.prompt, f"Scene {number} of the storyboard", max_chars)
    check(scene.negative_prompt, f"What scene {number} leaves out", max_chars)
    return Piece(_one_line(clean), scene.seconds, scene.negative_prompt.strip())


# --- putting together ---------------------------------------------------------------------


def _scenes(
    pieces: Sequence[Piece],
    taken: Sequence[tuple[str, Wishes]],
    title: str,
    common: Wishes,
    lexicon: Lexicon,
    was: Scene | None,
) -> list[tuple[Scene, tuple[str, ...]]]:
    """Return each scene with its notes.

    Instructions alone are no scene, but a camera's move alone ("…, then zoom in") is one more
    of the description before it.
    """
    built: list[tuple[Scene, tuple[str, ...]]] = []
    before = _of_title(title, lexicon)
    earlier = was.prompt if was else ""
    if was and lexicon:
        style = (before and before.style) or was.style
        before = Understanding(cast=was.cast, setting=was.setting, style=style)
    for piece, (own, wishes) in zip(pieces, taken, strict=True):
        description = own or (earlier if wishes.camera else "")
        if not description:
            continue
        earlier = description
        seen = understand(description, lexicon, before) if lexicon else Understanding()
        before = seen
        negatives = [piece.negative, *wishes.negative, *common.negative]
        scene = Scene(
            prompt=f"{description}, {title}" if title else description,
            negative_prompt=", ".join(part for part in negatives if part),
            seconds=wishes.seconds if piece.seconds is None else piece.seconds,
            cast=seen.cast,
            setting=seen.setting,
            style=seen.style,
            camera=wishes.camera or common.camera,
            understood=seen.understood,
        )
        built.append((scene, seen.notes))
    return built


def _of_title(title: str, lexicon: Lexicon) -> Understanding | None:
    """Return the style that a storyboard's title names, and nothing else of it."""
    if not (title and lexicon):
        return None
    return Understanding(style=understand(title, lexicon, None).style)


def _last(values: Sequence[T | None]) -> T | None:
    return next((value for value in reversed(values) if value is not None), None)


def _contradictions(every: Sequence[Wishes]) -> Iterator[str]:
    for noun, name in (("size", "size"), ("fps", "fps"), ("seed", "seed")):
        values = {getattr(wishes, name) for wishes in every} - {None}
        if len(values) > 1:
            yield f"The prompt names {len(values)} values of {noun}; the last one is taken."
