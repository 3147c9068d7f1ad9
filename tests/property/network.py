"""A network that loses, doubles and delays messages, and loses their answers."""

import contextlib
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from orchestrator.errors import FarmError

T = TypeVar("T")

FATES: Final = {"arrives": 75, "lost": 5, "unanswered": 8, "doubled": 6, "late": 6}
"""Fates of a message, and how often in a hundred."""


@dataclass
class Network:
    """Every message to the farm goes through here."""

    random: random.Random
    happened: Counter[str]
    on_its_way: list[Callable[[], Any]] = field(default_factory=list)

    def send(self, message: Callable[[], T]) -> T | None:
        """Deliver a message once, twice, later or never; None: no answer came."""
        fate = self.random.choices(list(FATES), list(FATES.values()))[0]
        self.happened[f"message {fate}"] += 1
        if fate == "lost":
            return None
        if fate == "late":
            self.on_its_way.append(message)
            return None
        answer = message()
        if fate == "doubled":
            answer = message()
        return None if fate == "unanswered" else answer

    def deliver(self) -> None:
        """Let one of the late messages arrive, in any order."""
        at = self.random.randrange(len(self.on_its_way))
        self.on_its_way.pop(at)()

    def deliver_all(self) -> None:
        """Let all of them arrive; whom they were from does not hear of it."""
        while self.on_its_way:
            with contextlib.suppress(FarmError):
                self.deliver()
