"""The words of a prompt that are instructions: lengths, sizes, rates, seeds, cameras, negatives.

`take` reads them out of one description and leaves the rest. Every pattern starts at a word and
has bounded repeats only, so reading is linear in the text.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final, Literal

from orchestrator.model import Size
from orchestrator.prompting import measures, standing
from orchestrator.prompting.defaults import NEGATIVE_ENDS
from orchestrator.prompting.measures import Kind, Measure

Camera = Literal["pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out"]

GAP: Final = "\x00"
"""Mark of an instruction taken out; prompts have none: control characters are refused."""

NOUNS: Final = {
    "fps": "fps",
    "seconds": "a shot's length",
    "video_seconds": "the video's length",
    "seed": "seed",
    "pixels": "size",
    "lines": "resolution",
    "ratio": "shape",
    "orientation": "orientation",
}
_SLOWLY: Final = r"(?:[a-z]{1,15}ly |a bit |a little )?"
_CAMERA: Final = re.compile(
    rf"\b(?:the )?camera {_SLOWLY}(?:moves|goes|travels|slides|flies|turns) {_SLOWLY}(?:to the )?"
    r"(?P<way>left|right|up|down|closer|in|away|back|out)\b"
    rf"|(?:\b(?:the )?(?:camera|view|shot) {_SLOWLY}(?:is )?)?{_SLOWLY}(?:"
    rf"\b(?P<pan>pans?|panning|trucks?|trucking) {_SLOWLY}(?:to(?:wards)? the |to )?"
    r"(?P<side>left|right)"
    rf"|\b(?:tilts?|tilting|cranes?|craning) {_SLOWLY}(?P<tilt>up|down)(?:wards?)?"
    rf"|\b(?:zooms?|zooming|dollys?|dolly(?:ing|ies)|push(?:es|ing)?|pull(?:s|ing)?) {_SLOWLY}"
    r"(?P<zoom>in|out|back)"
    r")\b(?: slowly\b| gently\b)?(?: on(?: to)?(?= (?:an?|the|my|his|her|its|their|our) ))?",
    re.IGNORECASE,
)
_WAYS: Final[dict[str, Camera]] = {
    "left": "pan_left",
    "right": "pan_right",
    "up": "tilt_up",
    "down": "tilt_down",
    "closer": "zoom_in",
    "in": "zoom_in",
    "away": "zoom_out",
    "back": "zoom_out",
    "out": "zoom_out",
}
_REQUEST: Final = re.compile(
    r"^(?:please )?(?:(?:make|create|generate|render|show|draw)(?: me| us)? )?"
    r"(?:an? (?:short |little )?(?:video|clip|animation|film|movie) "
    r"(?:of|showing|about|with|where) )?(?=\S)",
    re.IGNORECASE,
)
"""Words of asking: "make me a video of"."""
_NEGATIVE: Final = re.compile(
    r"(?:\b(?:and |but |with )?(?:without|avoid(?:ing)?|excluding)(?: any| showing)?"
    r"|\b(?:with|and|but) no|(?:(?<=[,.;:!?\n\x00(] )|(?<=[,.;:!?\n\x00(])|^)no) ",
    re.IGNORECASE,
)
_NEGATIVE_WORDS: Final = 12
_WORD: Final = re.compile(r"[^\s,.;:!?\x00()]+")
_ENDS: Final = re.compile(r"[,.;:!?\x00()\n]")


@dataclass(slots=True)
class Instructions:
    """Instructions found in one description."""

    seconds: float | None = None
    video_seconds: float | None = None
    """Of the whole video ("a 5 second clip"), not of this shot."""
    fps: int | None = None
    pixels: Size | None = None
    lines: int | None = None
    """Of the resolution: pixels on the short side."""
    ratio: tuple[float, float] | None = None
    orientation: str | None = None
    seed: int | None = None
    camera: Camera | None = None
    negative: list[str] = field(default_factory=list)
    said: dict[str, list[str]] = field(default_factory=dict)
    """Option -> the words that were read as one."""
    notes: list[str] = field(default_factory=list)


def take(text: str, given: Collection[str] = ()) -> tuple[str, Instructions]:
    """Return the description without its instructions, and what they asked for.

    `given`: what options say already (`size`, `fps`, `seconds`, `seed`); words of these are left
    in the description.

    Raises:
        BadRequest: a number no video can have.
    """
    instructions = Instructions()
    text = _take_orders(text, instructions, given)

    def camera(found: re.Match[str]) -> str:
        way = found["way"] or found["side"] or found["tilt"] or found["zoom"]
        move = _WAYS[way.lower()]
        if (was := instructions.camera) not in (None, move):
            instructions.notes.append(
                f"One shot has one move of the camera: {_named(move)} is taken, {_named(was)} is "
                'left out; with "then" between them they are two shots.'
            )
        instructions.camera = move
        return GAP

    text = _CAMERA.sub(camera, text)
    description = tidy(_take_negatives(text, instructions.negative))
    return _REQUEST.sub("", description), instructions


def tidy(text: str) -> str:
    """Close the gaps that instructions left: no doubled spaces, commas or hanging words."""
    text = re.sub(rf"(?:^|(?<=[.!?]))[ ,;]?(?:(?:{GAP}[ ,;]?)+[.!?])+", "", text).replace(GAP, " ")
    text = re.sub(r"[ \t\n]+", " ", text)
    text = re.sub(r"(?: ?[,;|])+(?= ?[,;|.!?)\]])| (?=[,;.!?)])", "", text)
    text = re.sub(r"\([ ,;|]{0,9}\)|\[[ ,;|]{0,9}\]", "", text)
    text = text.strip(" ,;:|-–—")
    text = re.sub(r"(?:^| )(?:and|with|at|for|in)$", "", text)
    return "" if not re.search(r"[^\W_]|[^\x00-\x7f]", text) else text.strip(" ,;")


# --- inside -------------------------------------------------------------------------------


def _take_orders(text: str, instructions: Instructions, given: Collection[str]) -> str:
    """Move sizes, rates, lengths and seeds into `instructions`, with the words that said them."""
    parts: list[str] = []
    at = 0
    for order in standing.orders(text, given):
        parts += [text[at : order.start], GAP]
        at = order.end
        for each in order.measures:
            _read(each, instructions, whole=order.of_the_video)
        for name in dict.fromkeys(measures.FIELDS[each.kind] for each in order.measures):
            instructions.said.setdefault(name, []).append(
                text[order.start : order.end].strip(" ,;:")
            )
    return "".join([*parts, text[at:]])


def _read(each: Measure, instructions: Instructions, *, whole: bool) -> None:
    """Keep what one measure says."""
    match each.kind:
        case Kind.FPS:
            fps, rounded = measures.read_fps(each["number"])
            _keep(instructions, "fps", fps)
            if rounded:
                instructions.notes.append(
                    f"Only whole frames per second can be made: {each['number']} is made as {fps}."
                )
        case Kind.SECONDS:
            seconds = measures.read_seconds(each["number"], each["unit"])
            _keep(instructions, "video_seconds" if whole else "seconds", seconds)
        case Kind.SEED:
            _keep(instructions, "seed", measures.read_seed(each["number"]))
        case Kind.PIXELS:
            size = Size(width=int(each["width"]), height=int(each["height"]))
            _keep(instructions, "pixels", size)
        case Kind.LINES:
            _keep(instructions, "lines", measures.LINES[each["name"].lower()])
        case Kind.RATIO:
            _keep(instructions, "ratio", measures.read_ratio(each["across"], each["down"]))
        case Kind.ORIENTATION:
            _keep(instructions, "orientation", measures.ORIENTATIONS[each["name"].lower()])


def _keep(instructions: Instructions, name: str, value: object) -> None:
    """Keep a value, and note where it takes the place of another."""
    if getattr(instructions, name) not in (None, value):
        instructions.notes.append(f"Two values of {NOUNS[name]} are named; the last one is taken.")
    setattr(instructions, name, value)


def _named(move: str | None) -> str:
    return (move or "").replace("_", " ")


def _take_negatives(text: str, found: list[str]) -> str:
    """Move what follows "without" or "no" into `found`, up to the end of its clause."""
    parts: list[str] = []
    at = 0
    while match := _NEGATIVE.search(text, at):
        stop = _negative_end(text, match.end())
        phrase = text[match.end() : stop].strip()
        if not phrase:
            parts.append(text[at : match.end()])
            at = match.end()
            continue
        found.append(phrase)
        parts += [text[at : match.start()], GAP]
        at = stop
    return "".join([*parts, text[at:]])


def _negative_end(text: str, start: int) -> int:
    end = start
    for count in range(_NEGATIVE_WORDS):
        word = _WORD.search(text, end, end + 80)
        between = text[end : word.start()] if word else ""
        if not word or _ENDS.search(between):
            break
        if count and word[0].lower() in NEGATIVE_ENDS:
            ground = text[end : end + 20].lower().startswith((" in the back", " in the fore"))
            if not ground:
                break
        end = word.end()
    return end
