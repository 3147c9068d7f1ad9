"""Pictures to start videos from, kept as files (`client.files`) or under a character's name."""

from typing import Final

from flask import Blueprint, Response, jsonify, request

from orchestrator import safe_text
from orchestrator.errors import BadRequest
from orchestrator.farm.accounts import references
from orchestrator.model import Json, Reference
from web import uploads
from web.api.files import picture_of
from web.auth import account_scope, clients, csrf, own_account
from web.context import artifacts, farm, settings
from web.media import film
from web.openai import asking
from web.openai.showing import timestamp
from web.threads import in_thread

bp = Blueprint("references", __name__, url_prefix="/v1")
csrf.exempt(bp)
bp.before_request(clients)

NAME_CHARS: Final = 200
PAGE: Final = 100
MOST: Final = 10_000
"""Files that a client may ask for at once; it gets 200 at the most, and hears of the others."""
PICTURES: Final = (b"\x89PNG", b"\xff\xd8\xff", b"RIFF")
"""Beginnings of PNG, JPEG and WebP; anything else must be a video."""


@bp.post("/files")
def create_file() -> Response:
    """Keep a picture, for `input_reference={"file_id": …}`."""
    asked = asking.fields()
    upload = request.files.get("file")
    if upload is None:
        raise asking.missing("file")
    name = _file_name(upload.filename or "")
    seconds = asking.expires_after(asked)
    return jsonify(_file(uploads.keep_reference(upload.read(), "file", name, seconds)))


@bp.get("/files")
def list_files() -> Response:
    """List kept pictures, newest first; `last_id` is where the next page begins."""
    page = in_thread(
        references.listing,
        farm(),
        account_scope(),
        "file",
        limit=asking.limit(PAGE, MOST),
        after=request.args.get("after") or None,
        oldest_first=asking.one_of("order", "desc", ("asc", "desc")) == "asc",
    )
    shown = [_file(row) for row in page.items]
    return jsonify(
        object="list",
        data=shown,
        first_id=shown[0]["id"] if shown else None,
        last_id=shown[-1]["id"] if shown else None,
        has_more=page.next_cursor is not None,
    )


@bp.post("/videos/characters")
def create_character() -> Response:
    """Keep one frame of a short video, or a picture, under a name."""
    asked = asking.fields()
    name = _name(asking.need(asked, "name"))
    upload = request.files.get("video")
    if upload is None:
        raise asking.missing("video")
    data = upload.read()
    if not data.startswith(PICTURES):
        data = film.portrait(data, settings().ffmpeg)
    made = uploads.keep_reference(data, "character", name, asking.expires_after(asked))
    return jsonify(_character(made))


@bp.get("/videos/characters/<character_id>")
def show_character(character_id: str) -> Response:
    """Show a character."""
    found = in_thread(references.get, farm(), account_scope(), "character", character_id)
    return jsonify(_character(found))


@bp.get("/files/<file_id>")
def show_file(file_id: str) -> Response:
    """Show a kept picture."""
    return jsonify(_file(in_thread(references.get, farm(), account_scope(), "file", file_id)))


@bp.get("/files/<file_id>/content")
def file_content(file_id: str) -> Response:
    """Send a kept picture, as the farm keeps it."""
    return picture_of(in_thread(references.get, farm(), account_scope(), "file", file_id))


@bp.delete("/files/<file_id>")
def delete_file(file_id: str) -> Response:
    """Delete a kept picture; one that a job needs which has not ended is a 409."""
    remove = artifacts().remove
    in_thread(references.delete, farm(), account_scope(), "file", file_id, remove)
    return jsonify(id=file_id, object="file", deleted=True)


def _name(asked: str) -> str:
    try:
        name = safe_text.label(asked)
        if len(name) <= NAME_CHARS:
            return name
        fault = f"must have at most {NAME_CHARS} characters"
    except ValueError as error:
        fault = str(error)
    raise BadRequest(f"name {fault}.", errors=[{"field": "name", "fault": fault}])


def _file_name(sent: str) -> str:
    """Return what a file is called where it comes from; here it is called by its content."""
    return safe_text.one_line(safe_text.normal(sent))[:NAME_CHARS] or "upload"


def kept_image(kind: str, reference_id: str) -> str:
    """Return the key of a kept picture: of a `file`, or of one of the `characters`."""
    wanted: references.Kind = "file" if kind == "file" else "character"
    return in_thread(references.get, farm(), own_account(), wanted, reference_id).image


def _character(row: Reference) -> Json:
    return {
        "id": row.id,
        "object": "character",
        "name": row.name,
        "created_at": timestamp(row.created_at_ms),
    }


def _file(row: Reference) -> Json:
    return {
        "id": row.id,
        "object": "file",
        "bytes": row.bytes,
        "created_at": timestamp(row.created_at_ms),
        "expires_at": row.expires_at_ms and timestamp(row.expires_at_ms),
        "filename": row.name,
        "purpose": "vision",
        "status": "processed",
    }
