"""The worker protocol over HTTP; docs/protocol.md says what each answer asks of a worker."""

from functools import partial
from typing import TypeVar

import structlog
from flask import Blueprint, Response, jsonify, request
from pydantic import ValidationError

from orchestrator.errors import BadRequest, NotAllowed, Unavailable
from orchestrator.farm.leases import worker_calls
from orchestrator.model import artifact_key
from orchestrator.receipt import Message
from orchestrator.remedies import Say
from orchestrator.states import Outcome, Scope, UnitKind
from orchestrator.wire import (
    FILES_OF,
    POSTER,
    PREFIX,
    SHEET,
    VIDEO,
    ClaimAnswer,
    ClaimRequest,
    CompleteRequest,
    HeartbeatRequest,
    HelloRequest,
    Order,
    ReleaseRequest,
)
from web import errors, json_text
from web.artifacts import PIECE_BYTES, Stored
from web.auth import csrf, current_key, needs
from web.context import artifacts, farm, settings
from web.media import finals
from web.policy import rule_on_frames
from web.threads import in_thread, pause, serve_workers

log = structlog.get_logger(__name__)

LOOK_SECONDS = 0.25
"""Between two looks for work within one long poll."""

FENCE_DIGITS = 9

bp = Blueprint("worker", __name__, url_prefix=PREFIX)
csrf.exempt(bp)


@bp.before_request
def _workers_alone() -> None:
    serve_workers()
    needs(Scope.WORKER, Scope.ENROL)


M = TypeVar("M", bound=Message)


@bp.post("/hello")
def hello() -> Response:
    """Enrol, or come back."""
    return _answer(in_thread(worker_calls.hello, farm(), current_key(), _read(HelloRequest)))


@bp.post("/claim")
def claim() -> Response:
    """Give the worker its next order, waiting for one for as long as it asks."""
    asked = _read(ClaimRequest)
    worker = _worker_id()
    orders: tuple[Order, ...] = in_thread(worker_calls.claim, farm(), worker, asked.hint)
    waited = 0.0
    while not orders and waited < asked.wait_seconds:
        pause(LOOK_SECONDS)
        waited += LOOK_SECONDS
        orders = in_thread(worker_calls.claim, farm(), worker, asked.hint)
    return _answer(ClaimAnswer(orders=orders))


@bp.post("/heartbeat")
def heartbeat() -> Response:
    """Renew leases and say whether to go on; keep what was measured."""
    beat = _read(HeartbeatRequest)
    worker = _worker_id()
    answer = in_thread(worker_calls.heartbeat, farm(), worker, beat)
    for pace in beat.paces:
        log.info("model paced", worker=worker, **pace.model_dump())
    return _answer(answer)


@bp.post("/complete")
def complete() -> Response:
    """Accept, settle, and hand out what comes next."""
    report = _read(CompleteRequest)
    worker = _worker_id()
    seen = in_thread(_check_files, worker, report)
    if refuted := _refuted(worker, report):
        log.warning("video refuted", worker=worker, lease=report.lease_id, fault=refuted)
    else:
        rule_on_frames(worker, report)
    same = None if refuted else partial(_check_same, seen)
    call = partial(worker_calls.complete, refuted=refuted, check_files=same)
    done = in_thread(call, farm(), worker, report)
    return _answer(done)


@bp.post("/release")
def release() -> Response:
    """Take a unit back unfinished."""
    return _answer(in_thread(worker_calls.release, farm(), _worker_id(), _read(ReleaseRequest)))


