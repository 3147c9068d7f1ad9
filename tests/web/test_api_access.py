"""Access to the API: who gets in, what sessions and operators see, what a machine reads."""

import json
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.model import Json
from orchestrator.states import KeyKind
from orchestrator.wire import HelloRequest
from tests.factories import Clock, Hand, account_id, submit
from tests.web.conftest import Caller

OPENAPI = Path(__file__).parents[2] / "docs" / "openapi.json"


def test_only_an_operator_handles_keys_and_workers(
    api: FlaskClient, caller: Caller, web_farm: Farm, clock: Clock
) -> None:
    """A user key cannot make keys or drain workers; an admin key can."""
    hand = Hand(web_farm, clock)
    body = {"name": "mine", "kind": "user"}
    drain = f"/api/v1/workers/{hand.id}/drain"
    assert api.post("/api/v1/keys", json=body).status_code == 403
    assert api.post(drain).status_code == 403
    admin = caller(KeyKind.ADMIN)
    made = admin.post("/api/v1/keys", json=body)
    assert made.status_code == 201
    token = made.get_json()["token"]
    assert keys.resolve(web_farm, token).kind is KeyKind.USER
    assert admin.post(drain).get_json()["state"] == "draining"
    assert token not in admin.get("/api/v1/keys").text


def test_a_repeated_key_request_makes_one_key(caller: Caller) -> None:
    """An Idempotency-Key is kept for keys too; the second answer has no token."""
    admin, headers = caller(KeyKind.ADMIN), {"Idempotency-Key": "k"}
    first = admin.post("/api/v1/keys", json={"name": "n"}, headers=headers).get_json()
    again = admin.post("/api/v1/keys", json={"name": "n"}, headers=headers)
    assert (again.status_code, again.get_json()["id"]) == (201, first["id"])
    assert first["token"]
    assert "token" not in again.get_json()
    other = admin.post("/api/v1/keys", json={"name": "m"}, headers=headers)
    assert (other.status_code, other.get_json()["code"]) == (422, "idempotency_mismatch")


def test_a_session_is_opened_topped_up_and_audited(api: FlaskClient) -> None:
    """Budgets are decimals of GPU-seconds, found by name or id, with a ledger of their entries."""
    made = api.post("/api/v1/sessions", json={"name": "s", "budget_gpu_seconds": 1.5})
    assert made.status_code == 201
    session = made.get_json()
    assert session["available_gpu_seconds"] == 1.5
    topped = api.post(f"/api/v1/sessions/{session['id']}/top-ups", json={"gpu_seconds": 0.25})
    assert topped.get_json()["budget_gpu_seconds"] == 1.75
    assert api.get("/api/v1/sessions/s").get_json() == topped.get_json()
    entries = api.get("/api/v1/sessions/s/ledger").get_json()["data"]
    assert [(e["kind"], e["gpu_seconds"]) for e in entries] == [("top_up", 0.25), ("grant", 1.5)]


@pytest.mark.parametrize("amount", [0, -1, 1.0001, 1e12, "much", [1]])
def test_an_impossible_budget_is_a_422(api: FlaskClient, amount: object) -> None:
    """A budget is more than nothing and whole in GPU-ms."""
    body = {"name": "s", "budget_gpu_seconds": amount}
    assert api.post("/api/v1/sessions", json=body).status_code == 422
    top_up = api.post("/api/v1/sessions/default/top-ups", json={"gpu_seconds": amount})
    assert top_up.status_code == 422


def test_a_session_without_a_budget_has_its_plans(api: FlaskClient) -> None:
    """The plan says what a session may use where nobody else does."""
    made = api.post("/api/v1/sessions", json={"name": "s", "budget_gpu_seconds": None})
    assert (made.status_code, made.get_json()["budget_gpu_seconds"] > 0) == (201, True)
    top_up = api.post("/api/v1/sessions/s/top-ups", json={"gpu_seconds": None})
    assert top_up.status_code == 422


