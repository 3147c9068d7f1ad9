"""Jobs and quotes: ask what it costs, submit, watch, pause, resume, finish, cancel, fetch."""

from zlib import crc32

from flask import Response, jsonify, make_response, request
from flask_openapi import APIBlueprint

from orchestrator.errors import NotFound, TooMany
from orchestrator.farm import jobs
from orchestrator.farm.books import receipts, verification
from orchestrator.farm.jobs import deleting, forecasts, keeping, waiting
from orchestrator.model import Job, Json
from orchestrator.remedies import Rerun, Say, Watch
from orchestrator.states import Scope, UnitKind
from orchestrator.wire import STRIP
from web import uploads
from web.api import archive, bills, submission, views
from web.api.bodies import JobBody, LabelsBody
from web.api.described import (
    REFUSALS,
    content,
    form_of,
    operation_id,
    ref_of,
    sheet_of,
    tag,
)
from web.api.events import stream, until_ended
from web.api.parameters import (
    MAX_EVENT_ID,
    EventsQuery,
    FormatQuery,
    JobPath,
    JobsQuery,
    ShowHeader,
    StreamHeader,
    SubmitHeader,
    SubmitQuery,
    idempotency,
    wait_seconds,
)
from web.api.responses import SECURITY, AuditView, JobList, JobView, QuoteView, ReceiptView
from web.auth import account_scope, clients, current_key, may, own_account, told, within_reach
from web.context import artifacts, farm
from web.threads import in_thread

bp = APIBlueprint(
    "jobs",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
    abp_tags=[tag("jobs")],
    operation_id_callback=operation_id,
)
bp.before_request(clients)

FILES = {
    "video": ("video/mp4", "mp4"),
    "poster": ("image/jpeg", "jpg"),
    "sheet": ("image/jpeg", "jpg"),
}
OVER = "Its expires_at is over or within an hour: `request` leaves it out."
KINDS = sorted({kind for kind, _ in FILES.values()})
BODY: object = {
    "required": True,
    "content": {
        "application/json": {"schema": ref_of(JobBody, "validation")},
        "multipart/form-data": {"schema": form_of("JobForm", JobBody, "image", "storyboard")},
    },
}


@bp.post("/quotes", request_body=BODY, responses={200: QuoteView})
def quote() -> Response:
    """Say what a job would cost; nothing is written."""
    body = submission.read_body()
    brief = submission.brief_of(body, keep_files=False)
    estimate = in_thread(
        jobs.estimate,
        farm(),
        account_id=own_account(),
        session_id=body.session_id,
        brief=brief,
        handling=submission.handled(body, brief),
        fit=body.fit,
        key=current_key(),
    )
    if estimate.refusal:
        estimate.refusal.data = told(estimate.refusal)
    return jsonify(views.quote(estimate))


@bp.post("/jobs", request_body=BODY, responses={200: JobView, 202: JobView})
def submit(query: SubmitQuery, header: SubmitHeader) -> Response:
    """Submit a job: its budget is held at once, and it runs when a device is free.

    202 with the job as it is now; with `Prefer: wait=N`, 200 if it has ended by then. A refusal
    names the variants that would fit where `alternatives=true` asks for them; a quote always does.
    """
    wait = wait_seconds()
    newest = 0 if wait is None else in_thread(jobs.last_event_id, farm())
    body = submission.read_body()
    promise = idempotency()
    brief = submission.brief_of(body, keep_files=True)
    made = submission.submit(brief, body, promise, alternatives=query.alternatives)
    job = made.job
    if wait is not None:
        try:
            job = _waited(job, newest, wait)
        except TooMany:  # it is taken, and a preference may be left
            wait = None
    answer = _shown(job, webhook_secret=made.webhook_secret, waited=wait)
    answer.status_code = 200 if wait is not None and job.state.is_terminal else 202
    answer.headers["Location"] = f"{views.BASE}/jobs/{job.id}"
    return answer


@bp.get("/jobs", responses={200: JobList}, operation_id="jobs_list")
def listing(query: JobsQuery) -> Response:
    """List jobs, newest first: all of them, or those that are all of what is asked for."""
    page = in_thread(
        jobs.listing,
        farm(),
        account_scope(),
        limit=query.limit,
        after=query.after,
        wanted=query.wanted,
        names_of=current_key().account_id,
    )
    waits = in_thread(waiting.queued, farm(), page.items)
    how_far = in_thread(forecasts.of_all, farm(), page.items, waits)
    return jsonify(
        views.listed(
            page,
            lambda job: (
                views.job(job, how_far[job.id]) | {"waiting_for": views.waiting(waits.get(job.id))}
            ),
        )
    )


@bp.get("/jobs/<job_id>", responses={200: JobView, 304: None})
def show(header: ShowHeader, path: JobPath) -> Response:
    """Show a job. Send its ETag as If-None-Match, and an unchanged job is a 304.

    With `Prefer: wait=N` the answer waits for the job's end, for N seconds at most.
    """
    wait = wait_seconds()
    newest = 0 if wait is None else in_thread(jobs.last_event_id, farm())
    job = in_thread(jobs.get, farm(), account_scope(), path.job_id)
    answer = _shown(job if wait is None else _waited(job, newest, wait), waited=wait)
    answer.make_conditional(request)
    return answer


@bp.patch("/jobs/<job_id>", responses={200: JobView})
def label(path: JobPath, body: LabelsBody) -> Response:
    """Give a job other tags and change its metadata, in any state."""
    tags = None if body.tags is None else tuple(body.tags)
    scope, said, job_id = account_scope(), body.metadata, _within_reach(path.job_id).id
    return _shown(in_thread(jobs.relabel, farm(), scope, job_id, tags=tags, metadata=said))