@bp.put("/artifacts/<lease_id>/<name>")
def upload(lease_id: str, name: str) -> tuple[Response, int]:
    """Store a file under an open lease."""
    fence, sha256 = request.args.get("fence", "", str), request.args.get("sha256", "", str)
    if not fence.isdecimal() or len(fence) > FENCE_DIGITS:
        raise BadRequest("fence is missing from the query, or no fence.")
    lease = (farm(), _worker_id(), lease_id, int(fence))
    key = in_thread(worker_calls.upload_key, *lease, name)
    limit = settings().max_upload_mb << 20
    request.max_content_length = limit
    # On the hub: the body comes through its socket, a piece at a time.
    # When that has ended the lease may have ended too, and nothing is put in its place then.
    size = artifacts().put(
        key,
        iter(partial(request.stream.read, PIECE_BYTES), b""),
        sha256=sha256,
        max_bytes=limit,
        under=lambda settle: in_thread(worker_calls.place, *lease, settle),
    )
    return jsonify(key=key, bytes=size), 201


@bp.get("/artifacts/<path:key>")
def download(key: str) -> Response:
    """Send a file that one of the worker's open leases names."""
    in_thread(worker_calls.may_read, farm(), _worker_id(), key)
    return artifacts().send(key, mimetype="application/octet-stream")


def _worker_id() -> str:
    worker_id = current_key().worker_id
    if worker_id is None:
        raise NotAllowed("A join token opens hello alone.", Say("Say hello and use your own key."))
    return worker_id


def _check_files(worker_id: str, report: CompleteRequest) -> dict[str, Stored]:
    """Refuse a report whose files are not all there, or are others; return what lies there by key.

    Blocking: SQL, disk.
    """
    seen: dict[str, Stored] = {}
    if not report.receipt.artifacts:
        return seen
    unit_id = worker_calls.unit_of(farm(), worker_id, report.lease_id)
    for file in report.receipt.artifacts:
        key = artifact_key(unit_id, report.fence, file.name)
        stored = artifacts().stored(key)
        if stored is None:
            raise Unavailable(f"{file.name} has not arrived.", Say("Upload it, then complete."))
        if (stored.sha256, stored.bytes) != (file.sha256, file.bytes):
            raise BadRequest(
                f"{file.name} is not the file that was uploaded: its SHA-256 or size is another.",
                Say("Report what was sent; nothing was charged, the lease is still open."),
            )
        seen[key] = stored
    return seen


def _check_same(seen: dict[str, Stored]) -> None:
    """Refuse a report whose files were sent anew while the farm looked at them. Blocking: disk."""
    for key, was in seen.items():
        if artifacts().stored(key) != was:
            name = key.rpartition("/")[2]
            raise BadRequest(
                f"{name} was sent anew while its report was looked at.",
                Say("Send it once, then complete; nothing was charged, the lease is still open."),
            )


def _refuted(worker_id: str, report: CompleteRequest) -> str:
    """Return what is wrong with the files of a finished video; nothing: they are what they say.

    FFmpeg runs beside the hub; only SQL is asked on a thread.
    """
    names = {file.name for file in report.receipt.artifacts}
    if report.outcome is not Outcome.DONE or not names >= FILES_OF[UnitKind.ENCODE]:
        return ""
    ordered = in_thread(worker_calls.video_ordered, farm(), worker_id, report.lease_id)
    if ordered is None:
        return ""
    unit_id = in_thread(worker_calls.unit_of, farm(), worker_id, report.lease_id)
    keys = {name: artifact_key(unit_id, report.fence, name) for name in (VIDEO, POSTER, SHEET)}
    for name in (POSTER, SHEET):
        with artifacts().open(keys[name]) as file:
            if not finals.is_jpeg(file.read(finals.HEAD_BYTES)):
                return f"{name} is no JPEG."
    with artifacts().as_file(keys[VIDEO]) as video:
        return finals.fault(video, ordered, settings().ffmpeg)


def _read(kind: type[M]) -> M:
    """Return the message that was sent, in which neither `true` nor `"1000"` is a number."""
    try:
        return kind.model_validate_json(json_text.bare(request.get_data()), strict=True)
    except ValidationError as error:
        raise errors.bad_request(error) from None


def _answer(message: Message) -> Response:
    return Response(message.model_dump_json(), mimetype="application/json")
