"""The words of a prompt that are instructions: lengths, sizes, rates, seeds, cameras, negatives.

`take` reads them out of one description and leaves the rest. Every pattern starts at a word and
has bounded repeats only, so reading is linear in the text.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from orchestrator.errors import BadRequest
from orchestrator.model import Size
from orchestrator.prompting.defaults import NEGATIVE_ENDS
from orchestrator.remedies import Say

Camera = Literal["pan_left", "pan_right", "tilt_up", "tilt_down", "zoom_in", "zoom_out"]

MAX_SECONDS: Final = 3600.0
"""A length beyond this is a slip, whatever the model."""
MAX_SEED: Final = 2**31 - 1
MAX_FPS: Final = 240
GAP: Final = "\x00"
"""Where an instruction was; prompts cannot have it, since control characters are refused."""

NUMBER_WORDS: Final = {
    "half a": 0.5,
    "one": 1.0,
    "two": 2.0,
    "three": 3.0,
    "four": 4.0,
    "five": 5.0,
    "six": 6.0,
    "seven": 7.0,
    "eight": 8.0,
    "nine": 9.0,
    "ten": 10.0,
    "twelve": 12.0,
    "fifteen": 15.0,
    "twenty": 20.0,
    "thirty": 30.0,
    "sixty": 60.0,
}
UNIT_SECONDS: Final = {"ms": 0.001, "mi": 60.0, "ho": 3600.0, "hr": 3600.0, "s": 1.0}
"""By the first letters of the unit; "milliseconds" are told apart in `_unit_seconds`."""
SIZES: Final = {
    "4k": Size(width=3840, height=2160),
    "uhd": Size(width=3840, height=2160),
    "ultra hd": Size(width=3840, height=2160),
    "1440p": Size(width=2560, height=1440),
    "1080p": Size(width=1920, height=1080),
    "full hd": Size(width=1920, height=1080),
    "fullhd": Size(width=1920, height=1080),
    "720p": Size(width=1280, height=720),
    "hd": Size(width=1280, height=720),
    "480p": Size(width=854, height=480),
    "360p": Size(width=640, height=360),
    "16:9": Size(width=1280, height=720),
    "9:16": Size(width=720, height=1280),
    "1:1": Size(width=720, height=720),
    "4:3": Size(width=960, height=720),
    "3:4": Size(width=720, height=960),
    "21:9": Size(width=1680, height=720),
    "widescreen": Size(width=1280, height=720),
    "landscape": Size(width=1280, height=720),
    "horizontal": Size(width=1280, height=720),
    "portrait": Size(width=720, height=1280),
    "vertical": Size(width=720, height=1280),
    "square": Size(width=720, height=720),
}
"""Shapes without a resolution are 720 pixels on their short side."""

_NUMBER: Final = (
    r"(?<![\w.,:])(?P<number>[-−]?\d{1,15}(?:[.,]\d{1,6})?|"
    + "|".join(sorted(NUMBER_WORDS, key=len, reverse=True))
    + ")"
)
_UNIT: Final = r"(?P<unit>seconds?|secs?|s|milliseconds?|ms|minutes?|mins?|hours?|hrs?)\b"
_FILM: Final = r"(?:clip|video|animation|movie|film|loop)"
_CLIP: Final = re.compile(
    rf"(?:\ban? )?{_NUMBER}[ -]?{_UNIT}[ -](?:long )?{_FILM}\b(?: (?:of|showing|with|where)\b)?",
    re.IGNORECASE,
)
_LENGTH: Final = re.compile(
    rf"(?:\b(?:for|lasting|lasts|takes)(?: about| exactly| around)? )?"
    rf"(?<!the )(?!\d{{4}}s\b|[5-9]0s\b){_NUMBER}[ -]?{_UNIT}(?: long\b)?",
    re.IGNORECASE,
)
_FPS: Final = re.compile(
    r"(?:\b(?:at|in|with) )?(?<![\w.,:])(?P<fps>[-−]?\d{1,9})[ -]?"
    r"(?:fps\b|frames? ?(?:per|/|a) ?s(?:ec(?:ond)?)?\b)",
    re.IGNORECASE,
)
_SEED: Final = re.compile(
    r"(?:\b(?:with|using) )?(?:\brandom )?\bseed ?[:=#]? ?(?P<seed>[-−]?\d{1,25})\b", re.IGNORECASE
)
_PIXELS: Final = re.compile(
    r"(?:\b(?:in|at) )?(?<![\w.,:])(?P<width>\d{1,9}) ?[x×*] ?(?P<height>\d{1,9})"
    r"(?: ?(?:px|pixels?))?\b",
    re.IGNORECASE,
)
_RESOLUTION: Final = re.compile(
    r"(?:\b(?:in|at) )?(?<![\w.,:])"
    r"(?P<name>4k|uhd|ultra hd|full ?hd|hd|(?:1440|1080|720|480|360)p|16:9|9:16|1:1|4:3|3:4|21:9)"
    r"\b(?: (?:resolution|format|aspect ratio|aspect|quality)\b)?",
    re.IGNORECASE,
)
_SHAPE: Final = re.compile(
    r"(?:\b(?:in|as|an?) )?\b(?P<name>widescreen|landscape|horizontal|portrait|vertical|square) "
    r"(?:video|clip|format|frame|aspect ratio|aspect|mode|orientation|crop)\b(?: of\b)?"
    r"|(?:(?<=[,.;] )|^)(?:in )?(?P<alone>widescreen|landscape|portrait|square)(?=[,.; ]{0,2}$|,)",
    re.IGNORECASE,
)
_SLOWLY: Final = r"(?:[a-z]{1,15}ly |a bit |a little )?"
_CAMERA: Final = re.compile(
    rf"(?:\b(?:the )?(?:camera|view|shot) {_SLOWLY}(?:is )?)?{_SLOWLY}(?:"
    rf"\b(?P<pan>pans?|panning|trucks?|trucking) {_SLOWLY}(?:to(?:wards)? the |to )?"
    r"(?P<side>left|right)"
    rf"|\b(?:tilts?|tilting|cranes?|craning) {_SLOWLY}(?P<tilt>up|down)(?:wards?)?"
    rf"|\b(?:zooms?|zooming|dollys?|dolly(?:ing|ies)|push(?:es|ing)?|pull(?:s|ing)?) {_SLOWLY}"
    r"(?P<zoom>in|out|back)"
    r")\b(?: slowly\b| gently\b)?",
    re.IGNORECASE,
)
_CAMERA_MOVES: Final = re.compile(
    rf"\b(?:the )?camera {_SLOWLY}(?:moves|goes|travels|slides|flies|turns) {_SLOWLY}(?:to the )?"
    r"(?P<way>left|right|up|down|closer|in|away|back|out)\b",
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
"""How people ask: "make me a video of"."""
_NEGATIVE: Final = re.compile(
    r"(?:\b(?:and |but |with )?(?:without|avoid(?:ing)?|excluding)(?: any| showing)?"
    r"|\b(?:with|and|but) no|(?:(?<=[,.;:!?\n\x00(] )|(?<=[,.;:!?\n\x00(])|^)no) ",
    re.IGNORECASE,
)
_NEGATIVE_WORDS: Final = 12
_WORD: Final = re.compile(r"[^\s,.;:!?\x00()]+")
_ENDS: Final = re.compile(r"[,.;:!?\x00()\n]")


@dataclass(slots=True)
class Wishes:
    """What the instructions of one description asked for."""

    seconds: float | None = None
    video_seconds: float | None = None
    """Of the whole video ("a 5 second clip"), not of this shot."""
    fps: int | None = None
    size: Size | None = None
    seed: int | None = None
    camera: Camera | None = None
    negative: list[str] = field(default_factory=list)


def take(text: str) -> tuple[str, Wishes]:
    """Return the description without its instructions, and what they asked for.

    Raises:
        BadRequest: a number no video can have.
    """
    wishes = Wishes()

    def clip(found: re.Match[str]) -> str:
        wishes.video_seconds = read_seconds(found["number"], found["unit"])
        return GAP

    def length(found: re.Match[str]) -> str:
        wishes.seconds = read_seconds(found["number"], found["unit"])
        return GAP

    def fps(found: re.Match[str]) -> str:
        wishes.fps = _within(found["fps"], "frames per second", MAX_FPS, least=1)
        return GAP

    def seed(found: re.Match[str]) -> str:
        wishes.seed = _within(found["seed"], "as its seed", MAX_SEED, least=0)
        return GAP

    def pixels(found: re.Match[str]) -> str:
        wishes.size = Size(width=int(found["width"]), height=int(found["height"]))
        return GAP

    def named_size(found: re.Match[str]) -> str:
        name = found["name"] or found.groupdict().get("alone") or ""
        wishes.size = SIZES[name.lower()]
        return GAP

    def camera(found: re.Match[str]) -> str:
        way = found["side"] or found["tilt"] or found["zoom"]
        wishes.camera = _WAYS[way.lower()]
        return GAP

    def camera_moves(found: re.Match[str]) -> str:
        wishes.camera = _WAYS[found["way"].lower()]
        return GAP

    for pattern, reader in (
        (_FPS, fps),
        (_CLIP, clip),
        (_LENGTH, length),
        (_SEED, seed),
        (_PIXELS, pixels),
        (_RESOLUTION, named_size),
        (_SHAPE, named_size),
        (_CAMERA_MOVES, camera_moves),
        (_CAMERA, camera),
    ):
        text = pattern.sub(reader, text)
    description = tidy(_take_negatives(text, wishes.negative))
    return _REQUEST.sub("", description), wishes


def read_seconds(number: str, unit: str) -> float:
    """Return a length in seconds.

    Raises:
        BadRequest: no video has this length.
    """
    seconds = _amount(number) * _unit_seconds(unit)
    if not 0 < seconds <= MAX_SECONDS:
        raise BadRequest(
            f"The prompt asks for a length of {number.strip()} {unit or 'seconds'}.",
            Say(f"Ask for more than 0 and at most {MAX_SECONDS:g} seconds."),
        )
    return round(seconds, 6)


def tidy(text: str) -> str:
    """Close the gaps that instructions left: no doubled spaces, commas or hanging words."""
    text = text.replace(GAP, " ")
    text = re.sub(r"[ \t\n]+", " ", text)
    text = re.sub(r"(?: ?[,;])+(?= ?[,;.!?])| (?=[,;.!?])", "", text)
    text = re.sub(r"\( ?\)|\[ ?\]", "", text)
    text = text.strip(" ,;:-–—")
    text = re.sub(r"(?:^| )(?:and|with|at|for|in)$", "", text)
    return "" if not re.search(r"[^\W_]|[^\x00-\x7f]", text) else text.strip(" ,;")


# --- inside -------------------------------------------------------------------------------


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


def _amount(number: str) -> float:
    word = number.lower()
    if word in NUMBER_WORDS:
        return NUMBER_WORDS[word]
    return float(word.replace("−", "-").replace(",", "."))


def _unit_seconds(unit: str) -> float:
    name = unit.lower()
    if name.startswith("milli"):
        return 0.001
    return next((s for start, s in UNIT_SECONDS.items() if name.startswith(start)), 1.0)


def _within(number: str, noun: str, most: int, *, least: int) -> int:
    value = int(number.replace("−", "-"))
    if not least <= value <= most:
        raise BadRequest(
            f"The prompt asks for {number} {noun}.", Say(f"Ask for {least} to {most}.")
        )
    return value
