"""Share links: one file of one job, for whoever has the address, for a while."""

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm.jobs import sharing
from orchestrator.model import Json, ShareLink
from orchestrator.states import LinkEnd, Scope
from web import hosts
from web.api import views
from web.api.bodies import LinkBody
from web.api.described import REFUSALS, content, operation_id, tag
from web.api.jobs import KINDS, finished_file
from web.api.parameters import JobPath, LinkPath, LinksQuery, PageQuery, SharedPath
from web.api.responses import SECURITY, LinkList, LinkView
from web.auth import account_scope, clients, maker, own_line
from web.context import farm
from web.threads import in_thread

bp = APIBlueprint(
    "links",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
    abp_tags=[tag("links")],
    operation_id_callback=operation_id,
)
shared = APIBlueprint(
    "shared",
    __name__,
    url_prefix=views.BASE,
    abp_responses=REFUSALS,
    abp_tags=[tag("links")],
    operation_id_callback=operation_id,
)
"""For those who have an address: they need no key."""
bp.before_request(clients)


@bp.post("/jobs/<job_id>/links", responses={201: LinkView})
def create(path: JobPath, body: LinkBody) -> tuple[Json, int]:
    """Make an address that opens one file of a job without a key, for a while.

    The address is shown this once. With `ends_with_key` it ends with the key that makes it.
    """
    link, secret = in_thread(
        sharing.share,
        farm(),
        account_scope(),
        path.job_id,
        name=body.name,
        seconds=body.seconds,
        maker=maker(),
        ends_with_key=body.ends_with_key,
    )
    return view(link) | {"url": address(secret)}, 201


@bp.get("/jobs/<job_id>/links", responses={200: LinkList})
def of_job(path: JobPath, query: PageQuery) -> Response:
    """List the share links of a job, newest first, without their addresses."""
    return _listed(query, path.job_id)


@bp.get("/links", responses={200: LinkList}, operation_id="links_list")
def listing(query: LinksQuery) -> Response:
    """List share links, newest first, without their addresses."""
    return _listed(query, query.job_id)


@bp.delete("/links/<link_id>", responses={200: LinkView})
def revoke(path: LinkPath) -> Response:
    """End a share link at once; one that has ended already stays as it is.

    One that another key made, or somebody in a browser, asks for the scope `steer` or `configure`.
    """
    line = own_line(Scope.STEER, Scope.CONFIGURE)
    ended = in_thread(sharing.revoke, farm(), account_scope(), path.link_id, made_by=line)
    return jsonify(view(ended))


@shared.get("/shared/<token>", responses=content(*KINDS))
def fetch(path: SharedPath) -> Response:
    """Fetch the file that a share link opens; ranges are answered, no key is asked for.

    A link that has ended is a 410, and says why.
    """
    answer = finished_file(*in_thread(sharing.opened, farm(), path.token))
    answer.headers["Cache-Control"] = "private, no-store"
    return answer


def address(secret: str) -> str:
    """Return where a link with this secret part opens its file."""
    return f"{hosts.base()}{views.BASE}/shared/{secret}"


def view(row: ShareLink) -> Json:
    """Return a share link; its address is known only when it is made."""
    return {
        "id": row.id,
        "object": "link",
        "state": state(row),
        "job_id": row.job_id,
        "name": row.name,
        "key_id": row.key_id,
        "person_id": row.person_id,
        "ends_with_key": row.ends_with_key,
        "created_at": views.when(row.created_at_ms),
        "expires_at": views.when(row.expires_at_ms),
        "ended_at": views.when(row.ended_at_ms),
    }


def state(row: ShareLink) -> str:
    """Return `open`, or in a word why a link opens nothing any more."""
    if row.ended_by is not None:
        return {LinkEnd.KEY: "key ended", LinkEnd.JOB: "job deleted"}.get(row.ended_by, "revoked")
    return "open" if row.expires_at_ms > farm().clock() else "expired"


def _listed(query: PageQuery, job_id: str | None) -> Response:
    page = in_thread(
        sharing.listing,
        farm(),
        account_scope(),
        job_id=job_id,
        limit=query.limit,
        after=query.after,
    )
    return jsonify(views.listed(page, view))
