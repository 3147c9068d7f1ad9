"""Ids that sort by the time they were made: `job_`, 11 digits of time, 10 of chance, base 32."""

import secrets
import threading
from typing import Final

_DIGITS: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32
_LAST_MS: Final = 2**43 - 1
"""The last moment that has ids, in the year 2248."""
_lock = threading.Lock()
_last = 0


def new_id(prefix: str, now_ms: int) -> str:
    """Return an id; those that one process makes grow strictly, even within a millisecond."""
    global _last  # noqa: PLW0603 - the counter is the point
    with _lock:
        _last = max(_last + 1, now_ms << 12)
        ticks = _last
    return f"{prefix}_{_base32(ticks, 11)}{_base32(secrets.randbits(50), 10)}"


def first_of(prefix: str, at_ms: int) -> str:
    """Return what no id sorts before that was made at this moment or later."""
    return f"{prefix}_{_base32(max(0, min(at_ms, _LAST_MS)) << 12, 11)}"


def _base32(number: int, digits: int) -> str:
    return "".join(_DIGITS[(number >> (5 * place)) & 31] for place in reversed(range(digits)))
