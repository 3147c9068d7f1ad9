"""The API's description: one that validators and generators take, and that says what is true."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from openapi_spec_validator import OpenAPIV31SpecValidator

from orchestrator.farm import Farm
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand
from tests.web.conftest import Caller
from web.api.described import TAGS
from web.app import create_app

SIMPLE = {"string", "integer", "number", "boolean"}
ONCE = {
    "accounts_create",
    "jobs_submit",
    "keys_create",
    "sessions_create",
    "sessions_top_up",
    "webhooks_create",
}
"""Calls that happen once under an Idempotency-Key."""


@pytest.fixture
def spec(app: Flask) -> Any:
    """The server's description of itself."""
    return app.test_client().get("/openapi/openapi.json").get_json()


def calls(spec: Any) -> Iterator[tuple[str, str, Any]]:
    """Yield every call with its path and method."""
    for path, methods in spec["paths"].items():
        for method, call in methods.items():
            yield path, method, call


def parameters(spec: Any, call: Any) -> dict[str, str]:
    """Return a call's parameters, by name: where each stands."""
    found = {}
    for each in call["parameters"]:
        name = each.get("$ref", "").rpartition("/")[2]
        facts = spec["components"]["parameters"][name] if name else each
        found[facts["name"]] = facts["in"]
    return found


