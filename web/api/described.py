"""The API's description for OpenAPI 3.1: what flask-openapi derives of the views, and the rest.

Generated clients are named by it: a call is `subject_verb`, an answer the name of its model.
"""

from importlib.metadata import version
from typing import Any, Final

from flask_openapi import Info, OpenAPI, Tag
from pydantic import BaseModel
from pydantic.json_schema import JsonSchemaMode

from orchestrator.model import Json
from web.api.responses import Problem
from web.auth import IN_WORDS
from web.request_ids import HEADER, MAX_CHARS

Described = dict[int | str, object]

VERSION: Final = "3.1.1"
PLACE: Final = "#/components/schemas"
_SCHEMAS: Final[dict[str, Json]] = {}
"""Of models that no view takes or returns as a whole."""

ABOUT: Final = """\
A farm renders videos from prompts, under budgets in GPU-seconds that are held before a device
works.

Send a key as `Authorization: Bearer farm_…`. A refusal is a problem (RFC 9457) that says what
happened and what helps; nothing is charged for it. Every answer has an `X-Request-Id`, which is in
the farm's log; a 429 or a 503 says in `Retry-After` when to come again. A POST with an
`Idempotency-Key` happens once, however often it is sent.
"""
TAGS: Final = {
    "jobs": "Videos: what one would cost; ask for one, watch it, steer it, fetch it.",
    "sessions": "Budgets: what is left, what is held, and every movement.",
    "files": "Pictures that an account keeps for its videos.",
    "characters": "The same under a name, for whoever is in them.",
    "links": "Addresses of files that open without a key, for a while.",
    "models": "What the farm paints with.",
    "webhooks": "Endpoints that are told what happens.",
    "accounts": "Who pays, and what a month may cost.",
    "keys": "Keys to this API.",
    "people": "Who may sign in to the pages.",
    "workers": "Devices, the queues before them, and the brake on all of them.",
    "usage": "What was used, what it cost, and how good the quotes were.",
    "audit": "What was done by administrators, and whether the books hold.",
    "health": "For probes.",
}


def tag(name: str) -> Tag:
    """Return a subject of the API."""
    return Tag(name=name, description=TAGS[name])


def operation_id(*, bp_name: str, name: str, path: str, method: str) -> str:
    """Return a call's name: its subject's and its view's. flask-openapi names the arguments."""
    return f"{bp_name}_{name}"


class Api(OpenAPI):  # type: ignore[misc]  # flask-openapi has no types
    """The application, whose description is one of OpenAPI 3.1 and says what every call has."""

    def __init__(self, *args: Any, **more: Any) -> None:
        info = Info(
            title="Framefarm",
            version=version("framefarm"),
            description=ABOUT,
            license={"name": "Apache-2.0", "identifier": "Apache-2.0"},
        )
        key = {"type": "http", "scheme": "bearer", "description": IN_WORDS}
        super().__init__(
            *args,
            info=info,
            security_schemes={"key": key},
            validation_error_model=Problem,
            **more,
        )
        self.openapi_version = VERSION

    def generate_spec_json(self) -> None:
        """Write the description."""
        super().generate_spec_json()
        spec: Json = self.spec_json
        spec["tags"] = [{"name": name, "description": said} for name, said in TAGS.items()]
        spec["components"]["schemas"] |= _SCHEMAS
        spec["components"]["parameters"] = {"RequestId": REQUEST_ID}
        spec["components"]["headers"] = {"RequestId": NAMED, "RetryAfter": RETRY_AFTER}
        for calls in spec["paths"].values():
            for call in calls.values():
                _finish(call)


def _finish(call: Json) -> None:
    """Say of a call what is true of every one."""
    call.setdefault("security", [])
    if "description" in call:
        call["description"] = call["description"].replace("<br/>", "\n").strip()
    call.setdefault("parameters", []).append({"$ref": "#/components/parameters/RequestId"})
    for status, answer in call["responses"].items():
        headers = answer.setdefault("headers", {})
        headers[HEADER] = {"$ref": "#/components/headers/RequestId"}
        if status in ("429", "503"):
            headers["Retry-After"] = {"$ref": "#/components/headers/RetryAfter"}


