"""Signed links: one file of one job, for whoever has the address, for a short while.

A link is not kept anywhere: it carries what it opens and until when, signed with the secret that
signs cookies. It ends early with its job.
"""

from typing import Literal

from flask import Response, current_app, request
from flask_openapi import APIBlueprint
from itsdangerous import BadSignature, URLSafeSerializer
from pydantic import BaseModel, Field

from orchestrator.errors import NotFound
from orchestrator.farm import jobs
from orchestrator.model import Json
from orchestrator.remedies import Say
from orchestrator.states import Scope
from web import hosts
from web.api import views
from web.api.bodies import Body
from web.api.described import REFUSALS, content, operation_id, tag
from web.api.jobs import KINDS, finished_file
from web.api.parameters import JobPath
from web.api.responses import SECURITY, LinkView
from web.auth import account_scope, needs
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "links",
    __name__,
    url_prefix=views.BASE,
    abp_responses=REFUSALS,
    abp_tags=[tag("links")],
    operation_id_callback=operation_id,
)


@bp.before_request
def _makers_read() -> None:
    """Let only who may read a file hand it on; who has the link needs nothing."""
    if request.method == "POST":
        needs(Scope.READ)


class LinkBody(Body):
    """Which file, and for how long."""

    name: Literal["video", "poster", "sheet"] = "video"
    seconds: int = Field(3600, ge=1, le=7 * 86_400)


class LinkPath(BaseModel):
    """A signed link."""

    token: str = Field(max_length=500)


@bp.post("/jobs/<job_id>/links", security=SECURITY, responses={201: LinkView})
def create(path: JobPath, body: LinkBody) -> tuple[Json, int]:
    """Make an address that opens one file of a job without a key, for a while."""
    job = in_thread(jobs.get, farm(), account_scope(), path.job_id)
    until_ms = farm().clock() + body.seconds * 1000
    token = str(_signer().dumps([job.id, body.name, until_ms]))
    url = f"{hosts.base()}{views.BASE}/files/{token}"
    return {"object": "link", "url": url, "expires_at": views.when(until_ms)}, 201


@bp.get("/files/<token>", responses=content(*KINDS))
def fetch(path: LinkPath) -> Response:
    """Fetch the file that a signed link opens; ranges are answered, no key is asked for."""
    gone = NotFound("This link is not valid or has ended.", Say("Ask its owner for a new one."))
    try:
        job_id, name, until_ms = _signer().loads(path.token)
    except (BadSignature, ValueError, TypeError):
        raise gone from None
    if farm().clock() >= until_ms:
        raise gone
    answer = finished_file(in_thread(jobs.get, farm(), None, job_id), name)
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


def _signer() -> URLSafeSerializer:
    return URLSafeSerializer(current_app.config["SECRET_KEY"], salt="download link")
