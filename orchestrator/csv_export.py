"""Comma-separated values that a spreadsheet shows and never runs."""

import csv
import io
import re
from collections.abc import Iterable, Sequence
from typing import Final

FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""A text that begins like this is a formula, or hides one, to some spreadsheet."""
_INSIDE: Final = re.compile("(?<=[;\t\n])(?=[=+\\-@\uff1d\uff0b\uff0d\uff20])")
"""Line ends to a sheet that splits lines there, whatever stands in quotes."""


def sheet(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows as CSV with a header; texts that would be formulas get an apostrophe.

    One inside a text gets it too, after a `;`, a tab or a new line: there a sheet that is told to
    split at those begins a cell, since a quote in the middle of a line is none to it.

    Numbers stay numbers, a negative one too; None is an empty cell.
    """
    written = io.StringIO()
    lines = csv.writer(written, lineterminator="\n")
    lines.writerow([_cell(name) for name in columns])
    lines.writerows([[_cell(value) for value in row] for row in rows])
    return written.getvalue()


def _cell(value: object) -> object:
    if value is None or isinstance(value, int | float):
        return value
    text = str(value)
    safe = f"'{text}" if text.startswith(FORMULA) else text
    safe = safe.replace("\r\n", "\n").replace("\r", "\n")  # the writer does not quote a bare one
    return _INSIDE.sub("'", safe)
