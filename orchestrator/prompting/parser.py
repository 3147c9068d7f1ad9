"""A prompt, parsed: its shots, and the instructions found in its words.

Deterministic and linear in the text; no model is needed. `parameters` takes what was pasted,
`shots` cuts the text, `instructions` reads orders, `cast` maps what is left to a model's
vocabulary, and this module puts the parts together. docs/prompts.md tells people what they can
write.
"""

import re
import unicodedata
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final, TypeVar

from orchestrator import safe_text
from orchestrator.errors import BadRequest
from orchestrator.model import Brief, Scene, SceneText, Screenplay, Size, Vocabulary
from orchestrator.prompting import measures, parameters
from orchestrator.prompting.cast import Understanding, understand
from orchestrator.prompting.instructions import Instructions, take
from orchestrator.prompting.lexicon import Lexicon
from orchestrator.prompting.shots import Cut, Piece, cut, one_line
from orchestrator.remedies import Say

T = TypeVar("T")

MAX_SHOTS: Final = 64
_NEWLINE: Final = re.compile("\r\n?|[\x85\u2028\u2029]")
OPTIONS: Final = ("size", "fps", "seconds")
"""Settings that words make where no option does; beside one they are part of what is shown."""


def of_brief(brief: Brief, vocabulary: Vocabulary, max_chars: int = 10_000) -> Screenplay:
    """Understand the prompt of a brief; what its own fields say is not read from words.

    Raises:
        BadRequest: there is nothing to show, it is no text, or it asks for what no video has.
    """
    given = [name for name in OPTIONS if getattr(brief, name) is not None]
    screenplay = parse(
        brief.prompt,
        vocabulary=vocabulary,
        scenes=brief.scenes,
        max_chars=max_chars,
        before=brief.before,
        given=() if brief.written_out else given,
        overruled=given if brief.seed is None else [*given, "seed"],
    )
    if brief.written_out:
        return screenplay
    return replace(screenplay, notes=(*screenplay.notes, *_stretched(screenplay, brief.seconds)))


def parse(
    text: str,
    *,
    vocabulary: Vocabulary,
    scenes: tuple[SceneText, ...] = (),
    max_chars: int = 10_000,
    before: Scene | None = None,
    given: Collection[str] = (),
    overruled: Collection[str] = (),
) -> Screenplay:
    """Understand a prompt, or a storyboard whose title and style the prompt is.

    `before`: the scene it goes on from; what is left unsaid is as it was there. `given`: the
    options whose words are only words. `overruled`: those whose words are instructions still,
    though an option has the value.

    Raises:
        BadRequest: there is nothing to show, it is no text, or it asks for what no video has.
    """
    clean = _checked(text, "The prompt", max_chars) if text.strip() or not scenes else ""
    clean, pasted = parameters.take(clean, given)
    shots = _storyboard(clean, scenes, max_chars) if scenes else cut(clean)
    if len(shots.pieces) > MAX_SHOTS:
        raise BadRequest(
            f"The video would have {len(shots.pieces)} shots.",
            Say(f"Ask for at most {MAX_SHOTS} shots, or make several videos."),
        )
    title, common = take(shots.title, given)
    shown = [_taken(piece, given) for piece in shots.pieces]
    every = [common, *(each.instructions for each in shown), pasted]
    built, notes = _scenes(shown, title, [common, pasted], Lexicon(vocabulary), before)
    if not built:
        raise BadRequest(
            "The prompt has instructions, but nothing to show.",
            Say('Say what the video should show, as in "a dog runs on the beach, 3 seconds".'),
        )
    size, size_notes = _size(every)
    screenplay = Screenplay(
        scenes=tuple(built),
        seconds=_last([instructions.video_seconds for instructions in every]),
        fps=_last([instructions.fps for instructions in every]),
        size=size,
        seed=_last([instructions.seed for instructions in every]),
    )
    said = _read_notes(screenplay, every, [each.piece for each in shown], overruled)
    of_instructions = [note for instructions in every for note in instructions.notes]
    more = [*shots.notes, *_contradictions(every), *size_notes, *of_instructions]
    return replace(screenplay, notes=tuple(dict.fromkeys([*said, *more, *notes])))


# --- text ---------------------------------------------------------------------------------


def _checked(text: str, noun: str, max_chars: int) -> str:
    """Return the text in normal form C, its lines ended by newlines; refuse what is no text."""
    if not text.strip():
        raise BadRequest(
            f"{noun} is empty.",
            Say('Say what the video should show, as in "a dog runs on the beach".'),
        )
    check(text, noun, max_chars)
    clean = _NEWLINE.sub("\n", unicodedata.normalize("NFC", text))
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


# --- putting together ---------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shown:
    """One shot as it was cut, and what its words say."""

    piece: Piece
    description: str
    instructions: Instructions

    @property
    def seconds(self) -> float | None:
        """Return how long it lasts, where that is said."""
        return self.instructions.seconds if self.piece.seconds is None else self.piece.seconds


def _storyboard(title: str, scenes: Sequence[SceneText], max_chars: int) -> Cut:
    pieces = [_storyboard_piece(n, scene, max_chars) for n, scene in enumerate(scenes, start=1)]
    return Cut(tuple(pieces), one_line(title))


def _storyboard_piece(number: int, scene: SceneText, max_chars: int) -> Piece:
    clean = _checked(scene.prompt, f"Scene {number} of the storyboard", max_chars)
    check(scene.negative_prompt, f"What scene {number} leaves out", max_chars)
    negative = scene.negative_prompt.strip()
    return Piece(one_line(clean), scene.seconds, negative, fixed=scene.seconds is not None)