def test_a_repeated_top_up_counts_once(api: FlaskClient) -> None:
    """An Idempotency-Key makes a retried top-up harmless."""
    path, headers = "/api/v1/sessions/default/top-ups", {"Idempotency-Key": "t"}
    for _ in range(3):
        answer = api.post(path, json={"gpu_seconds": 10}, headers=headers)
    assert answer.get_json()["budget_gpu_seconds"] == 3610


def test_another_tenants_session_is_not_found(api: FlaskClient, other: FlaskClient) -> None:
    """Neither by name nor by id does one account see another's session."""
    session = api.get("/api/v1/sessions/default").get_json()
    for path in ("default", session["id"]):
        assert other.get(f"/api/v1/sessions/{path}").status_code == 404
        body = {"gpu_seconds": 1}
        assert other.post(f"/api/v1/sessions/{path}/top-ups", json=body).status_code == 404


def test_the_farm_shows_models_workers_queues_and_usage(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """All that an operator's table needs is there, in seconds, without paths of the machine."""
    submit(web_farm)
    assert api.get("/api/v1/models").get_json()["data"][0]["id"] == "fake"
    assert "path" not in api.get("/api/v1/models/fake").get_json()
    queues = {q["queue"]: q for q in api.get("/api/v1/queues").get_json()["data"]}
    assert queues["parse"]["ready"] == 1
    Hand(web_farm, clock).work_off(gpu_ms=10)
    rows = api.get("/api/v1/usage?by=stage").get_json()["data"]
    assert {row["key"] for row in rows} == {"parse", "render", "encode"}
    assert all(row["gpu_seconds"] > 0 for row in rows)
    assert api.get("/api/v1/workers").get_json()["data"][0]["name"] == "hand"


def test_probes_need_no_key(app: Flask) -> None:
    """Health and, on the farm's own machine, metrics answer without a key, with nothing secret."""
    client = app.test_client()
    assert client.get("/healthz").get_json()["status"] == "ok"
    assert "framefarm_ready" in client.get("/metrics").text


def test_unknown_addresses_and_methods_say_what_to_do(app: Flask) -> None:
    """A 404 and a 405 are problems with a next step too."""
    client = app.test_client()
    for answer in (client.get("/api/v1/nothing"), client.put("/healthz")):
        assert answer.status_code in (404, 405)
        assert answer.get_json()["next"]


def test_a_body_beyond_the_limit_is_refused(app: Flask, api: FlaskClient) -> None:
    """A body that is too large is a 413 before it is read."""
    app.config["MAX_CONTENT_LENGTH"] = 1000
    answer = api.post("/api/v1/jobs", json={"prompt": "x" * 5000})
    assert answer.status_code == 413


def test_every_answer_carries_the_security_headers(app: Flask) -> None:
    """Pages run no foreign or inline script, and nothing is sniffed."""
    headers = app.test_client().get("/sign-in").headers
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_worker_enrols_once_and_gets_a_key_of_its_own(app: Flask, web_farm: Farm) -> None:
    """A join token opens hello alone; the key it gives opens the rest."""
    _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.JOIN, name="j")
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    hello = HelloRequest(
        name="w",
        host="h",
        device="cpu",
        device_class="cpu",
        memory_mb=1,
        kinds=("parse",),
        models=(),
        fingerprint="f",
    ).model_dump(mode="json")
    assert client.post("/worker/v1/claim", json={}).status_code == 403
    answer = client.post("/worker/v1/hello", json=hello).get_json()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {answer['worker_key']}"
    assert client.post("/worker/v1/claim", json={}).get_json() == {"orders": []}
    assert client.post("/worker/v1/hello", json=hello).get_json()["worker_key"] is None


