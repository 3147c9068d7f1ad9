"""Cheaper variants of a job, best quality first: what may give so that a budget suffices."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from orchestrator.catalog import ModelCard
from orchestrator.model import Brief, Plan, Size

LEAST_SIDE_PX: Final = 32
"""A smaller picture than this is no video anybody wants."""
LEAST_MEGAPIXELS: Final = 1
"""Less than this to encode less is not worth a smaller picture."""
LEAST_FPS: Final = 6
"""Fewer frames a second are a slide show."""


class Change(IntEnum):
    """What a variant gives up last, in the order in which people mind."""

    STEPS = 1
    """The same video, less finely painted."""
    FPS = 2
    """As long, less smooth."""
    MODEL = 3
    """Painted by a cheaper model."""
    SIZE = 4
    """A smaller picture."""
    LENGTH = 5
    """A shorter video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """A brief that asks for less, and in words what is less."""

    change: Change
    label: str
    brief: Brief


def variants(brief: Brief, plan: Plan, card: ModelCard) -> tuple[Variant, ...]:
    """Return variants of a planned brief on its own model, each less work than the one before.

    First fewer steps, then fewer frames a second, then a smaller picture, then a shorter video;
    whatever gave before keeps giving, but size and rate of an extension: it must be joined.
    """
    found: list[Variant] = []
    least = _work(plan, plan.steps, plan.frames_total, plan.output)
    for change, label, asked in _asked(brief, plan, card):
        assert asked.steps and asked.seconds and asked.fps and asked.size
        count = max(len(plan.shots), round(asked.seconds * asked.fps))
        work = _work(plan, asked.steps, count, asked.size)
        if work[0] < least[0] or (work[0] == least[0] and work[1] < least[1] - LEAST_MEGAPIXELS):
            least = work
            found.append(Variant(change=change, label=label, brief=asked))
    return tuple(found)


def on_other_models(
    brief: Brief, own: ModelCard, cards: tuple[ModelCard, ...]
) -> tuple[Variant, ...]:
    """Return the same wish to each other model, the larger one first, at that model's steps.

    Whether it can be met there, and for less, is for the planner and the prices to say. An
    extension stays on the model of what it is joined to.
    """
    if brief.before:
        return ()
    others = sorted(
        (card for card in cards if card.id != own.id and card.kind == own.kind),
        key=lambda card: (-card.parameters, card.id),
    )
    return tuple(
        Variant(
            change=Change.MODEL,
            label=f"the model {card.id} instead of {own.id}",
            brief=replace(brief, model=card.id, steps=None),
        )
        for card in others
    )


def _work(plan: Plan, steps: int, count: int, output: Size) -> tuple[int, float]:
    """Return (denoised frames · steps, encoded megapixels) of a variant of a plan."""
    padded = -(-count // plan.micro_batch) * plan.micro_batch
    return padded * steps, count * output.megapixels


def _asked(brief: Brief, plan: Plan, card: ModelCard) -> Iterator[tuple[Change, str, Brief]]:
    few = min(card.min_steps, plan.steps)
    asked = replace(brief, steps=plan.steps, seconds=plan.seconds, fps=plan.fps, size=plan.output)
    tried = {plan.steps * 3 // 4, plan.steps // 2, few, *card.profiles.values()}
    for steps in sorted(tried, reverse=True):
        if few <= steps < plan.steps:
            asked = replace(asked, steps=steps)
            profile = card.profile_of(steps)
            label = f"{_steps(steps)} instead of {plan.steps}"
            yield Change.STEPS, f"the profile {profile}: {label}" if profile else label, asked
    said = _steps(few)
    for fps in (plan.fps * 2 // 3, plan.fps // 2):
        if LEAST_FPS <= fps < plan.fps and not plan.lead:
            asked = replace(asked, fps=fps)
            yield Change.FPS, f"{said}, {fps} frames a second instead of {plan.fps}", asked
    if asked.fps != plan.fps:
        said += f", {asked.fps} frames a second"
    half = Size(width=plan.output.width // 4 * 2, height=plan.output.height // 4 * 2)
    saved = plan.seconds * (asked.fps or plan.fps) * (plan.output.megapixels - half.megapixels)
    small = min(half.width, half.height) < LEAST_SIDE_PX
    if saved > LEAST_MEGAPIXELS and not small and not plan.lead:
        asked = replace(asked, size=half)
        yield Change.SIZE, f"{said}, {half} pixels", asked
    for part in (2, 4, 8):
        seconds = round(plan.seconds / part, 3)
        if seconds * (asked.fps or plan.fps) >= len(plan.shots):
            label = f"{said}, {asked.size} pixels, {seconds:g} s"
            yield Change.LENGTH, label, replace(asked, seconds=seconds)


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
