"""Every call against everybody who might make it; the table is held to the URL map."""

import re
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.farm.accounts.keys import CLIENTS, Bounds
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, account_id, submit
from tests.web import evil
from tests.web.conftest import Caller
from web import auth

READ = (
    "GET /api/v1/account",
    "GET /api/v1/characters",
    "GET /api/v1/characters/{character_id}",
    "GET /api/v1/characters/{character_id}/content",
    "GET /api/v1/files",
    "GET /api/v1/files/{file_id}",
    "GET /api/v1/files/{file_id}/content",
    "GET /api/v1/freeze",
    "GET /api/v1/jobs",
    "GET /api/v1/jobs/{job_id}",
    "GET /api/v1/jobs/{job_id}/events",
    "GET /api/v1/jobs/{job_id}/frames.zip",
    "GET /api/v1/jobs/{job_id}/links",
    "GET /api/v1/jobs/{job_id}/preview",
    "GET /api/v1/jobs/{job_id}/receipt",
    "GET /api/v1/jobs/{job_id}/receipt/audit",
    "GET /api/v1/jobs/{job_id}/poster",
    "GET /api/v1/jobs/{job_id}/sheet",
    "GET /api/v1/jobs/{job_id}/video",
    "GET /api/v1/links",
    "GET /api/v1/models",
    "GET /api/v1/models/{model_id}",
    "GET /api/v1/plans",
    "GET /api/v1/queues",
    "GET /api/v1/rates",
    "GET /api/v1/sessions/{session_id}/ledger",
    "GET /api/v1/sessions/{session_id}/ledger/audit",
    "GET /api/v1/usage",
    "GET /api/v1/usage/calibration",
    "GET /api/v1/workers",
    "GET /v1/files",
    "GET /v1/files/{file_id}",
    "GET /v1/files/{file_id}/content",
    "GET /v1/models",
    "GET /v1/models/{model_id}",
    "GET /v1/videos",
    "POST /api/v1/jobs/{job_id}/links",
    "GET /v1/videos/characters/{character_id}",
    "GET /v1/videos/{video_id}",
    "GET /v1/videos/{video_id}/content",
)

SPEND = (
    "DELETE /api/v1/jobs/{job_id}",
    "DELETE /v1/videos/{video_id}",
    "PATCH /api/v1/jobs/{job_id}",
    "POST /api/v1/jobs",
    "POST /api/v1/jobs/{job_id}/cancel",
    "POST /api/v1/jobs/{job_id}/finish",
    "POST /api/v1/jobs/{job_id}/pause",
    "POST /api/v1/jobs/{job_id}/resume",
    "POST /api/v1/quotes",
    "POST /v1/files",
    "POST /v1/videos",
    "POST /v1/videos/characters",
    "POST /v1/videos/edits",
    "POST /v1/videos/extensions",
    "POST /v1/videos/{video_id}/remix",
)

STEER = (
    "DELETE /api/v1/characters/{character_id}",
    "DELETE /api/v1/files/{file_id}",
    "DELETE /v1/files/{file_id}",
)

PAY = (
    "POST /api/v1/sessions",
    "POST /api/v1/sessions/{session_id}/close",
    "POST /api/v1/sessions/{session_id}/default",
    "POST /api/v1/sessions/{session_id}/reopen",
    "POST /api/v1/sessions/{session_id}/top-ups",
    "PUT /api/v1/keys/{key_id}/limit",
    "PUT /api/v1/sessions/{session_id}/limit",
)

CONFIGURE = (
    "DELETE /api/v1/keys/{key_id}",
    "DELETE /api/v1/webhooks/{webhook_id}",
    "POST /api/v1/keys/{key_id}/rotate",
    "POST /api/v1/webhooks",
    "POST /api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/replay",
    "POST /api/v1/webhooks/{webhook_id}/enable",
    "POST /api/v1/webhooks/{webhook_id}/rotate",
    "POST /api/v1/webhooks/{webhook_id}/test",
    "PUT /api/v1/sessions/{session_id}/alerts",
)

BUDGETS = (
    "GET /api/v1/sessions",
    "GET /api/v1/sessions/{session_id}",
)
"""Asks for reading or paying."""

SETTINGS = (
    "DELETE /api/v1/links/{link_id}",
    "GET /api/v1/webhooks",
    "GET /api/v1/webhooks/{webhook_id}",
    "GET /api/v1/webhooks/{webhook_id}/deliveries",
)
"""Asks for reading or configuring."""

KEYS = ("GET /api/v1/keys",)
"""Asks for reading, paying or configuring."""

