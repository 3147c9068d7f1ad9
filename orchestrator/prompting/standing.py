"""Orders and ordinary words: which of a text's measures stand as instructions about the video.

A measure is an order where it stands as one: apart (between commas, at an end), after the word
that brings it in ("in 4k", "at 24 fps", "for 3 seconds"), or before what it is of ("4k video").
Anywhere else it is what the video shows: a 4x4 truck, 9:16 in the morning, an iPhone 5s.
"""

import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from orchestrator.prompting.defaults import (
    BARE_VERBS,
    BOOKS,
    MORE_MOTIONS,
    NO_MEASURE_AFTER,
    TELLS_TIME,
)
from orchestrator.prompting.lexicon import base_form
from orchestrator.prompting.measures import (
    SIZES,
    WIDE_RATIOS,
    Alone,
    Kind,
    Measure,
    amount,
    found_in,
    seconds_of,
)

BEFORE: Final = 60
AFTER: Final = 40
"""Characters around a measure that are looked at."""


class Left(Enum):
    """Words before a measure."""

    NOTHING = auto()
    """It begins its clause."""
    IN = auto()
    AT = auto()
    FOR = auto()
    LASTS = auto()
    NAME = auto()
    """Its own name: "size", "aspect ratio:"."""
    ARTICLE = auto()
    WORD = auto()


class Right(Enum):
    """Words behind a measure."""

    NOTHING = auto()
    """It ends its clause."""
    FILM = auto()
    FORMAT = auto()
    LONG = auto()
    OF = auto()
    ARTICLE = auto()
    """The next thing begins: "1080p a dog runs"."""
    PREPOSITION = auto()
    WORD = auto()


@dataclass(frozen=True, slots=True)
class Order:
    """Measures that stand together, from `start` to `end`, with what brings them in."""

    start: int
    end: int
    measures: tuple[Measure, ...]
    of_the_video: bool
    """"a 5 second clip": the whole of it, not this shot."""


