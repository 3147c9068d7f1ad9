"""Errors as OpenAI's clients read them: `{"error": {message, type, param, code}}`.

Our own data (what is needed, what would fit, what to do next) stands beside these four.
"""

import json
from typing import Any, Final

from flask import Response

from orchestrator.remedies import Remedy
from web.api import remedies

PREFIX: Final = "/v1/"
INVALID: Final = 422
"""Status of the native API for a body it cannot read; the dialect says 400."""
TYPES: Final = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    429: "rate_limit_error",
}
TRANSIENT: Final = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that may be another one in a moment; the client would also repeat a 409 and a 501."""


def refusal(
    status: int, code: str, detail: str, *helping: Remedy, again: bool = False, **data: Any
) -> Response:
    """Return an error in OpenAI's form; `again`: sending the same once more can help."""
    if status == INVALID and code != "idempotency_mismatch":
        status = 400
    kind = "server_error" if status >= 500 else TYPES.get(status, "invalid_request_error")
    told = remedies.shown(helping)
    faults = data.get("errors") or [{}]
    error = {
        "message": f"{detail} {told['next']['text']}",
        "type": kind,
        "param": faults[0].get("field") or None,
        "code": code,
        **told,
        **data,
    }
    answer = Response(json.dumps({"error": error}), status, mimetype="application/json")
    answer.headers["x-should-retry"] = "true" if again or status in TRANSIENT else "false"
    return answer
