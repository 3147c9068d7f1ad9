"""HTTP statuses of the farm's errors, and a validation's faults as one of those errors."""

from typing import Final

from pydantic import ValidationError

from orchestrator.errors import BadRequest

STATUS: Final = {
    "bad_request": 422,
    "unknown_host": 400,
    "unauthorized": 401,
    "budget_exceeded": 402,
    "not_allowed": 403,
    "plan_limit": 403,
    "storage_full": 413,
    "not_found": 404,
    "expired": 410,
    "gone": 410,
    "policy_refused": 422,
    "policy_unavailable": 503,
    "conflict": 409,
    "stale_lease": 409,
    "idempotency_mismatch": 422,
    "unavailable": 503,
    "disk_full": 507,
    "too_many_requests": 429,
}
NAME_CHARS: Final = 40


def bad_request(error: ValidationError) -> BadRequest:
    """Return a validation error as one of the farm's, without what the client sent."""
    faults = [
        {"field": ".".join(known(part) for part in fault["loc"]), "fault": fault["msg"]}
        for fault in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = faults[0]
    where = f"{first['field']}: " if first["field"] else ""
    return BadRequest(f"{where}{first['fault']}.", errors=faults)


def known(part: int | str) -> str:
    """Return a field's name, unless the client made up something that is none."""
    name = str(part)
    plain = name.isidentifier() or name.isdecimal()
    return name if plain and len(name) <= NAME_CHARS else "a field"