def test_a_join_key_is_made_for_devices_and_a_number(caller: Caller) -> None:
    """One worker of the classes named, by class or product; the key shows what it lets in."""
    admin = caller(KeyKind.ADMIN)
    asked = {"kind": "join", "name": "j", "device_classes": ["cpu", "NVIDIA L4", "nvidia-l4"]}
    made = admin.post("/api/v1/keys", json=asked).get_json()
    assert (made["device_classes"], made["uses"]) == (["cpu", "nvidia-l4"], 1)
    asked = {"kind": "join", "name": "j", "device_classes": ["any"], "uses": "any"}
    made = admin.post("/api/v1/keys", json=asked).get_json()
    assert (made["device_classes"], made["uses"], made["times_used"]) == (None, None, 0)


@pytest.mark.parametrize(
    "asked",
    [
        {"kind": "join"},
        {"kind": "join", "device_classes": []},
        {"kind": "join", "device_classes": ["-"]},
        {"kind": "join", "device_classes": ["cpu"], "uses": 0},
        {"kind": "join", "device_classes": ["cpu"], "uses": 10**30},
        {"kind": "join", "device_classes": ["cpu"], "uses": "all"},
        {"kind": "user", "uses": 1},
        {"kind": "user", "device_classes": ["cpu"]},
    ],
)
def test_a_join_key_for_nothing_sensible_is_refused(caller: Caller, asked: Json) -> None:
    """422, naming the field; nothing is made."""
    answer = caller(KeyKind.ADMIN).post("/api/v1/keys", json={"name": "j"} | asked)
    assert answer.status_code == 422, answer.get_json()


def test_a_worker_of_another_class_is_refused(app: Flask, caller: Caller) -> None:
    """403 with the classes it may have and what helps, before and after it has enrolled."""
    asked = {"kind": "join", "name": "j", "device_classes": ["cpu"]}
    token = caller(KeyKind.ADMIN).post("/api/v1/keys", json=asked).get_json()["token"]
    hello = {
        "name": "w",
        "host": "h",
        "device": "d",
        "device_class": "nvidia-h200",
        "memory_mb": 1,
        "kinds": [],
        "models": [],
        "fingerprint": "f",
    }
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    refused = client.post("/worker/v1/hello", json=hello)
    assert (refused.status_code, refused.get_json()["code"]) == (403, "not_allowed")
    assert "class cpu" in refused.get_json()["detail"]
    assert refused.get_json()["next"]["call"]["body"]["device_classes"] == ["nvidia-h200"]
    own = client.post("/worker/v1/hello", json=hello | {"device_class": "cpu"}).get_json()
    assert client.post("/worker/v1/hello", json=hello | {"device_class": "cpu"}).status_code == 403
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {own['worker_key']}"
    assert client.post("/worker/v1/hello", json=hello).status_code == 403


def test_openapi_is_the_committed_one(app: Flask) -> None:
    """docs/openapi.json is what the server says of itself; `python -m tools.openapi` renews it."""
    served = app.test_client().get("/openapi/openapi.json").get_json()
    assert served == json.loads(OPENAPI.read_text("utf-8"))


def test_a_user_key_ends_no_operators_key(api: FlaskClient, caller: Caller, web_farm: Farm) -> None:
    """A user key may end user keys of its account; the account's admin key is not found."""
    caller(KeyKind.ADMIN)
    by_kind = {key.kind: key.id for key in keys.listing(web_farm, account_id(web_farm))}
    assert api.delete(f"/api/v1/keys/{by_kind[KeyKind.ADMIN]}").status_code == 404
    assert api.delete(f"/api/v1/keys/{by_kind[KeyKind.USER]}").status_code == 200


def test_a_cookie_does_not_outlive_its_sign_in(app: Flask) -> None:
    """A signed cookie of a sign-in that is not there signs nobody in."""
    client = app.test_client()
    with client.session_transaction() as cookie:
        cookie["_user_id"], cookie["_fresh"] = "sgn_gone", True
    assert client.get("/").status_code == 303


