"""Cheaper variants of a job, best quality first: what may give so that a budget suffices."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Final

from orchestrator.catalog import ModelCard
from orchestrator.model import Brief, Json, RenderPlan, Size
from orchestrator.money.plans import Plan

LEAST_SIDE_PX: Final = 32
"""A smaller picture than this is no video anybody wants."""
LEAST_FPS: Final = 6
"""Fewer frames a second are a slide show, and too few to make others of."""
LEAST_SAVING: Final = 0.03
"""Of the cost: less than this is not worth giving anything up."""


class Change(IntEnum):
    """Sacrifices of variants, in the order in which people mind."""

    STEPS = 1
    """The same video, less finely painted."""
    INTERPOLATE = 2
    """As smooth, but only some frames are painted, and those between made of them."""
    FPS = 3
    """As long, less smooth."""
    UPSCALE = 4
    """As large, but softer, and small things are lost: painted smaller and scaled up."""
    MODEL = 5
    """Painted by a cheaper model."""
    SIZE = 6
    """A smaller picture."""
    LENGTH = 7
    """A shorter video."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Give:
    """One thing that may give: fields of a brief."""

    change: Change
    fields: Json

    def of(self, brief: Brief) -> Brief:
        """Return the brief that asks for so much less."""
        return replace(brief, **self.fields)


def gives(plan: RenderPlan, card: ModelCard) -> Iterator[Give]:
    """Yield what may give of a planned brief on its own model, best quality first.

    Size and rate of an extension stay: it must be joined.
    """
    few = min(card.min_steps, plan.steps)
    tried = {plan.steps * 3 // 4, plan.steps // 2, few, *card.profiles.values()}
    for steps in sorted(tried, reverse=True):
        if few <= steps < plan.steps:
            yield Give(change=Change.STEPS, fields={"steps": steps})
    for every in (2, 3, 4):
        if plan.fps % every == 0 and every > plan.interpolate and plan.fps // every >= LEAST_FPS:
            yield Give(change=Change.INTERPOLATE, fields={"interpolate": every})
    if plan.lead:
        yield from _shorter(plan)
        return
    for fps in (plan.fps * 2 // 3, plan.fps // 2):
        if LEAST_FPS <= fps < plan.fps:
            yield Give(change=Change.FPS, fields={"fps": fps, "interpolate": 1})
    if plan.upscale < card.most_upscale:
        yield Give(change=Change.UPSCALE, fields={"upscale": card.most_upscale})
    half = Size(width=plan.output.width // 4 * 2, height=plan.output.height // 4 * 2)
    if min(half.width, half.height) >= LEAST_SIDE_PX:
        yield Give(change=Change.SIZE, fields={"size": half})
    yield from _shorter(plan)


def other_models(brief: Brief, own: ModelCard, cards: Iterable[ModelCard]) -> Iterator[Brief]:
    """Yield the same wish to each other model, the larger one first, at that model's steps.

    Whether it can be met there, and for less, is for the planner and the prices to say. An
    extension stays on the model of what it is joined to.
    """
    if brief.before:
        return
    others = [card for card in cards if card.id != own.id and card.kind == own.kind]
    for card in sorted(others, key=lambda card: (-card.parameters, card.id)):
        yield replace(brief, model=card.id, steps=None, upscale=1)


def written_out(brief: Brief, plan: RenderPlan) -> Brief:
    """Return a brief with what the prompt's words or the model decided written out."""
    return replace(
        brief,
        steps=plan.steps,
        seconds=plan.seconds,
        fps=plan.fps,
        size=plan.output,
        written_out=True,
    )


def within(brief: Brief, plan: Plan) -> Brief:
    """Return a written-out brief with as much of its steps, size and length as a plan allows."""
    assert brief.steps and brief.size and brief.seconds, "it is written out"
    size, pixels = brief.size, brief.size.width * brief.size.height
    if plan.pixels is not None and pixels > plan.pixels:
        part = (plan.pixels / pixels) ** 0.5
        size = Size(width=int(size.width * part) // 2 * 2, height=int(size.height * part) // 2 * 2)
    return replace(
        brief,
        steps=brief.steps if plan.steps is None else min(brief.steps, plan.steps),
        seconds=brief.seconds if plan.seconds is None else min(brief.seconds, plan.seconds),
        size=size,
    )


def label(asked: RenderPlan, found: RenderPlan, profile: str | None) -> str:
    """Say in words what a variant gives up; `profile` is that of its steps."""
    if found.model != asked.model:
        return f"the model {found.model} instead of {asked.model}"
    return ", ".join(_differences(asked, found, profile))


# --- inside -------------------------------------------------------------------------------


def _shorter(plan: RenderPlan) -> Iterator[Give]:
    for part in (2, 4, 8):
        seconds = round(plan.seconds / part, 3)
        if seconds * plan.painted_fps >= len(plan.shots):
            yield Give(change=Change.LENGTH, fields={"seconds": seconds})


def _differences(asked: RenderPlan, found: RenderPlan, profile: str | None) -> Iterator[str]:
    if found.steps != asked.steps:
        steps = "1 step" if found.steps == 1 else f"{found.steps} steps"
        which = f"the profile {profile}: " if profile else ""
        yield f"{which}{steps} instead of {asked.steps}"
    if found.interpolate > asked.interpolate:
        painted = f"{found.painted_fps} of {found.fps} frames a second painted"
        yield f"{painted}, the others made of them"
    if found.upscale > asked.upscale:
        yield f"painted at {found.native} and scaled up"
    if found.fps != asked.fps:
        yield f"{found.fps} frames a second instead of {asked.fps}"
    if found.output != asked.output:
        yield f"{found.output} pixels instead of {asked.output}"
    if found.seconds != asked.seconds:
        yield f"{round(found.seconds, 2):g} s instead of {round(asked.seconds, 2):g}"
