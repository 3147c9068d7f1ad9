"""Time that the host spent for a unit beside its device, by what it was spent on."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic


class HostTime:
    """Sums of seconds by name, as whole milliseconds."""

    def __init__(self) -> None:
        self._seconds: dict[str, float] = {}

    def add(self, name: str, seconds: float) -> None:
        """Add to a name's time."""
        self._seconds[name] = self._seconds.get(name, 0.0) + seconds

    @contextmanager
    def span(self, name: str) -> Iterator[None]:
        """Add the time of the block, however it ends."""
        began = monotonic()
        try:
            yield
        finally:
            self.add(name, monotonic() - began)

    @property
    def ms(self) -> dict[str, int]:
        """Return what took a millisecond or more."""
        return {name: ms for name, s in self._seconds.items() if (ms := round(s * 1000))}
