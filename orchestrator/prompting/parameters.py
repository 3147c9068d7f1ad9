"""Parameters pasted behind a prompt, as image tools copy them, and `Negative prompt:` lines.

    a dog runs
    Negative prompt: cats, text
    Steps: 20, Sampler: Euler a, CFG scale: 7, Seed: 12345, Size: 512x768

and `a dog runs --ar 9:16 --seed 7 --no text`. What means the same here is taken; the rest is
noted, since it is of another model.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Final

from orchestrator.model import Size
from orchestrator.prompting.instructions import Instructions
from orchestrator.prompting.measures import LINES, MAX_FPS, MAX_SEED, read_ratio, read_seconds

_KEYS: Final = (
    r"(?:Steps|Sampler|Schedule type|Scheduler|CFG(?: scale)?|Guidance scale|Seed|Size|Width"
    r"|Height|Model(?: hash)?|Clip skip|Denoising strength|Version|FPS|Frames)"
)
_BLOCK: Final = re.compile(
    rf"(?:^|[\n.,;] ?| )(?={_KEYS}: ?[^,\n:]{{1,80}}, ?[A-Z][\w ]{{0,30}}: )"
    rf"|\n(?={_KEYS}: ?[^,\n:]{{1,80}}(?:\n|$))"
    rf"|(?:^|[\n.,;] ?| )(?=(?i:{_KEYS}): ?(?:[\d.]{{1,20}}[^,\n:]{{0,60}}, ?(?i:{_KEYS}): ?"
    rf"|[^,\n:]{{1,80}}, ?(?i:{_KEYS}): ?\d))"
    rf"|\n(?=(?i:{_KEYS}): ?[\d.x× ]{{1,20}}(?:\n|$))"
)
"""In capitals as tools write them; in other letters only where a value is a number."""
_PAIR: Final = re.compile(r'([A-Za-z][\w /-]{0,30}): ?("[^"\n]{0,2000}"|[^,\n]{0,400})')
_LABEL: Final = re.compile(
    r"(?:^|(?<=\n))[ \t]*(?:(?:positive[ _-])?prompts?|parameters) ?[:=] ?", re.IGNORECASE
)
"""Names of what is shown: "Prompt: a dog"."""
_NEGATIVE: Final = re.compile(
    r"\bnegative[ _-]prompts? ?[:=]|(?:^|\n)[ \t]*(?:negatives?|exclude) ?:", re.IGNORECASE
)
_FLAG: Final = re.compile(
    r"(?:^|\s)(?:--|[–—](?=(?:ar|aspect(?:[-_]ratio)?|seed|stylize) ))(?P<name>"
    r"ar|aspect(?:[-_]ratio)?|ratio|resolution|duration|length|frame-?rate|negative(?:[-_]prompt)?"
    r"|seed|no|fps|size|seconds|v|version|niji|s|stylize|q|quality"
    r"|style|chaos|c|weird|w|tile|iw|cref|sref|cfg|steps|raw|hd"
    r"|[a-z][a-z_-]{1,20}(?=[ =]\d))\b(?![-\w])"
    r"(?:[ =](?P<value>(?:(?!\s--[a-z])[^\n]){1,2000}))?",
    re.IGNORECASE,
)
"""A name that is not known is a flag before a number."""
_MEANS: Final = {
    "ar": "ratio",
    "aspect": "ratio",
    "aspect-ratio": "ratio",
    "resolution": "size",
    "duration": "seconds",
    "length": "seconds",
    "framerate": "fps",
    "frame-rate": "fps",
    "negative": "no",
    "negative-prompt": "no",
}
_TAIL: Final = frozenset({"no"})
"""Flags whose value may have spaces."""
_LENGTH: Final = re.compile(r"(\d{1,4}(?:\.\d{1,3})?)(?:s|secs?|seconds?)?", re.IGNORECASE)
_SIZE: Final = re.compile(r"(\d{1,5}) ?[x×X*] ?(\d{1,5})(?: ?px)?")
_RATIO: Final = re.compile(r"(\d{1,3}):(\d{1,3})")


@dataclass(slots=True)
class Pasted:
    """Pasted parameters, read."""

    instructions: Instructions = field(default_factory=Instructions)
    left: list[str] = field(default_factory=list)
    """Names of those that mean nothing here."""


def take(text: str, given: Collection[str] = ()) -> tuple[str, Instructions]:
    """Return the prompt without pasted parameters, and what they ask for.

    `given`: what options say already; such parameters are left out, and noted.
    """
    pasted = Pasted()
    text = _take_flags(_LABEL.sub("", text), pasted, given)
    block = _BLOCK.search(text)
    rest = ""
    if block:
        text, facts = text[: block.start()], text[block.end() :]
        _take_block(facts, pasted, given)
        rest = _beside(facts, leads=not text.strip())
    found = _NEGATIVE.search(text)
    if found:
        end = len(text) if block else text.find("\n", found.end())
        end = len(text) if end < 0 else end
        _keep_negative(text[found.end() : end], pasted)
        text = f"{text[: found.start()]}\n{text[end:]}"
    if pasted.left:
        names = ", ".join(dict.fromkeys(pasted.left))
        pasted.instructions.notes.append(f"Pasted parameters that are not taken: {names[:200]}.")
    return f"{text}\n{rest}".strip(), pasted.instructions


# --- inside -------------------------------------------------------------------------------


def _take_block(facts: str, pasted: Pasted, given: Collection[str]) -> None:
    """Read `Key: value, Key: value …`."""
    written = {name.strip().lower(): name.strip() for name, _ in _PAIR.findall(facts)}
    pairs = {n.strip().lower(): value.strip(' \t".;') for n, value in _PAIR.findall(facts)}
    _keep_negative(pairs.pop("negative prompt", ""), pasted)
    width, height = pairs.pop("width", ""), pairs.pop("height", "")
    if width and height:
        pairs.setdefault("size", f"{width}x{height}")
    for name, value in pairs.items():
        shown = written.get(name, "Size")
        if not _take_one(name, value, f"{shown}: {value}", pasted, given):
            pasted.left.append(shown)


def _beside(facts: str, *, leads: bool) -> str:
    """Return what of a block is no parameter: its other lines, words behind one that leads."""
    lines = facts.splitlines()
    if leads:
        return "\n".join(_PAIR.sub("", line).strip(" ,;") for line in lines)
    return "\n".join(line for line in lines if not _PAIR.search(line))


def _take_flags(text: str, pasted: Pasted, given: Collection[str]) -> str:
    """Read `--ar 9:16 --seed 7`; words behind a value stay. Phones make `—ar` of `--ar`."""

    def flag(found: re.Match[str]) -> str:
        name, value = found["name"].lower(), (found["value"] or "").strip()
        name = _MEANS.get(name.replace("_", "-"), name)
        rest = ""
        if name not in _TAIL:
            value, _, rest = value.partition(" ")
            mark = value[len(value.rstrip(",.;")) :]
            value, rest = value.removesuffix(mark), f"{mark} {rest}"
        if name == "no":
            _keep_negative(value, pasted)
        elif not _take_one(name, value, f"--{found['name']} {value}", pasted, given):
            pasted.left.append(f"--{found['name']}")
        return f"{'' if rest[:1] in ',.;' else ' '}{rest}"

    return _FLAG.sub(flag, text)


def _take_one(name: str, value: str, said: str, pasted: Pasted, given: Collection[str]) -> bool:
    """Keep one parameter; tell whether it means anything here and no option says it already."""
    instructions = pasted.instructions
    field_ = {"ratio": "size"}.get(name, name)
    if field_ in given:
        return False
    match name:
        case "seed" if value.isdecimal() and int(value) <= MAX_SEED:
            instructions.seed = int(value)
        case "fps" if value.isdecimal() and 1 <= int(value) <= MAX_FPS:
            instructions.fps = int(value)
        case "seconds" if length := _LENGTH.fullmatch(value):
            instructions.video_seconds = read_seconds(length[1], "s")
        case "size" if value.lower() in LINES:
            instructions.lines = LINES[value.lower()]
        case "size" if size := _SIZE.fullmatch(value):
            instructions.pixels = Size(width=int(size[1]), height=int(size[2]))
        case "ratio" if (ratio := _RATIO.fullmatch(value)) and read_ratio(ratio[1], ratio[2]):
            instructions.ratio = read_ratio(ratio[1], ratio[2])
        case _:
            return False
    instructions.said.setdefault(field_, []).append(said)
    return True


def _keep_negative(text: str, pasted: Pasted) -> None:
    words = " ".join(text.split()).strip(" ,;")
    if words:
        pasted.instructions.negative.append(words)
