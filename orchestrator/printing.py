"""Printing on a terminal that has not all characters, without an error and without a guess."""

import codecs
import io
import sys
from typing import Final

PLAIN: Final[dict[int, str]] = {
    ord(char): plain
    for chars, plain in (
        ("…⋯", "..."),
        ("–—‐‑−│┃", "-"),
        ("→", "->"),
        ("←", "<-"),
        ("·•", "*"),
        ("✓✔", "ok"),
        ("×", "x"),
        ("“”„", '"'),
        ("‘’‚", "'"),
    )
    for char in chars
}
"""Our own signs in ASCII."""


def speak_any_encoding() -> None:
    """Let stdout and stderr print everything, on a terminal of another encoding too.

    Signs that it lacks are ASCII ones there, and other characters are as JSON escapes them.
    """
    codecs.register_error("plain", _plain)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="plain")


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    made = "".join(PLAIN.get(ord(c)) or _escaped(c) for c in error.object[error.start : error.end])
    return made, error.end


def _escaped(char: str) -> str:
    units = char.encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