REQUEST_ID: Final = {
    "name": HEADER,
    "in": "header",
    "required": False,
    "description": f"A name for this request, for logs: at most {MAX_CHARS} letters, digits and "
    "`._:+/=@~-`. Absent, or with anything else in it: the farm makes one.",
    "schema": {"type": "string"},
}
NAMED: Final = {
    "description": "The request's name: the client's own, or the farm's.",
    "schema": {"type": "string"},
}
RETRY_AFTER: Final = {
    "description": "Seconds after which to come again.",
    "schema": {"type": "integer", "minimum": 1},
}


def ref_of(model: type[BaseModel], mode: JsonSchemaMode = "serialization") -> Json:
    """Return a reference to a model's schema, which is then among the description's."""
    schema = model.model_json_schema(ref_template=f"{PLACE}/{{model}}", mode=mode)
    _SCHEMAS.update(schema.pop("$defs", {}))
    _SCHEMAS[model.__name__] = schema
    return {"$ref": f"{PLACE}/{model.__name__}"}


def form_of(name: str, model: type[BaseModel], *files: str) -> Json:
    """Return a reference to the schema of a model sent as a form.

    A field without a value is left out; what is no text or number is JSON.
    """
    schema = model.model_json_schema(ref_template=f"{PLACE}/{{model}}")
    fields = {name: _given(field) for name, field in schema["properties"].items()}
    fields |= {name: {"type": "string", "format": "binary"} for name in files}
    _SCHEMAS[name] = {
        "title": name,
        "type": "object",
        "description": "The same fields as form fields, and files.",
        "properties": fields,
        "additionalProperties": False,
    }
    return {"$ref": f"{PLACE}/{name}"}


def _given(field: Json) -> Json:
    """Return a field's schema without its null."""
    if "anyOf" not in field:
        return field
    given = [each for each in field["anyOf"] if each != {"type": "null"}]
    if len(given) > 1:
        return {name: field[name] for name in field if name != "default"} | {"anyOf": given}
    kept = {name: field[name] for name in ("description", "title") if name in field}
    one: Json = given[0] | kept
    return one


def sheet_of(view: type[BaseModel]) -> Described:
    """Return the answers of a call that tells the same as JSON or as CSV.

    The number is what tests check answers by, the text is what OpenAPI shows: one would hide the
    other but for their kinds.
    """
    content = {"application/json": {"schema": ref_of(view)}, "text/csv": TEXT}
    return {200: view, "200": {"description": "As JSON, or as CSV.", "content": content}}


def content(*media_types: str, status: int = 200, description: str = "The file.") -> Described:
    """Return the answers of a call that sends something else than JSON."""
    kinds = {kind: _form_of(kind) for kind in media_types}
    if FILE in kinds.values():
        kinds["application/octet-stream"] = FILE  # for generators, of which some know no other
    return {str(status): {"description": description, "content": kinds}}


def _form_of(media_type: str) -> Json:
    if media_type == "text/event-stream":
        return {}  # a list of events, each one as its kind has it
    return TEXT if media_type.startswith("text/") else FILE


TEXT: Final = {"schema": {"type": "string"}}
FILE: Final = {"schema": {"type": "string", "format": "binary"}}
_PROBLEM: Final = {"application/problem+json": {"schema": ref_of(Problem)}}
REFUSED: Final = {
    "400": "The request cannot be read, or asks for a name that is not the farm's.",
    "401": "There is no valid key.",
    "402": "The budget does not reach; what holds it and what would fit is said.",
    "403": "The key or the plan does not allow it.",
    "404": "There is no such thing, or it is another account's.",
    "405": "The address is not for this method.",
    "408": "The request came too slowly.",
    "409": "The thing is not in a state for that.",
    "410": "It was here, and has ended: a share link, or files whose time is over.",
    "413": "The request is too large, or there is no room for it.",
    "414": "The address is too long.",
    "415": "The body is of a kind that this call does not take.",
    "422": "A field does not fit; each is named.",
    "429": "Too much at once.",
    "431": "The headers are too large.",
    "500": "Something broke inside the farm.",
    "503": "A part that the farm needs is away.",
    "507": "The farm's disk is full.",
}
REFUSALS: Final[Described] = {
    status: {"description": said, "content": _PROBLEM} for status, said in REFUSED.items()
}
"""Every refusal."""
