"""Plans and briefs as JSON, without loss: what goes into SQL and over the wire comes back equal.

Plans come from workers, so what is read is checked: types by pydantic, nothing missing or left
over because the result must write the same JSON again, and the sums by `_fault`.
"""

from collections.abc import Iterator
from dataclasses import asdict
from functools import cache
from math import isfinite
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from orchestrator.errors import BadRequest
from orchestrator.model import Brief, FrameBatch, Json, Plan, Shot

T = TypeVar("T")


def plan_json(plan: Plan) -> Json:
    """Return a plan as JSON."""
    return _written(plan)


def brief_json(brief: Brief) -> Json:
    """Return a brief as JSON."""
    return _written(brief)


def plan_from_json(facts: Json) -> Plan:
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


def brief_from_json(facts: Json) -> Brief:
    """Return the brief that `brief_json` wrote.

    Raises:
        BadRequest: it is no brief.
    """
    return _read(_briefs(), facts, "brief")


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
def _plans() -> TypeAdapter[Plan]:
    return TypeAdapter(Plan)


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


def _faults(plan: Plan) -> Iterator[str]:
    for noun, runs in (("shots", plan.shots), ("batches", plan.batches)):
        if _end(runs) != plan.frames_total or not runs:
            yield f"its {noun} do not cover every frame once"
    if min(plan.fps, plan.steps, plan.micro_batch) < 1:
        yield "fps, steps and micro_batch must be at least 1"
    sides = (plan.native.width, plan.native.height, plan.output.width, plan.output.height)
    if min(sides) < 1:
        yield "its sizes must be at least one pixel"
    if not isfinite(plan.guidance_scale):
        yield "its guidance_scale must be a number"


def _end(runs: tuple[Shot, ...] | tuple[FrameBatch, ...]) -> int:
    """Return the frame after consecutive runs, or -1 where they are not."""
    end = 0
    for run in runs:
        if run.first_frame != end or run.frames < 1:
            return -1
        end += run.frames
    return end