def _taken(piece: Piece, given: Collection[str]) -> _Shown:
    description, instructions = take(piece.text, {*given, "seconds"} if piece.fixed else given)
    return _Shown(piece, description, instructions)


def _scenes(
    shown: Sequence[_Shown],
    title: str,
    common: Sequence[Instructions],
    lexicon: Lexicon,
    was: Scene | None,
) -> tuple[list[Scene], list[str]]:
    """Return the scenes, and notes on them.

    Instructions alone are no scene, but a camera's move alone ("…, then zoom in") is one more
    of the description before it, or of the one that follows.
    """
    built: list[Scene] = []
    notes: list[str] = []
    before = _before(title, lexicon, was)
    earlier = was.prompt if was else ""
    camera = next((instructions.camera for instructions in common if instructions.camera), None)
    for at, each in enumerate(shown):
        description = each.description
        if not description and each.instructions.camera:
            description = earlier or next((s.description for s in shown[at:] if s.description), "")
        if not description:
            notes += _dropped(each)
            continue
        earlier = description
        seen = understand(description, lexicon, before) if lexicon else Understanding()
        before = seen
        negatives = [each.piece.negative, *each.instructions.negative]
        negatives += [negative for instructions in common for negative in instructions.negative]
        built.append(
            Scene(
                prompt=f"{description}, {title}" if title else description,
                negative_prompt=", ".join(part for part in negatives if part),
                seconds=each.seconds,
                cast=seen.cast,
                setting=seen.setting,
                style=seen.style,
                camera=each.instructions.camera or camera,
                understood=seen.understood,
            )
        )
        notes += seen.notes
    return built, notes


def _before(title: str, lexicon: Lexicon, was: Scene | None) -> Understanding | None:
    """Return what the first scene takes over from its title and from the video it extends."""
    before = _of_title(title, lexicon)
    if was and lexicon:
        style = (before and before.style) or was.style
        return Understanding(cast=was.cast, setting=was.setting, style=style)
    return before


def _stretched(made: Screenplay, asked: float | None) -> Iterator[str]:
    """Yield what is to be said where all shots have lengths and the whole has another."""
    asked = made.seconds if asked is None else asked
    lengths = [scene.seconds for scene in made.scenes if scene.seconds is not None]
    total = sum(lengths)
    if asked is None or len(lengths) < len(made.scenes) or abs(asked - total) < 0.001:
        return
    how = "stretched" if asked > total else "shortened"
    yield (
        f"The shots last {total:g} seconds by their own lengths and the video {asked:g}: each is "
        f"{how} to {asked / total:.2f} times its length."
    )


def _dropped(each: _Shown) -> Iterator[str]:
    """Yield what is to be said of a shot that shows nothing."""
    if each.seconds is not None:
        yield f"A shot of {each.seconds:g} seconds shows nothing and is left out."


def _of_title(title: str, lexicon: Lexicon) -> Understanding | None:
    """Return the style that a storyboard's title names, and nothing else of it."""
    if not (title and lexicon):
        return None
    return Understanding(style=understand(title, lexicon, None).style)


def _last(values: Sequence[T | None]) -> T | None:
    return next((value for value in reversed(values) if value is not None), None)


def _size(every: Sequence[Instructions]) -> tuple[Size | None, list[str]]:
    """Return the size that all words together ask for: pixels, else a resolution and a shape."""
    pixels = _last([instructions.pixels for instructions in every])
    lines = _last([instructions.lines for instructions in every])
    ratio = _last([instructions.ratio for instructions in every])
    orientation = _last([instructions.orientation for instructions in every])
    named = measures.size_of(lines, ratio, orientation)
    if pixels and named and pixels != named:
        return pixels, [f"The size in pixels is taken: {pixels}, not {named}."]
    if ratio and orientation == "square" and ratio[0] != ratio[1]:
        return named, [f"The shape {ratio[0]:g}:{ratio[1]:g} is taken, not a square."]
    return pixels or named, []


def _read_notes(
    made: Screenplay,
    every: Sequence[Instructions],
    pieces: Sequence[Piece],
    overruled: Collection[str],
) -> Iterator[str]:
    """Yield which words were read as a size, a rate, a length or a seed."""
    values = {
        "size": f"The size is {made.size}",
        "fps": f"The rate is {made.fps} frames per second",
        "seconds": "The length is"
        + (f" {made.seconds:g} seconds" if made.seconds else " that of its shots"),
        "seed": f"The seed is {made.seed}",
    }
    marks = [piece.said for piece in pieces if piece.said]
    for name, value in values.items():
        said = [words for instructions in every for words in instructions.said.get(name, ())]
        said += marks if name == "seconds" else []
        if said and name not in overruled:
            words = ", ".join(f'"{each}"' for each in dict.fromkeys(said))
            yield f"{value}, read from {words}."


def _contradictions(every: Sequence[Instructions]) -> Iterator[str]:
    nouns = {
        "pixels": "size",
        "lines": "resolution",
        "ratio": "shape",
        "orientation": "orientation",
        "fps": "fps",
        "seed": "seed",
        "video_seconds": "length",
    }
    for name, noun in nouns.items():
        values = {getattr(instructions, name) for instructions in every} - {None}
        if len(values) > 1:
            yield f"The prompt names {len(values)} values of {noun}; the last one is taken."