_CLAUSE: Final = r"(?:^|[,.;:!?()\[\]{}|\n\x00–—•] ?|(?<= )- )"
_PLEASE: Final = (
    r"(?:(?:please )?(?:make|create|generate|render|show|draw|produce|want|need)(?: me| us)? )"
)
_LEADS: Final[tuple[tuple[Left, re.Pattern[str]], ...]] = tuple(
    (left, re.compile(rf"(?<![\w'’-]){words}$", re.IGNORECASE))
    for left, words in (
        (
            Left.NAME,
            r"(?:(?:in|at|with|as) )?(?:an? |the )?(?:aspect ratio|resolution|video size|size"
            r"|format|duration|length|frame ?rate|orientation|shape|ratio|quality)"
            r"(?: of ?|: ?| ?= ?| )",
        ),
        (Left.FOR, r"for (?:about |exactly |around |roughly |only )?"),
        (Left.LASTS, r"(?:lasting|lasts|takes|taking) (?:about |exactly |around |roughly )?"),
        (Left.IN, r"(?:in|as|with|using) (?:about |full )?"),
        (Left.AT, r"at (?:about )?"),
        (Left.ARTICLE, r"(?:an?|the) "),
    )
)
_FILM_BEFORE: Final = re.compile(
    rf"{_CLAUSE}{_PLEASE}?(?P<own>(?:(?:in|as|into|for) )?(?:an? |the |one )?)$"
    rf"|(?:^| )(?P<within>(?:in|as|into) (?:an? |the )?)$"
    rf"|{_CLAUSE}{_PLEASE}?(?:in |as )?(?:an? |the )[\w-]{{1,20}},? (?P<described>)$",
    re.IGNORECASE,
)
_FORMAT_BEFORE: Final = re.compile(r"(?<![\w'’-])(?:in|as|with) (?:an? |the )$", re.IGNORECASE)
_ENDS_CLAUSE: Final = re.compile(rf"{_CLAUSE}(?:and |but )?$")
_RIGHTS: Final[tuple[tuple[Right, re.Pattern[str]], ...]] = tuple(
    (right, re.compile(words, re.IGNORECASE))
    for right, words in (
        (Right.NOTHING, r" ?(?:$|[,.;:!?)\]}|\n\x00–—]| - | (?:and|but)\b)"),
        (
            Right.FILM,
            r"(?:[ -]|, ?)(?:long )?(?:clip|video|animation|movie|film|loop|footage|gif)\b"
            r"(?: (?:format|mode|form)\b)?(?: (?:of|showing|with|where)\b)?",
        ),
        (
            Right.FORMAT,
            r"[ -](?:resolution|format|aspect ratio|aspect|quality|mode|orientation|crop|frame"
            r"|ratio)\b(?: of\b)?",
        ),
        (Right.LONG, r" long\b"),
        (Right.OF, r" of (?:an?|the|two|three|some) "),
        (Right.ARTICLE, r" (?:an?|the|two|three|some|my|our) "),
        (
            Right.PREPOSITION,
            r" (?:on|in|of|with|at|by|over|under|through|from|to|for|near|while|as|along"
            r"|across|into|inside|beside|behind)\b",
        ),
        (Right.WORD, r""),
    )
)
_TOGETHER: Final = re.compile(r" ?(?:(?:and|at|in|with|for|@|\+|/|\|) ?)?", re.IGNORECASE)
LONG_SECONDS: Final = 60.0
"""Below this, "for half a minute" is how long the video is; "bakes for 45 minutes" is a story."""
_FILM_OR_APART: Final = re.compile(
    rf"{_CLAUSE}(?:and |but )?$|\b(?:video|clip|film|movie|animation|shot|footage) $", re.IGNORECASE
)
_SCORES: Final = re.compile(
    r"\b(?:beat(?:s|en|ing)?|w[io]ns?|winning|lead(?:s|ing)?|led|scor(?:es?|ed|ing)|ties?|tied"
    r"|los(?:es?|t|ing)|defeat(?:s|ed)?)\b[^.!?\n]{0,100}$",
    re.IGNORECASE,
)
"""Words before a score: "Germany beats Brazil, 4:3"."""
_GETS: Final = re.compile(
    r"\b(?:gets?|got|getting|has|have|having|hits?|reach(?:es|ing)?|averages?|drops? to) $",
    re.IGNORECASE,
)
"""Words before the rate of a game."""
_GAMES: Final = re.compile(
    r"\b(?:gamers?|gaming|games?|plays?|playing|monitors?|gpus?)\b[^.!?,;\n]{0,40} $",
    re.IGNORECASE,
)
"""Words before such a rate where it is higher than films have."""
FILM_FPS: Final = 120
_THING: Final = re.compile(
    r"(?:,| -| –| —)? (?:an?|the|my|our|his|her|its|their|some|two|three) ", re.IGNORECASE
)
"""Events at a time of day: "9:16, the alarm rings"."""
_LAST_WORD: Final = re.compile(r"(?P<word>[^\s,]{1,30}) ?$")


def orders(text: str, given: Collection[str]) -> Iterator[Order]:
    """Yield the orders of a text from left to right; none of what an option gives."""
    measures = found_in(text, given)
    sized = sum(each.kind in SIZES - {Kind.ORIENTATION} for each in measures) > 1
    run: list[Measure] = []
    for each in measures:
        if run and not _TOGETHER.fullmatch(text, run[-1].end, each.start):
            yield from _standing(run, text, sized=sized)
            run = []
        run.append(each)
    if run:
        yield from _standing(run, text, sized=sized)


# --- inside -------------------------------------------------------------------------------


