"""Descriptions in which one thing becomes another: "a dog turns into a cat"."""

import re
from typing import Final

_BECOMES: Final = re.compile(
    r"\b(?:(?:slowly |gradually |suddenly |then )?"
    r"(?:turns?|turning|transforms?|transforming|morphs?|morphing|changes?|changing) into"
    r"|becomes?|becoming)\b",
    re.IGNORECASE,
)


def split_becoming(text: str) -> tuple[str, str]:
    """Return (what it is first, what it becomes); the second is empty where nothing does."""
    found = _BECOMES.search(text)
    if not found:
        return text, ""
    before, after = text[: found.start()].strip(" ,"), text[found.end() :].strip(" ,")
    return (before, after) if before and after else (text, "")