ADMIN = (
    "DELETE /api/v1/people/{person_id}",
    "GET /api/v1/accounts",
    "GET /api/v1/accounts/{account_id}",
    "GET /api/v1/audit",
    "GET /api/v1/checks",
    "GET /api/v1/people",
    "POST /api/v1/people",
    "PUT /api/v1/people/{person_id}/password",
    "GET /api/v1/usage/economics",
    "POST /api/v1/accounts",
    "PUT /api/v1/accounts/{account_id}/alerts",
    "PUT /api/v1/accounts/{account_id}/plan",
    "POST /api/v1/keys",
    "POST /api/v1/workers/{worker_id}/admit",
    "POST /api/v1/workers/{worker_id}/drain",
    "PUT /api/v1/freeze",
)

WORKER = (
    "GET /worker/v1/artifacts/{key}",
    "POST /worker/v1/claim",
    "POST /worker/v1/complete",
    "POST /worker/v1/heartbeat",
    "POST /worker/v1/hello",
    "POST /worker/v1/release",
    "PUT /worker/v1/artifacts/{lease_id}/{name}",
)

PAGES = (
    "GET /",
    "GET /account",
    "GET /books",
    "GET /books.csv",
    "GET /calibration",
    "GET /calibration.csv",
    "GET /jobs/{job_id}",
    "GET /jobs/{job_id}/live",
    "GET /jobs/{job_id}/receipt.json",
    "GET /jobs/{job_id}/strips/{unit_id}",
    "GET /jobs/{job_id}/{name}",
    "GET /pictures",
    "GET /pictures/{kind}/{kept_id}",
    "GET /videos",
    "POST /",
    "POST /jobs/{job_id}/links",
    "POST /jobs/{job_id}/links/{link_id}/revoke",
    "POST /jobs/{job_id}/{verb}",
    "POST /keys/{key_id}/limit",
    "POST /pictures/{kind}/{kept_id}/delete",
    "POST /quote",
    "POST /sessions",
    "POST /sign-out",
    "POST /top-ups",
)
"""A signed-in browser's; everybody else is sent to the text_input."""

OPEN = (
    "GET /api/v1/shared/{token}",
    "GET /healthz",
    "GET /metrics",
    "GET /openapi/",
    "GET /openapi/oauth2-redirect.html",
    "GET /openapi/openapi.json",
    "GET /openapi/static/{filename}",
    "GET /openapi/swagger",
    "GET /openapi/swagger/{filename}",
    "GET /sign-in",
    "GET /sign-in/provider",
    "GET /sign-in/provider/back",
    "GET /sign-in/{token}",
    "GET /static/{filename}",
    "POST /sign-in",
)
"""Need no key, and say nothing of any account."""

OWNERS = READ + SPEND + STEER + PAY + CONFIGURE + BUDGETS + SETTINGS + KEYS
KEYED = OWNERS + ADMIN + WORKER
OWNED = (
    "{job_id}",
    "{video_id}",
    "{session_id}",
    "{key_id}",
    "{webhook_id}",
    "{link_id}",
    "{file_id}",
    "{character_id}",
)
ALL = {KeyKind.USER, KeyKind.ADMIN}
HOLDERS = {
    "read": {KeyKind.READ, *ALL},
    "spend": {KeyKind.SUBMIT, *ALL},
    "steer": ALL,
    "pay": {KeyKind.PAY, *ALL},
    "configure": {KeyKind.CONFIGURE, *ALL},
    "read or pay": {KeyKind.READ, KeyKind.PAY, *ALL},
    "read or configure": {KeyKind.READ, KeyKind.CONFIGURE, *ALL},
    "read or pay or configure": {KeyKind.READ, KeyKind.PAY, KeyKind.CONFIGURE, *ALL},
    "admin": {KeyKind.ADMIN},
    "worker": {KeyKind.WORKER, KeyKind.JOIN},
}
NO_FILES = (
    "/preview", "/frames.zip", "/{name}", "/video", "/poster", "/sheet",
    "/content", "/replay",
)  # fmt: skip
"""Calls that find the job, and then no file: a worker by hand paints none."""
SCOPED = {
    call: scope
    for scope, calls in zip(
        HOLDERS,
        (READ, SPEND, STEER, PAY, CONFIGURE, BUDGETS, SETTINGS, KEYS, ADMIN, WORKER),
        strict=True,
    )
    for call in calls
}
BODIES: dict[str, Any] = {
    "PUT /api/v1/freeze": {"frozen": False},
    "POST /api/v1/accounts": {"name": "guest", "plan": "free"},
    "PUT /api/v1/accounts/{account_id}/plan": {"plan": "studio"},
    "PUT /api/v1/accounts/{account_id}/alerts": {"alerts": None},
    "PUT /api/v1/sessions/{session_id}/alerts": {"alerts": [{"percent": 90}]},
    "PUT /api/v1/sessions/{session_id}/limit": {"gpu_seconds": 1},
    "PATCH /api/v1/jobs/{job_id}": {"tags": ["seen"]},
    "POST /api/v1/jobs/{job_id}/links": {},
    "POST /api/v1/keys": {"name": "another"},
    "POST /api/v1/keys/{key_id}/rotate": {"keep_seconds": 0},
    "POST /api/v1/sessions/{session_id}/top-ups": {"gpu_seconds": 1},
    "PUT /api/v1/keys/{key_id}/limit": {"gpu_seconds": 10_000},
    "POST /v1/videos/{video_id}/remix": {"prompt": "a cat"},
}
METHODS = {"GET", "POST", "PUT", "PATCH", "DELETE"}


