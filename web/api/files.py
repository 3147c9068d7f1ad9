"""Files and characters: the reference pictures that an account keeps, listed and deleted."""

from typing import Any

from flask import Response, jsonify
from flask_openapi import APIBlueprint

from orchestrator.farm.accounts import references
from orchestrator.model import Json, Reference
from web.api import views
from web.api.described import REFUSALS, content, tag
from web.api.parameters import CharacterPath, KeptFilePath, PageQuery
from web.api.responses import SECURITY, KeptList, KeptView
from web.auth import account_scope, clients
from web.context import artifacts, farm
from web.threads import in_thread

bp = APIBlueprint(
    "files",
    __name__,
    url_prefix=views.BASE,
    abp_security=SECURITY,
    abp_responses=REFUSALS,
)
bp.before_request(clients)


def _named(subject: str, verb: str) -> dict[str, Any]:
    """Return the subject of a call and its name, as the API's description has them."""
    return {"tags": [tag(subject)], "operation_id": f"{subject}_{verb}"}


TYPES = {"png": "image/png", "jpg": "image/jpeg", "jpeg": "image/jpeg", "webp": "image/webp"}


@bp.get("/files", responses={200: KeptList}, **_named("files", "list"))
def files(query: PageQuery) -> Response:
    """List files, newest first."""
    return _listed("file", query)


@bp.get("/files/<file_id>", responses={200: KeptView}, **_named("files", "show"))
def show_file(path: KeptFilePath) -> Response:
    """Show a file."""
    return jsonify(_view(_found("file", path.file_id)))


@bp.get(
    "/files/<file_id>/content",
    responses=content(*sorted(set(TYPES.values()))),
    **_named("files", "content"),
)
def file_content(path: KeptFilePath) -> Response:
    """Fetch the picture of a file, as the farm keeps it."""
    return picture_of(_found("file", path.file_id))


@bp.delete("/files/<file_id>", responses={204: None}, **_named("files", "delete"))
def delete_file(path: KeptFilePath) -> tuple[str, int]:
    """Delete a file; one that a job needs which has not ended is a 409."""
    return _deleted("file", path.file_id)


@bp.get("/characters", responses={200: KeptList}, **_named("characters", "list"))
def characters(query: PageQuery) -> Response:
    """List characters, newest first."""
    return _listed("character", query)


@bp.get("/characters/<character_id>", responses={200: KeptView}, **_named("characters", "show"))
def show_character(path: CharacterPath) -> Response:
    """Show a character."""
    return jsonify(_view(_found("character", path.character_id)))


@bp.get(
    "/characters/<character_id>/content",
    responses=content(*sorted(set(TYPES.values()))),
    **_named("characters", "content"),
)
def character_content(path: CharacterPath) -> Response:
    """Fetch the picture of a character, as the farm keeps it."""
    return picture_of(_found("character", path.character_id))


@bp.delete("/characters/<character_id>", responses={204: None}, **_named("characters", "delete"))
def delete_character(path: CharacterPath) -> tuple[str, int]:
    """Delete a character; one that a job needs which has not ended is a 409."""
    return _deleted("character", path.character_id)


def picture_of(row: Reference) -> Response:
    """Answer with the picture of a file or a character."""
    ending = row.image.rpartition(".")[2]
    return artifacts().send(
        row.image, mimetype=TYPES.get(ending, "image/png"), download_name=f"{row.id}.{ending}"
    )


def _listed(kind: references.Kind, query: PageQuery) -> Response:
    page = in_thread(
        references.listing, farm(), account_scope(), kind, limit=query.limit, after=query.after
    )
    return jsonify(views.listed(page, _view))


def _found(kind: references.Kind, reference_id: str) -> Reference:
    return in_thread(references.get, farm(), account_scope(), kind, reference_id)


def _deleted(kind: references.Kind, reference_id: str) -> tuple[str, int]:
    remove = artifacts().remove
    in_thread(references.delete, farm(), account_scope(), kind, reference_id, remove)
    return "", 204


def _view(row: Reference) -> Json:
    return {
        "id": row.id,
        "object": row.kind,
        "name": row.name,
        "account_id": row.account_id,
        "bytes": row.bytes,
        "created_at": views.when(row.created_at_ms),
        "expires_at": views.when(row.expires_at_ms),
    }
