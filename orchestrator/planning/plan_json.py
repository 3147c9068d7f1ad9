"""Plans and briefs as JSON, without loss: what goes into SQL and over the wire comes back equal.

Plans come from workers, so what is read is checked: types by pydantic, nothing missing or left
over because the result must write the same JSON again, and the sums by `_fault`.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from math import isfinite
from typing import Any, Final, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import BadRequest
from orchestrator.model import Brief, FrameBatch, Json, RenderPlan, Shot

T = TypeVar("T")

MOST_FRAMES: Final = 10**6
"""The most that a plan may have before anybody counts them one by one."""


def plan_json(plan: RenderPlan) -> Json:
    """Return a plan as JSON."""
    return _written(plan)


def brief_json(brief: Brief) -> Json:
    """Return a brief as JSON."""
    return _written(brief)


def plan_from_json(facts: Json) -> RenderPlan:
    """Return the plan that `plan_json` wrote.

    Raises:
        BadRequest: it is no plan: a field is missing, unknown or of another type, or shots and
            batches do not cover the same frames once.
    """
    plan = _read(_plans(), facts, "plan")
    fault = next(_faults(plan), None)
    if fault:
        raise BadRequest(f"This is no plan: {fault}.")
    return plan


def own_plan(facts: Json) -> RenderPlan:
    """Return a plan that the farm wrote itself, which nobody has to check."""
    return _plans().validate_python(facts)


def brief_from_json(facts: Json) -> Brief:
    """Return the brief that `brief_json` wrote, in this release or an earlier one.

    Raises:
        BadRequest: it is no brief.
    """
    return _read(_briefs(), {"written_out": False, **facts}, "brief")


# --- inside -------------------------------------------------------------------------------


def _read(adapter: TypeAdapter[T], facts: Json, noun: str) -> T:
    try:
        value = adapter.validate_python(facts)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"]) or "it"
        raise BadRequest(f"This is no {noun}: {where}: {fault['msg']}.") from None
    written = _written(value)
    if written != facts:
        odd = sorted(
            str(key)
            for key in facts.keys() | written.keys()
            if facts.get(key) != written.get(key) or (key in facts) != (key in written)
        )
        raise BadRequest(f"This is no {noun}: {', '.join(odd)[:200]} cannot be read as it is.")
    return value


@cache
def _plans() -> TypeAdapter[RenderPlan]:
    return TypeAdapter(RenderPlan)


@cache
def _briefs() -> TypeAdapter[Brief]:
    return TypeAdapter(Brief)


def _written(value: Any) -> Json:
    facts: Json = _listed(asdict(value))
    return facts


def _listed(value: Any) -> Any:
    """Return the value with lists for tuples, as JSON has it."""
    if isinstance(value, dict):
        return {key: _listed(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_listed(each) for each in value]
    return value


def _faults(plan: RenderPlan) -> Iterator[str]:
    if _end(plan.shots) != plan.frames_total or not plan.shots:
        yield "its shots do not cover every frame once"
    if not _cover(plan.batches, plan.frames_total):
        yield "its batches do not cover every frame once"
    if min(plan.fps, plan.steps, plan.micro_batch, plan.interpolate, plan.upscale) < 1:
        yield "fps, steps, micro_batch, interpolate and upscale must be at least 1"
    elif plan.fps % plan.interpolate:
        yield "interpolate must divide fps"
    sides = (plan.native.width, plan.native.height, plan.output.width, plan.output.height)
    if min(sides) < 1:
        yield "its sizes must be at least one pixel"
    if not isfinite(plan.guidance_scale):
        yield "its guidance_scale must be a number"


def _cover(batches: tuple[FrameBatch, ...], total: int) -> bool:
    if min((min(b.first_frame + 1, b.frames, b.stride) for b in batches), default=0) < 1:
        return False
    if sum(batch.frames for batch in batches) != total or total > MOST_FRAMES:
        return False
    return {index for batch in batches for index in batch.indices} == set(range(total))


def _end(shots: tuple[Shot, ...]) -> int:
    """Return the frame after consecutive shots, or -1 where they are not."""
    end = 0
    for run in shots:
        if run.first_frame != end or run.frames < 1:
            return -1
        end += run.frames
    return end


def digest_of(plan: RenderPlan) -> str:
    """Return the SHA-256 by which the plan of a worker is known to be the one quoted."""
    text = json.dumps(plan_json(plan), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
