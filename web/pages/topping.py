"""Topping a session up, from beside its budget or from a notice that says how much is missing."""

import hashlib
from typing import Final

from flask import make_response, redirect, render_template, request
from flask_login import login_required
from werkzeug.wrappers import Response

from orchestrator.errors import FarmError
from orchestrator.farm import Idempotency
from orchestrator.farm.accounts import sessions
from orchestrator.model import Json
from web.context import farm
from web.errors import STATUS
from web.pages import page_data
from web.pages.blueprint import bp
from web.pages.budget import amount
from web.pages.page_data import me
from web.pages.signing import own_path
from web.threads import in_thread

MOST_CHARS: Final = 20
"""Of what was typed, shown again."""


@bp.post("/top-ups")
@login_required
def top_up() -> Response:
    """Raise the budget of an own session: the budget's card for htmx, and the page one was on."""
    typed = request.form.get("exactly") or request.form.get("gpu_seconds", "")
    session_id = request.form.get("session", "")
    back = own_path(request.form.get("next", "")) or "/"
    alone = "HX-Request" in request.headers
    try:
        given = amount(typed)
        key = request.form.get("request_key", "")[:100]
        digest = hashlib.sha256(f"{session_id} {given}".encode()).hexdigest()
        promise = Idempotency(key=f"page {key} {digest}", body_sha256=digest)
        in_thread(sessions.top_up, farm(), me(), session_id, given, promise)
    except FarmError as error:
        trouble = {"what": error.message, "remedies": error.remedies}
        shown = in_thread(page_data.budget, me(), session_id or None)
        shown |= {"not_topped_up": trouble, "typed_amount": typed[:MOST_CHARS]}
        return _answer(shown, back, alone=alone, status=STATUS.get(error.code, 500))
    if not alone:
        return redirect(back, 303)
    shown = in_thread(page_data.budget, me(), session_id) | {"topped_up_gpu_ms": given}
    answer = _answer(shown, back, alone=True)
    answer.headers["HX-Trigger"] = "topped-up"
    return answer


def _answer(shown: Json, back: str, *, alone: bool, status: int = 200) -> Response:
    page = "_topped.html" if alone else "top_up.html"
    return make_response(render_template(page, **{**shown, "back_here": back}), status)
