"""A job's page, its buttons, its files and its receipt."""

import re
from typing import Final

from flask import jsonify, redirect, render_template, request, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from orchestrator.errors import BudgetExceeded, Conflict, FarmError, NotFound
from orchestrator.farm import jobs
from orchestrator.farm.books import receipts
from orchestrator.farm.jobs import keeping
from orchestrator.model import Json
from orchestrator.remedies import Say
from orchestrator.states import UnitKind
from orchestrator.wire import STRIP
from web.api import bills
from web.context import artifacts, farm
from web.pages import words
from web.pages.blueprint import bp
from web.pages.page_data import job_page, me
from web.threads import in_thread

VERBS: Final = {
    "pause": jobs.pause,
    "resume": jobs.resume,
    "finish": jobs.finish,
    "cancel": jobs.cancel,
}
DONE: Final = {
    "pause": "paused",
    "resume": "resumed",
    "finish": "ended with what is finished",
    "cancel": "cancelled",
}
FILES: Final = {
    "video": ("video/mp4", "mp4"),
    "poster": ("image/jpeg", "jpg"),
    "sheet": ("image/jpeg", "jpg"),
}
DAY_SECONDS: Final = 86_400


@bp.get("/jobs/<job_id>")
@login_required
def job(job_id: str) -> str:
    """Show a job: where it stands, its frames, what it costs, and its video at the end."""
    return render_template("job.html", **in_thread(job_page, me(), job_id))


@bp.post("/jobs/<job_id>/<any(pause, resume, finish, cancel):verb>")
@login_required
def act(job_id: str, verb: str) -> Response | tuple[str, int]:
    """Pause, resume, finish or cancel; a job that has moved on meanwhile is shown as it is now."""
    trouble, status = None, 200
    try:
        in_thread(VERBS[verb], farm(), me(), job_id)
    except (Conflict, BudgetExceeded) as error:
        trouble, status = _trouble(verb, error), 402 if isinstance(error, BudgetExceeded) else 409
    if trouble is None and "HX-Request" not in request.headers:
        return redirect(url_for("pages.job", job_id=job_id), 303)
    alone = "HX-Request" in request.headers
    page = "_job.html" if alone else "job.html"
    room = in_thread(job_page, me(), job_id)
    return render_template(page, alone=alone, trouble=trouble, **room), status


@bp.get("/jobs/<job_id>/<any(video, poster, sheet):name>")
@login_required
def file(job_id: str, name: str) -> Response:
    """Send a file of a finished job; ranges are answered, so that the player can seek."""
    found = in_thread(jobs.get, farm(), me(), job_id)
    keeping.check_kept(found)
    if name not in found.artifacts:
        raise NotFound(f"This job has no {name} yet.", Say("Open its page to see how far it is."))
    mimetype, ending = FILES[name]
    return artifacts().send(
        found.artifacts[name].key,
        mimetype=mimetype,
        download_name=f"{slug(found.brief.prompt)}.{ending}",
        as_attachment="download" in request.args,
    )


@bp.get("/jobs/<job_id>/strips/<unit_id>")
@login_required
def strip(job_id: str, unit_id: str) -> Response:
    """Send the strip of a finished batch of frames."""
    keeping.check_kept(in_thread(jobs.get, farm(), me(), job_id))
    for view in in_thread(jobs.units, farm(), me(), job_id):
        if view.unit.id == unit_id and view.unit.kind is UnitKind.RENDER and view.lease:
            key = view.lease.key(STRIP)
            return artifacts().send(key, mimetype="image/jpeg", max_age=DAY_SECONDS)
    raise NotFound("There are no such frames.", Say("Open the job's page to see which there are."))


@bp.get("/jobs/<job_id>/receipt.json")
@login_required
def receipt_json(job_id: str) -> Response:
    """Send the receipt as data."""
    return jsonify(bills.receipt(in_thread(receipts.receipt, farm(), me(), job_id)))


def slug(prompt: str) -> str:
    """Return a file name that says what the video is: `a-rocket-rises`."""
    parts = re.findall(r"\w+", prompt.lower())
    return "-".join(parts[:8])[:60].strip("-") or "video"


def _trouble(verb: str, error: FarmError) -> Json:
    return {
        "title": f"It could not be {DONE[verb]}",
        "what": error.message,
        "charged": "Nothing was charged for trying.",
        "remedies": error.remedies,
        "held": words.holders(error.data, farm().clock()),
    }