def schemas(node: Any, at: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every schema of an array in a document, and where."""
    if isinstance(node, dict):
        if node.get("type") == "array":
            yield at, node
        for name, value in node.items():
            yield from schemas(value, f"{at}/{name}")
    elif isinstance(node, list):
        for number, value in enumerate(node):
            yield from schemas(value, f"{at}/{number}")


def test_it_is_valid_openapi_3_1(spec: Any) -> None:
    """openapi-spec-validator has no complaint."""
    assert spec["openapi"].startswith("3.1.")
    assert [str(error) for error in OpenAPIV31SpecValidator(spec).iter_errors()] == []


def test_no_two_paths_are_one(spec: Any) -> None:
    """A path is a path once, whatever its parameters are called, and has no set of words in it."""
    plain = [re.sub(r"\{\w+\}", "{}", path) for path in spec["paths"]]
    assert len(plain) == len(set(plain))
    for path, _, call in calls(spec):
        named = [name for name, where in parameters(spec, call).items() if where == "path"]
        assert sorted(re.findall(r"\{(\w+)\}", path)) == sorted(named)


def test_every_call_has_a_name_and_a_subject(spec: Any) -> None:
    """Names are `subject_verb`, one of each; subjects are declared and described."""
    names = [call["operationId"] for _, _, call in calls(spec)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z]+(_[a-z]+)+", name) for name in names), names
    assert {"jobs_submit", "jobs_list", "jobs_video", "jobs_cancel", "keys_create"} <= set(names)
    described = {tag["name"]: tag["description"] for tag in spec["tags"]}
    used = [call["tags"] for _, _, call in calls(spec)]
    assert all(len(tags) == 1 for tags in used)
    assert {tag for (tag,) in used} == set(described) == set(TAGS)
    assert all(call["summary"] for _, _, call in calls(spec))


def test_every_list_says_of_what(spec: Any) -> None:
    """No list is of just anything: its items are models, or plain values."""
    for at, schema in schemas(spec):
        items = schema["items"]
        assert "$ref" in items or items.get("type") in SIMPLE, at


def test_headers_are_parameters(spec: Any) -> None:
    """X-Request-Id everywhere, Idempotency-Key where it counts, Prefer where it is granted."""
    by_header: dict[str, set[str]] = {}
    for _, _, call in calls(spec):
        for name, where in parameters(spec, call).items():
            if where == "header":
                by_header.setdefault(name, set()).add(call["operationId"])
    assert by_header["X-Request-Id"] == {call["operationId"] for _, _, call in calls(spec)}
    assert by_header["Idempotency-Key"] == ONCE
    assert by_header["Prefer"] == {"jobs_submit", "jobs_show"}
    assert by_header["If-None-Match"] == {"jobs_show"}
    assert by_header["Last-Event-ID"] == {"jobs_events"}


def test_every_refusal_is_a_problem(spec: Any) -> None:
    """Each status of a refusal has the one model, and says when to come again where it does."""
    for path, method, call in calls(spec):
        refused = {code: told for code, told in call["responses"].items() if code >= "400"}
        assert {"400", "401", "404", "422", "429", "503"} <= set(refused), (path, method)
        for code, told in refused.items():
            kinds = told["content"]
            assert list(kinds) == ["application/problem+json"]
            assert kinds["application/problem+json"]["schema"]["$ref"].endswith("/Problem")
            assert ("Retry-After" in told["headers"]) is (code in ("429", "503"))
        for told in call["responses"].values():
            assert "X-Request-Id" in told["headers"]


def test_keys_are_asked_for_but_where_none_is_needed(spec: Any) -> None:
    """Probes and signed links need none, and the metrics one from some addresses."""
    asked: dict[str, set[str]] = {}
    for _, _, call in calls(spec):
        asked.setdefault(json.dumps(call["security"]), set()).add(call["operationId"])
    assert asked.pop("[]") == {"health_healthz", "shared_fetch"}
    assert asked.pop('[{}, {"key": []}]') == {"health_metrics"}
    assert set(asked) == {'[{"key": []}]'}


def test_lists_are_called_lists(spec: Any) -> None:
    """A call that answers with a page of all things of a kind is `subject_list`."""
    pages = {
        call["operationId"]
        for path, method, call in calls(spec)
        if method == "get" and "{" not in path and "after" in parameters(spec, call)
    }
    assert "links_list" in pages
    assert {name for name in pages if not name.endswith("_list")} == set()


def undeclared(spec: Any, value: Any, schema: Any, at: str) -> Iterator[str]:
    """Yield the fields of an answer that its schema does not have, and where."""
    if name := schema.get("$ref", "").rpartition("/")[2]:
        schema = spec["components"]["schemas"]["JobBody" if name == "RequestView" else name]
    choices = [each for each in schema.get("anyOf", ()) if each != {"type": "null"}]
    if len(choices) == 1:
        yield from undeclared(spec, value, choices[0], at)
    elif isinstance(value, list):
        for each in value:
            yield from undeclared(spec, each, schema.get("items", {}), at)
    elif isinstance(value, dict) and "properties" in schema:
        for name, each in value.items():
            if name not in schema["properties"]:
                yield f"{at}.{name}"
            else:
                yield from undeclared(spec, each, schema["properties"][name], f"{at}.{name}")


def test_answers_have_no_field_that_is_not_described(
    spec: Any, caller: Caller, web_farm: Farm, clock: Clock
) -> None:
    """Of a job with everything in it, and of all lists and looks that need no id."""
    admin = caller(KeyKind.ADMIN)
    user = caller(KeyKind.USER)
    asked = {"prompt": "a dog runs", "seconds": 2, "expires_in": 7200, "tags": ["a"]}
    asked |= {"webhook_url": "https://hooks.example.com/a", "webhook_events": ["job.succeeded"]}
    made = user.post("/api/v1/jobs", json=asked)
    assert made.status_code == 202, made.text
    Hand(web_farm, clock).work_off()
    job = made.get_json()["id"]
    link = user.post(f"/api/v1/jobs/{job}/links", json={})
    paths = spec["paths"]
    answers = [("/api/v1/jobs", "post", made), ("/api/v1/jobs/{job_id}/links", "post", link)]
    for path, _, _ in (each for each in calls(spec) if each[1] == "get"):
        address = path.replace("{job_id}", job).replace("{session_id}", "default")
        if "{" in address:
            continue
        for client in (admin, user):
            answer = client.get(address)
            if answer.status_code == 200 and answer.is_json:
                answers.append((path, "get", answer))
            answer.close()
    assert len(answers) > 20
    found = set()
    for path, method, answer in answers:
        told = paths[path][method]["responses"][str(answer.status_code)]
        schema = told["content"]["application/json"]["schema"]
        found |= set(undeclared(spec, answer.get_json(), schema, path))
    assert not found, "\n".join(sorted(found))


def test_every_schema_is_used(spec: Any) -> None:
    """Nothing is described that no call has, and nothing is named that is not described."""
    named = set(re.findall(r"#/components/schemas/(\w+)", json.dumps(spec)))
    assert named == set(spec["components"]["schemas"])


def test_its_servers_are_the_public_urls(web_farm: Farm, tmp_path: Path) -> None:
    """With FARM_PUBLIC_URL those, without it wherever the document was found; never the Host."""
    public = "https://farm.example.com, http://web:8080"
    for given, urls in ((public, ["https://farm.example.com", "http://web:8080"]), ("", ["/"])):
        config = Settings(home=tmp_path / "home", public_url=given)
        client = create_app(web_farm, config, {"TESTING": True}).test_client()
        answer = client.get("/openapi/openapi.json", headers={"Host": "localhost:1234"})
        assert [each["url"] for each in answer.get_json()["servers"]] == urls
