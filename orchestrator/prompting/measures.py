"""Sizes, rates, lengths and seeds as a description may write them: where each is, and its value.

Whether one is an order or only words is for `standing` to say. Every pattern starts at a word
and has bounded repeats only, so finding them is linear in the text.
"""

import re
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from orchestrator.errors import BadRequest
from orchestrator.model import Size
from orchestrator.remedies import Say

MAX_SECONDS: Final = 3600.0
"""A length beyond this is a slip, whatever the model."""
MAX_SEED: Final = 2**31 - 1
MAX_FPS: Final = 240
LEAST_SIDE_PX: Final = 16
"""Fewer pixels are no video: a 4x4 truck, a 2x2 grid."""
PLAIN_SIDE_PX: Final = 64
"""Sides from which a size is one even behind a word: "a dog 640x360"."""
SHORT_SIDE_PX: Final = 720
"""Of a shape without a resolution."""
WIDE: Final = (16.0, 9.0)

NUMBER_WORDS: Final = {
    "half a": 0.5,
    "half an": 0.5,
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
LINES: Final = {
    "4k": 2160,
    "uhd": 2160,
    "ultra hd": 2160,
    "2160p": 2160,
    "1440p": 1440,
    "qhd": 1440,
    "1080p": 1080,
    "full hd": 1080,
    "fullhd": 1080,
    "fhd": 1080,
    "720p": 720,
    "hd": 720,
    "480p": 480,
    "360p": 360,
    "240p": 240,
}
"""Pixels on the short side."""
RATIOS: Final = frozenset({"16:9", "21:9", "9:21", "1:1", "4:3", "3:4", "4:5", "5:4", "16:10"})
"""Shapes that nobody takes for a score; 9:16 is a time as well."""
WIDE_RATIOS: Final = frozenset({"16:9", "9:16", "21:9"})
"""Shapes that no match ends in."""
ORIENTATIONS: Final = {
    "widescreen": "landscape",
    "landscape": "landscape",
    "horizontal": "landscape",
    "portrait": "portrait",
    "vertical": "portrait",
    "square": "square",
}


class Kind(Enum):
    """The measured quantity."""

    FPS = auto()
    SECONDS = auto()
    SEED = auto()
    PIXELS = auto()
    LINES = auto()
    RATIO = auto()
    ORIENTATION = auto()


SIZES: Final = frozenset({Kind.PIXELS, Kind.LINES, Kind.RATIO, Kind.ORIENTATION})
FIELDS: Final[dict[Kind, str]] = {
    Kind.FPS: "fps",
    Kind.SECONDS: "seconds",
    Kind.SEED: "seed",
    **dict.fromkeys(SIZES, "size"),
}
"""Kind -> the option that says the same."""


class Alone(Enum):
    """Ordinary words behind which a measure is an order without anything that says so."""

    ANYWHERE = auto()
    AT_AN_END = auto()
    AT_AN_END_NO_TIME = auto()
    """Unless the word before it tells the time: "it is 9:16"."""
    BEHIND_A_VERB = auto()
    """"runs 5s", but not "an iPhone 5s"."""
    NOWHERE = auto()
    """Only apart: "…, portrait"."""
    BY_NAME = auto()
    """Not even apart: "oil on canvas, 24x36"."""
    AT_AN_END_BESIDE_A_SIZE = auto()
    """"9x16, 1080p", but not "9/16"."""
    BESIDE_A_SIZE = auto()
    """Not even apart: "3:2" is a score, "3:2, 1080p" is not."""


@dataclass(frozen=True, slots=True)
class Measure:
    """One measure in a text, from `start` to `end`."""

    kind: Kind
    start: int
    end: int
    found: re.Match[str]
    alone: Alone

    def __getitem__(self, group: str) -> str:
        return self.found[group] or ""


_AMOUNT: Final = r"(?<![\w.,:$€£])(?<!\d[-–])(?P<number>[-−]?\d{1,15}(?:[.,]\d{1,6})?"
_FPS: Final = re.compile(
    rf"{_AMOUNT}(?:/100[01])?)[ -]?(?:fps\b|frames? ?(?:per|/|a|each) ?s(?:ec(?:ond)?)?\b)",
    re.IGNORECASE,
)
_BROADCAST: Final = re.compile(
    r"(?<![\w.,:$€£-])(?P<number>23[.,]976|23[.,]98|29[.,]97|47[.,]95\d?|59[.,]94\d?|119[.,]88"
    r"|(?:24|30|48|60|120)000/1001|(?:24|25|30|48|50|60)(?=p))p?"
    r"(?![\w:%]|[.,]\d)",
    re.IGNORECASE,
)
_SECONDS: Final = re.compile(
    rf"{_AMOUNT}|{'|'.join(sorted(NUMBER_WORDS, key=len, reverse=True))})(?P<gap>[ -]?)"
    r"(?P<unit>seconds?|secs?|s|milliseconds?|ms|minutes?|mins?|hours?|hrs?)\b(?!['’]\w)",
    re.IGNORECASE,
)
_SEED: Final = re.compile(
    r"\b(?:random )?seed ?[:=#]? ?(?P<number>[-−]?\d{1,25})\b(?![.:]\d)", re.IGNORECASE
)
_PIXELS: Final = re.compile(
    r"(?<![\w.,:×*$€£])(?P<width>\d{1,9}) ?[x×*] ?(?P<height>\d{1,9})(?: ?(?:px|pixels?))?\b"
    r"(?! ?[x×*] ?\d|[.,]\d)",
    re.IGNORECASE,
)
_BEHIND_LINES: Final = re.compile(
    r"(?<=\d[pk])(?P<number>24|25|30|48|50|60|90|120)(?:p|fps)?\b(?!-\w)", re.IGNORECASE
)
"""The rate of "1080p60"."""
_LINES: Final = re.compile(
    r"(?<![\w.,:$€£])(?P<name>4k|uhd|ultra hd|full ?hd|fhd|qhd|hd"
    r"|(?:2160|1440|1080|720|480|360|240)p)"
    r"(?:\b(?!-\w)|(?<=[pk])(?=(?:24|25|30|48|50|60|90|120)(?:p|fps)?\b))",
    re.IGNORECASE,
)
_RATIO: Final = re.compile(
    r"(?<![\w.,:$€£-])(?P<across>\d{1,2}(?:\.\d{1,2})?):(?P<down>\d{1,2}(?:\.\d{1,2})?)"
    r"(?![\w:%]|[.,]\d|[-–]\d)"
)
_LOOSE_RATIO: Final = re.compile(
    r"(?<![\w.,:×*/$€£-])(?P<across>16|9|21)(?: ?[x×/] ?| : )(?P<down>9|16|21)(?![\w:%/]|[.,]\d)",
    re.IGNORECASE,
)
"""A shape as people write it beside a size: "9x16, 1080p"."""
_ORIENTATION: Final = re.compile(rf"\b(?P<name>{'|'.join(ORIENTATIONS)})\b(?!-\w)", re.IGNORECASE)


def found_in(text: str, given: Collection[str]) -> list[Measure]:
    """Return the measures of a text in their order; none of what an option gives."""
    every: list[Measure] = []
    for kind, pattern, alone in (
        (Kind.FPS, _FPS, lambda _: Alone.ANYWHERE),
        (Kind.FPS, _BROADCAST, lambda _: Alone.NOWHERE),
        (Kind.FPS, _BEHIND_LINES, lambda _: Alone.NOWHERE),
        (Kind.SEED, _SEED, lambda _: Alone.ANYWHERE),
        (Kind.SECONDS, _SECONDS, _seconds_alone),
        (Kind.PIXELS, _PIXELS, _pixels_alone),
        (Kind.LINES, _LINES, lambda _: Alone.AT_AN_END),
        (Kind.RATIO, _RATIO, _ratio_alone),
        (Kind.RATIO, _LOOSE_RATIO, lambda _: Alone.AT_AN_END_BESIDE_A_SIZE),
        (Kind.ORIENTATION, _ORIENTATION, lambda _: Alone.NOWHERE),
    ):
        if FIELDS[kind] not in given:
            every += _matches(kind, pattern, alone, text)
    apart: list[Measure] = []
    for each in sorted(every, key=lambda each: (each.start, -each.end)):
        if not apart or each.start >= apart[-1].end:
            apart.append(each)
    return apart


def read_seconds(number: str, unit: str) -> float:
    """Return a length in seconds.

    Raises:
        BadRequest: no video has this length.
    """
    seconds = seconds_of(number, unit)
    if not 0 < seconds <= MAX_SECONDS:
        raise BadRequest(
            f"The prompt asks for a length of {number.strip()} {unit or 'seconds'}.",
            Say(
                f"Ask for more than 0 and at most {MAX_SECONDS:g} seconds; with the length as "
                "an option (`--seconds`), the words are only words."
            ),
        )
    return round(seconds, 6)


def seconds_of(number: str, unit: str) -> float:
    """Return a length in seconds, whether or not a video has it."""
    return amount(number) * _unit_seconds(unit)


def read_fps(number: str) -> tuple[int, bool]:
    """Return a whole number of frames per second, and whether it was rounded.

    Raises:
        BadRequest: no video has this rate.
    """
    asked = amount(number)
    fps = int(asked + 0.5) if asked > 0 else int(asked)
    if not 1 <= fps <= MAX_FPS:
        raise BadRequest(
            f"The prompt asks for {number} frames per second.", Say(f"Ask for 1 to {MAX_FPS}.")
        )
    return fps, fps != asked


def read_seed(number: str) -> int:
    """Return a seed.

    Raises:
        BadRequest: no generator takes it.
    """
    seed = int(number.replace("−", "-"))
    if not 0 <= seed <= MAX_SEED:
        raise BadRequest(
            f"The prompt asks for {number} as its seed.", Say(f"Ask for 0 to {MAX_SEED}.")
        )
    return seed


def read_ratio(across: str, down: str) -> tuple[float, float] | None:
    """Return a shape, or None where no video has it."""
    shape = float(across), float(down)
    return shape if min(shape) > 0 and 1 / 4 <= shape[0] / shape[1] <= 4 else None


def size_of(
    lines: int | None, ratio: tuple[float, float] | None, orientation: str | None
) -> Size | None:
    """Return the size of a resolution, a shape and the way up, whichever of them are said."""
    if lines is None and ratio is None and orientation is None:
        return None
    short = lines or SHORT_SIDE_PX
    long_side, short_side = sorted(ratio or WIDE, reverse=True)
    longer = round(short * long_side / short_side / 2) * 2
    if orientation == "square" and ratio is None:
        return Size(width=short, height=short)
    upright = orientation == "portrait" or (
        orientation != "landscape" and ratio is not None and ratio[0] < ratio[1]
    )
    return Size(width=short, height=longer) if upright else Size(width=longer, height=short)


def amount(number: str) -> float:
    """Return a number, in digits or words; the comma is decimal unless it marks thousands."""
    word = number.lower()
    if word in NUMBER_WORDS:
        return NUMBER_WORDS[word]
    plain, _, per = number.replace("−", "-").partition("/")
    if per:
        return float(plain.replace(",", ".")) / float(per)
    if re.fullmatch(r"-?[1-9]\d{0,2},\d{3}", plain) and not _BROADCAST.fullmatch(plain):
        return float(plain.replace(",", ""))
    return float(plain.replace(",", "."))


# --- inside -------------------------------------------------------------------------------


def _matches(
    kind: Kind,
    pattern: re.Pattern[str],
    alone: Callable[[re.Match[str]], Alone | None],
    text: str,
) -> Iterator[Measure]:
    for found in pattern.finditer(text):
        where = alone(found)
        if where is not None:
            yield Measure(kind, found.start(), found.end(), found, where)


def _seconds_alone(found: re.Match[str]) -> Alone:
    """Long ones are what happens ("waits 5 minutes"), and "5s" may be the name of a thing."""
    if found["unit"][0].lower() in "mh" and not found["unit"].lower().startswith(("ms", "mil")):
        return Alone.NOWHERE
    if found["number"].lower() in NUMBER_WORDS:
        return Alone.NOWHERE
    if found["unit"].lower() == "s" and not found["gap"] and found["number"].isdigit():
        return Alone.BEHIND_A_VERB
    return Alone.AT_AN_END


def _pixels_alone(found: re.Match[str]) -> Alone | None:
    least = min(int(found["width"]), int(found["height"]))
    if least < LEAST_SIDE_PX:
        return None
    if least >= PLAIN_SIDE_PX:
        return Alone.AT_AN_END
    return Alone.NOWHERE if found[0][-1].isalpha() else Alone.BY_NAME


def _ratio_alone(found: re.Match[str]) -> Alone | None:
    if read_ratio(found["across"], found["down"]) is None:
        return None
    match found[0]:
        case "16:9" | "21:9":
            return Alone.AT_AN_END
        case "9:16":
            return Alone.AT_AN_END_NO_TIME
        case ratio if ratio in RATIOS or "." in ratio:
            return Alone.NOWHERE
        case _:
            return Alone.BESIDE_A_SIZE


def _unit_seconds(unit: str) -> float:
    name = unit.lower()
    if name.startswith("milli"):
        return 0.001
    return next((s for start, s in UNIT_SECONDS.items() if name.startswith(start)), 1.0)