@pytest.mark.parametrize("number", ["9" * 30, "-1", "x", "²"])
def test_numbers_that_are_none_break_nothing(api: FlaskClient, number: str) -> None:
    """Cursors and event ids beyond what SQL holds are answered, never a 500."""
    job = api.post("/api/v1/jobs", json={"prompt": "a cat"}).get_json()
    api.post(f"/api/v1/jobs/{job['id']}/cancel")
    path = f"/api/v1/jobs/{job['id']}/events"
    answer = api.get(path, headers={"Last-Event-ID": number.encode().decode("latin-1")})
    answer.close()  # a stream that nobody reads ends here, not when its garbage is collected
    assert answer.status_code == (204 if number.startswith("9") else 200)
    assert api.get(path, query_string={"after": number}).status_code == 422


def test_nesting_and_odd_names_are_refused_without_an_echo(api: FlaskClient) -> None:
    """Ten thousand brackets are no JSON of ours, and a made-up field is not repeated."""
    for path in ("jobs", "sessions", "sessions/default/top-ups"):
        brackets = "[" * 100_000
        deep = api.post(f"/api/v1/{path}", data=brackets, content_type="application/json")
        assert deep.status_code == 422, path
    odd = api.post("/api/v1/jobs", json={"prompt": "a cat", "<script>alert(1)": 1})
    assert odd.status_code == 422
    assert "script" not in odd.text


def test_a_rotated_key_lives_on_for_a_while(
    api: FlaskClient, app: Flask, web_farm: Farm, clock: Clock
) -> None:
    """Two keys of a line live at most: the old one to its end, and none before it."""
    own = api.get("/api/v1/keys").get_json()["data"][0]

    def opens(token: str) -> bool:
        headers = {"Authorization": f"Bearer {token}"}
        return app.test_client().get("/api/v1/jobs", headers=headers).status_code == 200

    rotate = f"/api/v1/keys/{own['id']}/rotate"
    second = api.post(rotate, json={"keep_seconds": 60})
    assert second.status_code == 201
    assert second.get_json()["scopes"] == ["configure", "pay", "read", "spend", "steer"]
    assert opens(second.get_json()["token"])
    assert api.get("/api/v1/jobs").status_code == 200
    assert api.post(rotate, json={}).status_code == 409
    again = f"/api/v1/keys/{second.get_json()['id']}/rotate"
    third = api.post(again, json={"keep_seconds": 60}).get_json()
    assert api.get("/api/v1/jobs").status_code == 401
    assert opens(second.get_json()["token"])
    clock.advance(61)
    assert not opens(second.get_json()["token"])
    assert opens(third["token"])


def test_a_keys_use_is_written_once_a_minute(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Requests within a minute write nothing; the next minute's first one does."""
    api.get("/api/v1/jobs")
    first = keys.listing(web_farm, account_id(web_farm))[0].used_at_ms
    clock.advance(59)
    api.get("/api/v1/jobs")
    assert keys.listing(web_farm, account_id(web_farm))[0].used_at_ms == first
    clock.advance(2)
    api.get("/api/v1/jobs")
    assert keys.listing(web_farm, account_id(web_farm))[0].used_at_ms == clock.now_ms


def test_a_repeated_account_is_one_account(caller: Caller) -> None:
    """An Idempotency-Key is kept for accounts too."""
    admin, headers = caller(KeyKind.ADMIN), {"Idempotency-Key": "a"}
    asked = {"name": "guest", "plan": "free"}
    made = [
        admin.post("/api/v1/accounts", json=asked, headers=headers).get_json()["id"]
        for _ in range(2)
    ]
    assert len(set(made)) == 1
    other = admin.post("/api/v1/accounts", json=asked | {"plan": "studio"}, headers=headers)
    assert other.status_code == 422
    assert len(admin.get("/api/v1/accounts").get_json()["data"]) == 2
