"""Text from outside: what may be a name, and how any text is shown without doing anything."""

import re
import unicodedata
from typing import Annotated, Final

from pydantic import AfterValidator, Field

LAYOUT: Final = "\n\r\t"
JOINERS: Final = "\u200c\u200d"
"""Unseen, but parts of emoji and of Persian words."""

_NO_TEXT: Final = frozenset({"Cc", "Cs", "Co", "Cn"})
"""Unicode's categories of what no text has: controls, half characters, private and no ones."""
_UNSEEN: Final = _NO_TEXT | {"Cf", "Zl", "Zp"}
_LINE_ENDS: Final = re.compile(r"[\n\r\t\u2028\u2029]+")
_ACTIVE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Characters that move a terminal's cursor, turn a line around, or cannot be written at all."""


def no_text(text: str) -> str:
    """Return the first character that no text has, or nothing."""
    found = (c for c in text if c not in LAYOUT and unicodedata.category(c) in _NO_TEXT)
    return next(found, "")


def normal(name: str) -> str:
    """Return a name so that those which look alike to their owner are alike: NFC, no blanks."""
    return unicodedata.normalize("NFC", name).strip()


def label(name: str) -> str:
    """Return a name in its normal form.

    Raises:
        ValueError: it is not one line of visible text.
    """
    found = normal(name)
    if any(unicodedata.category(c) in _UNSEEN and c not in JOINERS for c in found):
        raise ValueError("must be one line without unseen characters")
    if name and not any(unicodedata.category(c)[0] in "LNPS" for c in found):
        raise ValueError("must have a visible character")
    return found


Label = Annotated[str, AfterValidator(label)]
"""A name that somebody gave something."""


def tag(word: str) -> str:
    """Return a tag in its normal form.

    Raises:
        ValueError: it is not one visible word.
    """
    found = label(word)
    if not found or any(char.isspace() or char == "," for char in found):
        raise ValueError("must be one word, without blanks and commas")
    return found


Tag = Annotated[str, Field(min_length=1, max_length=40), AfterValidator(tag)]
"""A word that somebody finds things by."""


def metadata_key(name: str) -> str:
    """Return a key of metadata in its normal form.

    Raises:
        ValueError: it is not one visible line, or has a `=`, which ends a key where both are typed.
    """
    found = label(name)
    if not found or "=" in found:
        raise ValueError("a key must be one visible line without =")
    return found


def metadata_value(text: str) -> str:
    """Return a value of metadata as it is.

    Raises:
        ValueError: it has a character that no text has.
    """
    if no_text(text):
        raise ValueError("a value must be text, without control characters")
    return text


MetadataKey = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(metadata_key)]
MetadataValue = Annotated[str, Field(max_length=512), AfterValidator(metadata_value)]


def shown(text: str) -> str:
    """Return a text with what a terminal would obey as `\\u001b`: in JSON it means the same."""
    return _ACTIVE.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def one_line(text: str) -> str:
    """Return a text on one line, with nothing in it that a terminal would obey."""
    return shown(_LINE_ENDS.sub(" ", text))
