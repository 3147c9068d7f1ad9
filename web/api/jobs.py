"""Jobs and quotes: ask what it costs, submit, watch, pause, resume, finish, cancel, fetch."""

from zlib import crc32

from flask import Response, jsonify, make_response, request
from flask_openapi import APIBlueprint

from orchestrator.errors import NotFound
from orchestrator.farm import jobs
from orchestrator.farm.books import receipts, verification
from orchestrator.farm.jobs import deleting, waiting
from orchestrator.model import Job
from orchestrator.remedies import Rerun, Say, Watch
from orchestrator.states import UnitKind
from orchestrator.wire import STRIP
from web import uploads
from web.api import archive, bills, submission, views
from web.api.bodies import JobBody
from web.api.described import REFUSALS, content, form_of, schema_of, sheet_of
from web.api.events import stream
from web.api.parameters import (
    MAX_EVENT_ID,
    EventsQuery,
    FilePath,
    FormatQuery,
    IntentPath,
    JobPath,
    JobsQuery,
    idempotency,
)
from web.api.responses import SECURITY, AuditView, JobView, Listed, QuoteView, ReceiptView
from web.auth import account_scope, clients, own_account
from web.context import artifacts, farm
from web.threads import in_thread

bp = APIBlueprint(
    "jobs",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
)
bp.before_request(clients)

VERBS = {
    "pause": jobs.pause,
    "resume": jobs.resume,
    "finish": jobs.finish,
    "cancel": jobs.cancel,
}
FILES = {
    "video": ("video/mp4", "mp4"),
    "poster": ("image/jpeg", "jpg"),
    "sheet": ("image/jpeg", "jpg"),
}
KINDS = sorted({kind for kind, _ in FILES.values()})
BODY: object = {
    "required": True,
    "content": {
        "application/json": {"schema": schema_of(JobBody)},
        "multipart/form-data": {"schema": form_of(JobBody, "image", "storyboard")},
    },
}


@bp.post("/quotes", request_body=BODY, responses={200: QuoteView})
def quote() -> Response:
    """Say what a job would cost; nothing is written."""
    body = submission.read_body()
    estimate = in_thread(
        jobs.estimate,
        farm(),
        account_id=own_account(),
        session_id=body.session_id,
        brief=submission.brief_of(body, keep_files=False),
        fit=body.fit,
    )
    return jsonify(views.quote(estimate))


@bp.post("/jobs", request_body=BODY, responses={202: JobView})
def submit() -> Response:
    """Submit a job: its budget is held at once, and it runs when a device is free."""
    body = submission.read_body()
    promise = idempotency()
    made = submission.submit(submission.brief_of(body, keep_files=True), body, promise)
    job = made.job
    answer = _shown(job, webhook_secret=made.webhook_secret)
    answer.status_code = 202
    answer.headers["Location"] = f"{views.BASE}/jobs/{job.id}"
    return answer


@bp.get("/jobs", responses={200: Listed})
def listing(query: JobsQuery) -> Response:
    """List jobs, newest first."""
    page = in_thread(
        jobs.listing,
        farm(),
        account_scope(),
        limit=query.limit,
        after=query.after,
        state=query.state,
        session_id=query.session_id,
    )
    waits = in_thread(waiting.queued, farm(), page.items)
    return jsonify(
        views.listed(
            page, lambda job: views.job(job) | {"waiting_for": views.waiting(waits.get(job.id))}
        )
    )


@bp.get("/jobs/<job_id>", responses={200: JobView, 304: None})
def show(path: JobPath) -> Response:
    """Show a job. Send its ETag as If-None-Match, and an unchanged job is a 304."""
    answer = _shown(in_thread(jobs.get, farm(), account_scope(), path.job_id))
    answer.make_conditional(request)
    return answer


@bp.delete("/jobs/<job_id>", responses={204: None})
def delete(path: JobPath) -> tuple[str, int]:
    """Delete an ended job and its files; its ledger entries stay."""
    left = in_thread(deleting.delete, farm(), account_scope(), path.job_id)
    in_thread(uploads.delete_files, left)
    return "", 204