def plain(rule: str) -> str:
    """Return a rule's path in OpenAPI's spelling."""
    return re.sub(r"<(?:[^<>]*:)?(\w+)>", r"{\1}", rule)


def test_every_route_is_placed(app: Flask) -> None:
    """A call that is in none of these lists, or a list's call that is gone, fails here."""
    found = {
        f"{method} {plain(rule.rule)}"
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) & METHODS
    }
    placed = [*KEYED, *PAGES, *OPEN]
    assert found - set(placed) == set(), "place them"
    assert set(placed) - found == set(), "they are gone"
    assert len(placed) == len(set(placed))


def test_every_call_of_the_description_is_placed(app: Flask) -> None:
    """openapi.json describes no call that the matrix does not know."""
    described = app.test_client().get("/openapi/openapi.json").get_json()["paths"]
    calls = {f"{m.upper()} {plain(p)}" for p, way in described.items() for m in way}
    known = {re.sub(r"\{\w+\}", "{}", call) for call in (*KEYED, *OPEN)}
    assert {re.sub(r"\{[^}]*\}", "{}", call) for call in calls} <= known


@pytest.fixture
def things(web_farm: Farm, clock: Clock, api: FlaskClient, caller: Caller) -> dict[str, str]:
    """One of everything that the home account owns, by the name it has in an address."""
    job, video = submit(web_farm), submit(web_farm)
    hand = Hand(web_farm, clock)
    hand.work_off()
    file = api.post("/v1/files", data={"file": (_file(), "a.png"), "purpose": "vision"}).get_json()
    character = api.post(
        "/v1/videos/characters", data={"video": (_file(), "a.png"), "name": "Ada"}
    ).get_json()
    webhook = api.post("/api/v1/webhooks", json={"url": "https://hooks.example.com/a"}).get_json()
    mine, _ = keys.create(
        web_farm,
        account_id=account_id(web_farm),
        kind=KeyKind.USER,
        name="mine",
        bounds=Bounds(gpu_ms=1_000),
    )
    link = api.post(f"/api/v1/jobs/{video.id}/links", json={}).get_json()
    mine, _ = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.USER, name="mine")
    caller()  # other keys beside it
    return {
        "job_id": job.id,
        "video_id": video.id,
        "account_id": account_id(web_farm),
        "session_id": job.session_id,
        "key_id": mine.id,
        "webhook_id": webhook["id"],
        "link_id": link["id"],
        "delivery_id": "dlv_none",
        "file_id": file["id"],
        "person_id": "per_none",
        "character_id": character["id"],
        "kind": "files",
        "kept_id": file["id"],
        "model_id": "fake",
        "worker_id": hand.id,
        "lease_id": "lse_none",
        "unit_id": "unt_none",
        "key": "units/unt_1/1/video.mp4",
        "filename": "none.css",
        "token": "farm_signin_none",
    }


def _file() -> Any:
    import io

    return io.BytesIO(evil.picture())


def made(call: str, things: dict[str, str]) -> tuple[str, str]:
    """Return the method and the address of a call on these things."""
    method, path = call.split(" ")
    verb = "drain" if "worker_id" in path else "cancel"
    return method, path.format(**things, verb=verb, name="video")


def send(client: FlaskClient, call: str, things: dict[str, str]) -> Any:
    """Make a call without a body and return its answer, closed."""
    method, path = made(call, things)
    answer = client.open(path, method=method, json=BODIES.get(call))
    answer.close()
    return answer


