"""Bodies and answers for OpenAPI, where flask-openapi derives nothing from a model."""

from typing import Any, Final

from pydantic import BaseModel

from orchestrator.model import Json

Described = dict[int | str, object]


def schema_of(model: type[BaseModel]) -> Json:
    """Return a model's JSON schema with its parts in their places: OpenAPI finds no `$defs`."""
    schema = model.model_json_schema()
    parts = schema.pop("$defs", {})

    def whole(node: object) -> Any:
        if isinstance(node, list):
            return [whole(each) for each in node]
        if not isinstance(node, dict):
            return node
        if "$ref" in node:
            part = parts[node["$ref"].rpartition("/")[2]]
            return whole({**part, **{k: v for k, v in node.items() if k != "$ref"}})
        return {name: whole(value) for name, value in node.items()}

    described: Json = whole(schema)
    return described


def form_of(model: type[BaseModel], *files: str) -> Json:
    """Return the schema of a model sent as a form: a field without a value is left out."""
    schema = schema_of(model)
    fields = {name: _given(field) for name, field in schema["properties"].items()}
    fields |= {name: {"type": "string", "format": "binary"} for name in files}
    return {
        "type": "object",
        "description": "The same fields as form fields, and files.",
        "properties": fields,
        "additionalProperties": False,
    }


def _given(field: Json) -> Json:
    """Return a field's schema without its null."""
    if "anyOf" not in field:
        return field
    given = [each for each in field["anyOf"] if each != {"type": "null"}]
    one: Json = given[0]
    return one if len(given) == 1 else {**field, "anyOf": given}


def sheet_of(view: type[BaseModel]) -> Described:
    """Return the answers of a call that tells the same as JSON or as CSV.

    The number is what tests check answers by, the text is what OpenAPI shows: one would hide the
    other but for their kinds.
    """
    content = {"application/json": {"schema": schema_of(view)}, **_text("text/csv")}
    return {200: view, "200": {"description": "As JSON, or as CSV.", "content": content}}


def content(*media_types: str, status: int = 200, description: str = "The file.") -> Described:
    """Return the answers of a call that sends something else than JSON."""
    kinds = {kind: part for each in media_types for kind, part in _text(each).items()}
    return {str(status): {"description": description, "content": kinds}}


def _text(media_type: str) -> Json:
    stream = media_type == "text/event-stream"  # a list of events, each one as its kind has it
    return {media_type: {} if stream else {"schema": {"type": "string"}}}


REMEDY: Final = {
    "description": "What helps: a sentence, its data, and the call that does it, if one does.",
    "type": "object",
    "required": ["code", "text", "data", "call"],
    "properties": {
        **{name: {"type": "string"} for name in ("code", "text")},
        "data": {"type": "object"},
        "call": {
            "type": "object",
            "nullable": True,
            "required": ["method", "path"],
            "properties": {
                **{name: {"type": "string"} for name in ("method", "path")},
                "body": {"type": "object", "nullable": True},
            },
        },
    },
}
REFUSAL: Final = {
    "description": "RFC 9457: what happened, and what to do next.",
    "content": {
        "application/problem+json": {
            "schema": {
                "type": "object",
                "required": ["type", "title", "status", "detail", "code", "next"],
                "properties": {
                    "status": {"type": "integer"},
                    **{name: {"type": "string"} for name in ("type", "title", "detail")},
                    "code": {"type": "string"},
                    "next": REMEDY,
                    "also": {"type": "array", "items": REMEDY},
                },
            }
        }
    },
}
TOO_LONG: Final = {
    "description": "The address is longer than the server before the farm reads.",
    "content": _text("text/html"),
}
REFUSALS: Final[Described] = {"4XX": REFUSAL, "422": REFUSAL, "414": TOO_LONG}
"""Every refusal."""
