"""Policies as an operator might write them, and as one might get them wrong."""

import time
from typing import Any

ASKED: list[dict[str, Any]] = []
"""Every question, newest last."""


def no_cats(question: dict[str, Any]) -> dict[str, Any]:
    """Refuse what mentions a cat."""
    ASKED.append(question)
    return {"allow": "cat" not in question["prompt"], "reason": "no cats"}


def allows(question: dict[str, Any]) -> bool:
    """Allow everything."""
    ASKED.append(question)
    return True


def refuses(question: dict[str, Any]) -> bool:
    """Refuse everything."""
    ASKED.append(question)
    return False


def breaks(_: dict[str, Any]) -> bool:
    """Fail."""
    raise RuntimeError("secret detail")


def recovers(question: dict[str, Any]) -> bool:
    """Fail twice, and then allow."""
    ASKED.append(question)
    if len(ASKED) < 3:
        raise RuntimeError("not up yet")
    return True


def sleeps(_: dict[str, Any]) -> bool:
    """Take too long."""
    time.sleep(1)
    return True


def mumbles(_: dict[str, Any]) -> str:
    """Say neither yes nor no."""
    return "maybe"


def echoes(question: dict[str, Any]) -> dict[str, Any]:
    """Refuse everything, in the asker's own words."""
    ASKED.append(question)
    return {"allow": False, "reason": question["prompt"]}