@pytest.mark.parametrize("token", [None, "Bearer", "Bearer farm_user_x_y", "Basic YTpi"])
def test_without_a_key_nothing_opens(app: Flask, things: dict[str, str], token: str | None) -> None:
    """Every call with a scope is a 401 without a live key, whatever it names."""
    client = app.test_client()
    if token:
        client.environ_base["HTTP_AUTHORIZATION"] = token
    for call in KEYED:
        assert send(client, call, things).status_code == 401, call


def test_a_revoked_or_expired_key_opens_nothing(
    app: Flask, web_farm: Farm, clock: Clock, things: dict[str, str]
) -> None:
    """A key that ended a moment ago is no key, on any call."""
    owner = account_id(web_farm)
    row, revoked = keys.create(web_farm, account_id=owner, kind=KeyKind.ADMIN, name="r")
    keys.revoke(web_farm, None, row.id)
    _, expired = keys.create(
        web_farm, account_id=owner, kind=KeyKind.ADMIN, name="e", ttl_seconds=5
    )
    clock.advance(6)
    for token in (revoked, expired):
        client = app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        for call in KEYED:
            assert send(client, call, things).status_code == 401, call


@pytest.mark.parametrize("kind", list(KeyKind))
def test_a_key_opens_what_its_scopes_say(
    caller: Caller, things: dict[str, str], kind: KeyKind
) -> None:
    """Any other call is a 403, and names the scope it asks for."""
    client = caller(kind)
    for call, scope in SCOPED.items():
        if kind in HOLDERS[scope]:
            continue
        answer = send(client, call, things)
        assert answer.status_code == 403, (call, kind)
        assert "scope" in answer.get_data(as_text=True)


@pytest.mark.parametrize("kind", sorted(CLIENTS))
def test_a_bad_body_is_not_read_for_a_key_without_the_scope(
    caller: Caller, things: dict[str, str], kind: KeyKind
) -> None:
    """It is a 403 before it is a 422: what a call takes is told to those who may make it."""
    client = caller(kind)
    for call, scope in SCOPED.items():
        if kind not in HOLDERS[scope]:
            method, path = made(call, things)
            for bad in ({"json": []}, {"data": "{", "content_type": "application/json"}):
                answer = client.open(f"{path}?limit=x&format=x", method=method, **bad)
                assert answer.status_code == 403, (call, kind)


def test_the_table_of_scopes_names_views_that_are_there(app: Flask) -> None:
    """A view that is renamed or goes takes its line along."""
    assert set(auth.ASKED) <= set(app.view_functions)


def test_the_owner_gets_in(caller: Caller, things: dict[str, str]) -> None:
    """With its own key and its own things, no call is refused at the text_input."""
    user = caller(KeyKind.USER)
    last = ("DELETE", "POST /api/v1/sessions/{session_id}/close")
    twice = "DELETE /v1/files/{file_id}"  # after it was deleted by the other dialect
    for call in sorted(OWNERS, key=lambda c: c.startswith(last)):
        allowed = {404} if call.endswith(NO_FILES) or call == twice else set()
        status = send(user, call, things).status_code
        assert status not in {401, 403, 404, 405, 500} - allowed, (call, status)


@pytest.mark.parametrize("call", [c for c in OWNERS if any(o in c for o in OWNED)])
def test_another_tenants_things_are_not_found(
    other: FlaskClient, things: dict[str, str], call: str
) -> None:
    """Whatever belongs to another account is a 404, as if it were not there."""
    method, path = made(call, things)
    body = BODIES.get(call)
    answer = other.open(path, method=method, json=body)
    assert answer.status_code == 404, answer.text
    ghost = {name: f"{value[:4]}ghost" for name, value in things.items()}
    nothing = other.open(made(call, ghost)[1], method=method, json=body)
    assert nothing.status_code == 404


@pytest.mark.parametrize("call", [c for c in READ if "{" not in c and c.startswith("GET")])
def test_another_tenants_lists_hold_nothing_of_mine(
    other: FlaskClient, things: dict[str, str], call: str
) -> None:
    """No list shows a thing of another account."""
    text = other.get(call.split(" ")[1]).text
    for name in ("job_id", "session_id", "key_id", "webhook_id", "link_id", "file_id"):
        assert things[name] not in text, (call, name)


def test_pages_send_strangers_to_the_door(app: Flask, things: dict[str, str]) -> None:
    """No page opens for a browser without a cookie, nor for an API key."""
    app.config["WTF_CSRF_ENABLED"] = False
    for call in PAGES:
        answer = send(app.test_client(), call, things)
        assert answer.status_code == 303, call
        assert "/sign-in" in answer.headers["Location"]