def _standing(run: list[Measure], text: str, *, sized: bool) -> Iterator[Order]:
    """Yield the order that a run of measures is, less what is words at its ends."""
    while run:
        left, start = _left(text, run[0].start)
        right, end = _right(text, run[-1].end)
        if right is Right.FILM and (found := _film(text, run[0].start)) is not None:
            whole = found >= 0
            start = found if whole else run[0].start
            yield Order(start, end if whole else run[-1].end, tuple(run), of_the_video=True)
            return
        if right is Right.FORMAT and _in_a_format(run, left, text):
            start = start if left is not Left.ARTICLE else _format_start(text, run[0].start)
            yield Order(start, end, tuple(run), of_the_video=False)
            return
        alone = len(run) == 1
        first = right if alone else Right.NOTHING
        if not _is_order(run[0], left, first, text, sized=sized, start=start):
            run = run[1:]
        elif not alone and not _is_order(
            run[-1], Left.NOTHING, right, text, sized=sized, start=run[-1].start
        ):
            run = run[:-1]
        else:
            of_it = right is Right.FILM and left in (Left.IN, Left.AT, Left.NAME)
            end = end if right is Right.LONG or of_it else run[-1].end
            end = _of(text, end) if right is Right.OF else end
            yield Order(start, end, tuple(run), of_the_video=False)
            return


def _is_order(
    each: Measure, left: Left, right: Right, text: str, *, sized: bool, start: int
) -> bool:
    """Tell whether a measure stands as an order between its neighbours.

    `start`: where the order begins with the words that bring it in.
    """
    if left is Left.ARTICLE or _tells_a_story(each, left, right, text, start, sized=sized):
        return False
    if each.kind is Kind.SECONDS:
        return _is_length(each, left, right, text, start)
    if each.alone is Alone.ANYWHERE:
        return each.kind is not Kind.SEED or _is_seed(each, left, right)
    if left in (Left.IN, Left.AT, Left.NAME):
        return right is not Right.WORD
    if left is Left.NOTHING:
        return right in (Right.NOTHING, Right.ARTICLE)
    return right is Right.NOTHING and _ends(each, text)


def _is_long(each: Measure) -> bool:
    """Tell whether a length is one of things that happen: a minute and more, in such units."""
    in_seconds = each["unit"].lower().startswith(("s", "ms", "mil"))
    return not in_seconds and seconds_of(each["number"], each["unit"]) >= LONG_SECONDS


def _of_a_film(text: str, start: int) -> bool:
    """Tell whether what starts there is apart, or behind the word for a video."""
    head = text[max(0, start - BEFORE) : start]
    return not head.strip() or _FILM_OR_APART.search(head) is not None


def _tells_a_story(
    each: Measure, left: Left, right: Right, text: str, start: int, *, sized: bool
) -> bool:
    """Tell whether a measure is the rate of a game, a time, a score or the sides of a thing."""
    if each.kind is Kind.FPS:
        head = text[max(0, start - BEFORE) : start]
        many = amount(each["number"]) > FILM_FPS
        return bool(_GETS.search(head) or (many and _GAMES.search(head)))
    if each.kind is Kind.RATIO and left is Left.AT:
        return True
    if each.alone in (Alone.BESIDE_A_SIZE, Alone.AT_AN_END_BESIDE_A_SIZE):
        named = left in (Left.IN, Left.NAME) and right is not Right.WORD
        return not sized and not named
    if each.alone is Alone.BY_NAME:
        return left not in (Left.IN, Left.AT, Left.NAME)
    if each.kind is not Kind.RATIO or sized or left is not Left.NOTHING:
        return False
    return _is_a_time(each, text) or _is_a_score(each, text)


def _is_a_time(each: Measure, text: str) -> bool:
    """Tell whether a ratio is when something happens: "9:16, the alarm rings"."""
    first = text[max(0, each.start - BEFORE) : each.start].strip()[-1:] in ("", ".", "!", "?")
    minutes = len(each["down"]) == len("16") and "." not in each.found[0]
    return minutes and first and _THING.match(text, each.end) is not None


def _is_a_score(each: Measure, text: str) -> bool:
    head = text[max(0, each.start - 2 * BEFORE) : each.start]
    return each.found[0] not in WIDE_RATIOS and _SCORES.search(head) is not None


def _is_seed(each: Measure, left: Left, right: Right) -> bool:
    """Tell whether a seed is a number's: "sunflower seed 5 grams" is not."""
    apart = left is not Left.WORD or right is not Right.WORD
    return apart or any(mark in each.found[0] for mark in ":=#")