@bp.post("/jobs/<job_id>/<any(pause, resume, finish, cancel):verb>", responses={200: JobView})
def intent(path: IntentPath) -> Response:
    """Pause, resume, finish or cancel a job; what runs stops at the next denoising step.

    A paused job is finished with the frames that it has: they become its video, which says that
    it is `truncated`.
    """
    return _shown(in_thread(VERBS[path.verb], farm(), account_scope(), path.job_id))


@bp.get("/jobs/<job_id>/events", responses={**content("text/event-stream"), 204: None})
def events(path: JobPath, query: EventsQuery) -> Response:
    """Follow a job by server-sent events; a broken stream resumes by Last-Event-ID.

    It ends with the job, and with the key that opened it.
    """
    job = in_thread(jobs.get, farm(), account_scope(), path.job_id)
    newest = request.headers.get("Last-Event-ID", "")
    after = min(int(newest[:19]), MAX_EVENT_ID) if newest.isdecimal() else query.after
    return stream(job, after)


@bp.get("/jobs/<job_id>/<any(video, poster, sheet):name>", responses=content(*KINDS))
def file(path: FilePath) -> Response:
    """Fetch a finished job's video, poster or contact sheet; ranges are answered."""
    return finished_file(in_thread(jobs.get, farm(), account_scope(), path.job_id), path.name)


def finished_file(job: Job, name: str) -> Response:
    """Answer with a file of a finished job.

    Raises:
        NotFound: it has none by that name.
    """
    if name not in job.artifacts:
        raise NotFound(
            f"The job is {job.state} and has no {name} yet.",
            Rerun(job.id) if job.state.is_terminal else Watch(job.id),
        )
    mimetype, ending = FILES[name]
    return artifacts().send(
        job.artifacts[name].key,
        mimetype=mimetype,
        download_name=f"{job.id}.{ending}",
    )


@bp.get("/jobs/<job_id>/frames.zip", responses=content("application/zip"))
def frames(path: JobPath) -> Response:
    """Fetch the frames that are done as the model painted them, as PNGs in a ZIP."""
    return archive.frames_zip(in_thread(jobs.get, farm(), account_scope(), path.job_id))


@bp.get("/jobs/<job_id>/preview", responses=content("image/jpeg"))
def preview(path: JobPath) -> Response:
    """Fetch a picture of what is there: the newest frames side by side, or the contact sheet."""
    job = in_thread(jobs.get, farm(), account_scope(), path.job_id)
    if "sheet" in job.artifacts:
        return artifacts().send(job.artifacts["sheet"].key, mimetype="image/jpeg")
    for view in reversed(in_thread(jobs.units, farm(), account_scope(), path.job_id)):
        if view.lease and view.unit.kind is UnitKind.RENDER:
            key = view.lease.key(STRIP)
            return artifacts().send(key, mimetype="image/jpeg", max_age=0)
    raise NotFound(
        f"The job is {job.state} and has no frame yet.",
        Say("Ask again when frames_done is more than 0."),
    )


@bp.get("/jobs/<job_id>/receipt", responses=sheet_of(ReceiptView))
def receipt(path: JobPath, query: FormatQuery) -> Response:
    """Show what each unit measured and cost, and what was not charged; as CSV its lines."""
    told = bills.receipt(in_thread(receipts.receipt, farm(), account_scope(), path.job_id))
    if bills.csv_wanted():
        return bills.csv_answer("receipt", bills.RECEIPT, told["lines"])
    return jsonify(told)


@bp.get("/jobs/<job_id>/receipt/audit", responses={200: AuditView})
def verify(path: JobPath) -> Response:
    """Compute the receipt anew from the ledger: what was checked, the first entry at fault."""
    return jsonify(
        bills.audit(in_thread(verification.verify, farm(), account_scope(), path.job_id))
    )


def _shown(job: Job, *, webhook_secret: str | None = None) -> Response:
    waits = in_thread(waiting.reason, farm(), job)
    shown = views.job(job) | {"waiting_for": views.waiting(waits), "request": views.request_of(job)}
    if webhook_secret:
        shown["webhook_secret"] = webhook_secret
    answer = make_response(jsonify(shown))
    answer.set_etag(f"{job.id}-{job.revision}-{crc32(str(waits).encode()):x}")
    answer.headers["Cache-Control"] = "private, no-cache"
    return answer
