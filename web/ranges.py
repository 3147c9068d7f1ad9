"""Parts of files (RFC 9110, 14.2): one plain range is answered, whatever else gets the whole."""

import re
from typing import Final

from flask import request

ONE_RANGE: Final = re.compile(r"bytes=(\d{1,18}-\d{0,18}|-\d{1,18})")


def keep_plain(size: int) -> None:
    """Forget this request's Range header unless it asks for one well-formed part of `size` bytes.

    A server may always send the whole file; a client that sent nonsense, or wants several
    parts at once, gets that instead of an error.
    """
    asked = ONE_RANGE.fullmatch(request.headers.get("Range", "").strip().lower())
    if asked is None:
        request.environ.pop("HTTP_RANGE", None)
        return
    first, _, last = asked[1].partition("-")
    backwards = first and last and int(last) < int(first)
    more_than_all = not first and int(last) >= size
    if backwards or more_than_all:
        request.environ.pop("HTTP_RANGE", None)