@bp.delete("/jobs/<job_id>", responses={204: None})
def delete(path: JobPath) -> tuple[str, int]:
    """Delete an ended job and its files; its ledger entries stay."""
    job = _within_reach(path.job_id)
    left = in_thread(deleting.delete, farm(), account_scope(), job.id)
    in_thread(uploads.delete_files, left)
    return "", 204


@bp.post("/jobs/<job_id>/pause", responses={200: JobView})
def pause(path: JobPath) -> Response:
    """Pause a job; what runs stops at the next denoising step."""
    return _shown(in_thread(jobs.pause, farm(), account_scope(), _within_reach(path.job_id).id))


@bp.post("/jobs/<job_id>/resume", responses={200: JobView})
def resume(path: JobPath) -> Response:
    """Let a paused job go on."""
    return _shown(in_thread(jobs.resume, farm(), account_scope(), _within_reach(path.job_id).id))


@bp.post("/jobs/<job_id>/finish", responses={200: JobView})
def finish(path: JobPath) -> Response:
    """Finish a paused job with the frames that it has.

    They become its video, which says that it is `truncated`.
    """
    return _shown(in_thread(jobs.finish, farm(), account_scope(), _within_reach(path.job_id).id))


@bp.post("/jobs/<job_id>/cancel", responses={200: JobView})
def cancel(path: JobPath) -> Response:
    """Cancel a job; what runs stops at the next denoising step."""
    return _shown(in_thread(jobs.cancel, farm(), account_scope(), _within_reach(path.job_id).id))


@bp.get("/jobs/<job_id>/events", responses={**content("text/event-stream"), 204: None})
def events(header: StreamHeader, path: JobPath, query: EventsQuery) -> Response:
    """Follow a job by server-sent events; a broken stream resumes by Last-Event-ID.

    It ends with the job, and with the key that opened it.
    """
    job = in_thread(jobs.get, farm(), account_scope(), path.job_id)
    newest = request.headers.get("Last-Event-ID", "")
    after = min(int(newest[:19]), MAX_EVENT_ID) if newest.isdecimal() else query.after
    return stream(job, after)


@bp.get("/jobs/<job_id>/video", responses=content("video/mp4"))
def video(path: JobPath) -> Response:
    """Fetch a finished job's video; ranges are answered."""
    return finished_file(in_thread(jobs.get, farm(), account_scope(), path.job_id), "video")


@bp.get("/jobs/<job_id>/poster", responses=content("image/jpeg"))
def poster(path: JobPath) -> Response:
    """Fetch a finished job's poster: one frame of it."""
    return finished_file(in_thread(jobs.get, farm(), account_scope(), path.job_id), "poster")


@bp.get("/jobs/<job_id>/sheet", responses=content("image/jpeg"))
def sheet(path: JobPath) -> Response:
    """Fetch a finished job's contact sheet."""
    return finished_file(in_thread(jobs.get, farm(), account_scope(), path.job_id), "sheet")


def finished_file(job: Job, name: str) -> Response:
    """Answer with a file of a finished job.

    Raises:
        NotFound: it has none by that name.
        Expired: it had one for a time.
    """
    keeping.check_kept(job)
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
    keeping.check_kept(job)
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
        labels = {"tags": " ".join(told["tags"]), "metadata": bills.pairs(told["metadata"])}
        lines = [line | labels for line in told["lines"]]
        return bills.csv_answer("receipt", bills.RECEIPT, lines)
    return jsonify(told)


@bp.get("/jobs/<job_id>/receipt/audit", responses={200: AuditView})
def verify(path: JobPath) -> Response:
    """Compute the receipt anew from the ledger: what was checked, the first entry at fault."""
    return jsonify(
        bills.audit(in_thread(verification.verify, farm(), account_scope(), path.job_id))
    )


def _within_reach(job_id: str) -> Job:
    return within_reach(in_thread(jobs.get, farm(), account_scope(), job_id))


def _waited(job: Job, newest: int, seconds: int) -> Job:
    """Return a job as it is at its end, or when its client has waited enough.

    `newest`: an event from before the job was read, so that its end is seen in any case.
    """
    if job.state.is_terminal or not seconds:
        return job
    until_ended(job, newest, seconds)
    return in_thread(jobs.get, farm(), job.account_id, job.id)


def _asked(job: Job) -> Json:
    """Return the body that asks for a job again, with its webhook for a key that may see it."""
    asked = views.request_of(job, farm().clock())
    if not may(Scope.CONFIGURE) and job.key_id != current_key().first_id:
        return asked
    return asked | submission.told_words(job, job.account_id)


def _shown(job: Job, *, webhook_secret: str | None = None, waited: int | None = None) -> Response:
    waits = in_thread(waiting.reason, farm(), job)
    how_far = in_thread(forecasts.of_one, farm(), job, waits)
    asked = _asked(job)
    shown = views.job(job, how_far)
    shown |= {"waiting_for": views.waiting(waits), "request": asked}
    if job.keep_until_ms and "expires_at" not in asked:
        shown["notes"] = [*shown["notes"], OVER]
    if not may(Scope.READ):
        shown = views.without_words(shown)
    if webhook_secret and may(Scope.CONFIGURE):
        shown["webhook_secret"] = webhook_secret
    answer = make_response(jsonify(shown))
    eta = None if how_far.left_ms is None else how_far.left_ms // 1000
    moved = crc32(f"{waits} {how_far.percent} {eta} {asked}".encode())
    answer.set_etag(f"{job.id}-{job.revision}-{moved:x}")
    answer.headers["Cache-Control"] = "private, no-cache"
    if waited is not None:
        answer.headers["Preference-Applied"] = f"wait={waited}"
    return answer
