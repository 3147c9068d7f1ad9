"""Plans and briefs as JSON, without loss: what goes into SQL and over the wire comes back equal."""

import hashlib
import json
from functools import cache

from pydantic import TypeAdapter

from orchestrator.model import Brief, Json, RenderPlan


def brief_json(brief: Brief) -> Json:
    """Return a brief as JSON."""
    return _as_json(brief)


def digest_of(plan: RenderPlan) -> str:
    """Return the SHA-256 by which the plan of a worker is known to be the one quoted."""
    text = json.dumps(_as_json(plan), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def _as_json(value: Brief | RenderPlan) -> Json:
    facts: Json = _adapter().dump_python(value, mode="json", warnings=False)
    return facts


@cache
def _adapter() -> TypeAdapter[Brief | RenderPlan]:
    return TypeAdapter(Brief | RenderPlan)
