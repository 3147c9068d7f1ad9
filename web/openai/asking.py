"""Requests of OpenAI's clients, as the native API's bodies.

They send forms even without a file, name nested fields with brackets (`video[id]`), write every
number as text, and put what `extra_body` holds flat beside the rest.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

from flask import request
from pydantic import ValidationError
from werkzeug.datastructures import FileStorage

from orchestrator.errors import BadRequest
from orchestrator.farm.jobs import extensions
from orchestrator.model import Json
from orchestrator.remedies import Say
from web import errors, json_text, uploads
from web.api.bodies import JobBody
from web.api.submission import Picture, one_value, unpacked
from web.auth import own_account
from web.context import farm, settings
from web.threads import in_thread

OPENAI_MODEL: Final = re.compile(r"sora(-[\w.-]*)?")
BRACKETS: Final = re.compile(r"(\w+)((?:\[\w*\])+)")
DATA_URL: Final = re.compile(r"data:[\w/+.-]*(?:;[\w=-]+)*;base64,", re.ASCII)
PICTURE_FIELD: Final = "input_reference"
LEAST_SECONDS: Final = 3_600
MOST_SECONDS: Final = 2_592_000
"""Of `expires_after`, as OpenAI has them."""


def fields() -> Json:
    """Return the fields of this request, from JSON or a form, nested where their names say so.

    Raises:
        BadRequest: it is neither.
    """
    if request.mimetype in ("multipart/form-data", "application/x-www-form-urlencoded"):
        # A picture may come as a data URL in a field; the body as a whole is bounded anyway.
        request.max_form_memory_size = settings().max_body_mb << 20
        return _nested(request.form.items(multi=True))
    asked = json_text.read(request.get_data())
    if not isinstance(asked, dict):
        raise BadRequest("The body is no JSON object.")
    return {name: value for name, value in asked.items() if value is not None}


def need(asked: Json, name: str) -> str:
    """Take a text out of the fields.

    Raises:
        BadRequest: it is missing or empty.
    """
    value = asked.pop(name, None)
    if not isinstance(value, str) or not value.strip():
        raise missing(name)
    return value


def missing(name: str) -> BadRequest:
    """Return the refusal of a request that lacks a field."""
    fault = {"field": name, "fault": "missing"}
    return BadRequest(f"{name} is missing or empty.", errors=[fault])


def video_id(asked: Json) -> str:
    """Take the id of the source video out of the fields: `video[id]`, or its file as it was sent.

    Raises:
        BadRequest: there is none, or a file that this farm did not make.
    """
    video = asked.pop("video", None)
    if upload := request.files.get("video"):
        sha256 = hashlib.sha256(upload.read()).hexdigest()
        made = in_thread(extensions.find_video, farm(), own_account(), sha256)
        if made is None:
            raise BadRequest(
                "Only a video that this farm made can be edited or extended, and this file is "
                "none of your newest ones.",
                Say('Send its id (`video={"id": "job_…"}`), or its file as it was downloaded.'),
                errors=[{"field": "video", "fault": "not made here"}],
            )
        return made.id
    if isinstance(video, Mapping):
        video = video.get("id")
    if not isinstance(video, str) or not video:
        raise missing("video.id")
    return video


def body_of(asked: Json) -> JobBody:
    """Return the fields as the native API's body; what that takes is taken here too.

    Raises:
        BadRequest: a field is unknown or out of range.
    """
    model = asked.get("model", "sora-2")  # as OpenAI has it where none is named
    if isinstance(model, str) and OPENAI_MODEL.fullmatch(model):
        asked = asked | {"model": settings().openai_model or None}
    asked = unpacked(asked)
    try:
        return JobBody.from_texts(asked)
    except ValidationError as error:
        raise errors.bad_request(error) from None


def picture(asked: Json, kept: Callable[[str, str], str]) -> Picture | None:
    """Take the reference picture out of the fields; `kept` finds one by (field, id).

    It comes as a file of any name and type, as a data URL, as a file's id, or as a character's.

    Raises:
        BadRequest: it is none of these, or there are several.
    """
    found: list[Picture] = []
    if upload := request.files.get(PICTURE_FIELD):
        found.append(partial(keep_upload, upload))
    reference = asked.pop(PICTURE_FIELD, None)
    if reference is not None:
        found.append(_referred(reference, kept))
    found += [partial(kept, "characters", each) for each in _ids(asked.pop("characters", None))]
    if len(found) > 1:
        raise BadRequest(
            "There are several reference pictures; a video starts from one.",
            Say("Send one input_reference or one character."),
            errors=[{"field": PICTURE_FIELD, "fault": "several"}],
        )
    return found[0] if found else None


def keep_upload(upload: FileStorage) -> str:
    """Store an uploaded picture; its content says what it is, not its name."""
    return uploads.keep_picture(upload.read())


def expires_after(asked: Json) -> int | None:
    """Take out of the fields after how many seconds a file goes; None: as its plan has it.

    Raises:
        BadRequest: that is no time from its creation on, or out of range.
    """
    given = asked.pop("expires_after", None)
    if given is None:
        return None
    facts = given if isinstance(given, Mapping) else {}
    if facts.get("anchor", "created_at") != "created_at":
        raise _bad("expires_after.anchor", "must be created_at")
    seconds = str(facts.get("seconds", ""))
    is_whole = seconds.isascii() and seconds.isdecimal()
    if not is_whole or not LEAST_SECONDS <= int(seconds[:12]) <= MOST_SECONDS:
        raise _bad(
            "expires_after.seconds", f"must be whole seconds, {LEAST_SECONDS} to {MOST_SECONDS}"
        )
    return int(seconds)


def only(*names: str) -> None:
    """Refuse a list that is asked for by something else than these: it would not be heeded.

    Raises:
        BadRequest: the query has another name; the message says which.
    """
    for name in request.args:
        if name not in names:
            raise BadRequest(
                f"{errors.known(name)} is no filter of this list, which has {', '.join(names)}.",
                Say("Leave it out, or list by tag, model and more with GET /api/v1/jobs."),
                errors=[{"field": errors.known(name), "fault": "unknown"}],
            )


def limit(otherwise: int, most: int) -> int:
    """Return how many rows of a list are asked for.

    Raises:
        BadRequest: no number of rows that a part of this list may have.
    """
    given = request.args.get("limit", str(otherwise))
    if not (given.isascii() and given.isdecimal() and 1 <= int(given[:9]) <= most):
        raise _bad("limit", f"must be a whole number from 1 to {most}")
    return int(given)


def one_of(name: str, otherwise: str, words: tuple[str, ...]) -> str:
    """Return a word of the query.

    Raises:
        BadRequest: it is none of these.
    """
    given = request.args.get(name, otherwise)
    if given not in words:
        raise _bad(name, f"must be one of {', '.join(words)}")
    return given


def _bad(name: str, fault: str) -> BadRequest:
    data: Json = {"errors": [{"field": name, "fault": fault}]}
    return BadRequest(f"{name} {fault}.", **data)


def _referred(reference: object, kept: Callable[[str, str], str]) -> Picture:
    facts = reference if isinstance(reference, Mapping) else {"image_url": reference}
    url, file_id = facts.get("image_url"), facts.get("file_id")
    if isinstance(url, str) and url.startswith("data:"):
        return partial(uploads.keep_picture, _data(url))
    if isinstance(file_id, str):
        return partial(kept, "file", file_id)
    raise BadRequest(
        f"{PICTURE_FIELD} is no file, no data URL and no file_id; this farm fetches no addresses.",
        Say("Send the picture itself: as a file, or as data:image/png;base64,…."),
        errors=[{"field": PICTURE_FIELD, "fault": "cannot be read"}],
    )


def _data(url: str) -> bytes:
    head = DATA_URL.match(url)
    try:
        if head:
            return base64.b64decode(url[head.end() :], validate=True)
    except (binascii.Error, ValueError):
        pass
    raise BadRequest(
        "image_url is no base64 data URL.",
        errors=[{"field": f"{PICTURE_FIELD}.image_url", "fault": "not base64"}],
    )


def _ids(characters: object) -> list[str]:
    if characters is None:
        return []
    each = characters if isinstance(characters, list) else [characters]
    ids = [c.get("id") if isinstance(c, Mapping) else c for c in each]
    if not all(isinstance(found, str) for found in ids):
        raise BadRequest(
            "characters is no list of ids.", errors=[{"field": "characters", "fault": "no ids"}]
        )
    return [str(found) for found in ids]


def _nested(items: Any) -> Json:
    """Return form fields as JSON would have them: `a[b]` an object, `a[]` a list.

    Raises:
        BadRequest: a field that is neither is there twice, or is no text.
    """
    asked: Json = {}
    for name, value in items:
        if value == "":
            continue
        found = BRACKETS.fullmatch(name)
        if not found:
            asked[name] = one_value([value] if name not in asked else [value, value], name)
            continue
        parts = re.findall(r"\[(\w*)\]", found[2])
        leaf = next((part for part in reversed(parts) if part), None)
        several = "" in parts or any(part.isdecimal() for part in parts)
        item = {leaf: value} if leaf and not leaf.isdecimal() else value
        if several:
            asked.setdefault(found[1], [])
            if isinstance(asked[found[1]], list):
                asked[found[1]].append(item)
        elif isinstance(item, dict) and isinstance(asked.setdefault(found[1], {}), dict):
            asked[found[1]] |= item
    return asked
