"""Share links on a job's page: made, listed and revoked there."""

from typing import Final

from flask import redirect, render_template, request, url_for
from flask_login import login_required
from werkzeug.wrappers import Response

from orchestrator.errors import BadRequest, Conflict, Expired
from orchestrator.farm.jobs import sharing
from orchestrator.model import Json
from web import errors
from web.api import links
from web.auth import maker
from web.context import farm
from web.pages.blueprint import bp
from web.pages.page_data import job_page, me
from web.threads import in_thread

DAY_SECONDS: Final = 86_400
SPANS: Final = {"1": 3600, "24": DAY_SECONDS, "168": 7 * DAY_SECONDS}
"""Hours that the page offers -> seconds."""


@bp.post("/jobs/<job_id>/links")
@login_required
def share(job_id: str) -> tuple[str, int]:
    """Make a share link of the video, and show its address this once."""
    made: Json = {}
    status = 201
    try:
        seconds = SPANS.get(request.form.get("hours", ""))
        if seconds is None:
            raise BadRequest("A link lasts an hour, a day or a week.")
        _, secret = in_thread(
            sharing.share,
            farm(),
            me(),
            job_id,
            name="video",
            seconds=seconds,
            maker=maker(),
            ends_with_key=request.form.get("ends_with_key") == "yes",
        )
        made = {"made_url": links.address(secret)}
    except (BadRequest, Conflict, Expired) as error:
        status = errors.STATUS[error.code]
        made = {
            "trouble": {
                "title": "It was not shared",
                "what": error.message,
                "charged": "Nothing was charged.",
                "remedies": error.remedies,
                "held": (),
            }
        }
    return render_template("job.html", **in_thread(job_page, me(), job_id), **made), status


@bp.post("/jobs/<job_id>/links/<link_id>/revoke")
@login_required
def unshare(job_id: str, link_id: str) -> Response:
    """End a share link at once."""
    in_thread(sharing.revoke, farm(), me(), link_id)
    return redirect(url_for("pages.job", job_id=job_id, _anchor="shared"), 303)
