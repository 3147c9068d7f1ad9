"""Progress of a bench on stderr: a line for each step, with the seconds since the start."""

import sys
import time
from typing import Final

BEGAN: Final = time.monotonic()


def step(what: str) -> None:
    """Say what is measured now."""
    print(f"{time.monotonic() - BEGAN:6.1f} s  {what}", file=sys.stderr, flush=True)