def _is_length(each: Measure, left: Left, right: Right, text: str, start: int) -> bool:
    """Tell whether seconds are the shot's: for so long, or so many apart or at an end."""
    ended = right in (Right.NOTHING, Right.LONG)
    match left:
        case Left.FOR:
            return not _is_long(each) or right is Right.LONG or _of_a_film(text, start)
        case Left.NAME:
            return right is not Right.WORD
        case Left.LASTS:
            return ended and (not _is_long(each) or _of_a_film(text, start))
        case Left.NOTHING:
            if each["number"].lower() == "one":
                return False
            return ended or (right in (Right.ARTICLE, Right.OF) and each["number"][-1].isdigit())
        case Left.WORD:
            return ended and (right is Right.LONG or _ends(each, text))
        case _:
            return False


def _ends(each: Measure, text: str) -> bool:
    """Tell whether a measure behind an ordinary word, at the end of a clause, is an order."""
    found = _LAST_WORD.search(text, max(0, each.start - BEFORE), each.start)
    before = found["word"] if found else ""
    word = before.casefold()
    named = before[:1].isupper()
    match each.alone:
        case Alone.AT_AN_END | Alone.AT_AN_END_BESIDE_A_SIZE:
            verse = each.kind is Kind.RATIO and named and word in BOOKS
            return not verse and word not in NO_MEASURE_AFTER
        case Alone.AT_AN_END_NO_TIME:
            return not named and word not in NO_MEASURE_AFTER | TELLS_TIME
        case Alone.BEHIND_A_VERB:
            return base_form(word) in BARE_VERBS or word in MORE_MOTIONS
        case Alone.BESIDE_A_SIZE:
            return False
        case _:
            return False


def _left(text: str, at: int) -> tuple[Left, int]:
    """Return what stands before a place, and where it begins if it goes with the order."""
    head = text[max(0, at - BEFORE) : at]
    first = at - len(head)
    for left, pattern in _LEADS:
        if found := pattern.search(head):
            return left, first + found.start()
    begins = (first == 0 and not head.strip()) or (head.strip() and _ENDS_CLAUSE.search(head))
    return (Left.NOTHING if begins else Left.WORD), at


def _right(text: str, at: int) -> tuple[Right, int]:
    """Return what stands behind a place, and where it ends if it goes with the order."""
    tail = text[at : at + AFTER]
    for right, pattern in _RIGHTS:
        if found := pattern.match(tail):
            return right, at + found.end()
    raise AssertionError("the last pattern matches anything")


def _film(text: str, at: int) -> int | None:
    """Return where "a 4k video" begins, -1 where a word of it stays, None where it is only shown.

    "a 5 second clip of a dog" is an order; "he watches a 5 second clip" is not.
    """
    head = text[max(0, at - BEFORE) : at]
    if at > BEFORE:
        head = "x" + head  # so that ^ is the beginning of the text
    found = _FILM_BEFORE.search(head)
    if found is None:
        return None
    words = found["own"] if found["own"] is not None else found["within"]
    return -1 if words is None else at - len(words)


def _in_a_format(run: list[Measure], left: Left, text: str) -> bool:
    """Tell whether "4k resolution" or "portrait mode" is the video's: a square frame may hang."""
    if not all(each.kind in SIZES for each in run):
        return False
    if left is Left.ARTICLE:
        return _format_start(text, run[0].start) >= 0
    return left is not Left.WORD or any(each.kind is not Kind.ORIENTATION for each in run)


def _format_start(text: str, at: int) -> int:
    """Return where "in a" before a place begins, or -1."""
    head = text[max(0, at - BEFORE) : at]
    found = _FORMAT_BEFORE.search(head)
    return at - len(head) + found.start() if found else -1


def _of(text: str, at: int) -> int:
    """Return where "of" ends that stands at a place: "3 seconds of a dog"."""
    return at + len(" of") if text.startswith(" of", at) else at
