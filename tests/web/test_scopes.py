"""Keys that may do a part: what they reach, what they are shown, and the bounds they keep to."""

from io import BytesIO
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, allowances, keys, sessions
from orchestrator.farm.accounts.keys import Bounds
from orchestrator.model import Key
from orchestrator.states import JobState, KeyKind
from tests.factories import Clock, Hand, account_id, brief, submit, with_painter
from tests.web import evil
from tests.web.conftest import Caller, signed_in

SECRET = "a purple tower"
HOOK = "https://hooks.example.com/a"


def keyed(app: Flask, farm: Farm, kind: KeyKind, **bounds: Any) -> tuple[FlaskClient, Key]:
    """Return a client with a key of a kind, and the key."""
    key, token = keys.create(
        farm, account_id=account_id(farm), kind=kind, name="k", bounds=Bounds(**bounds)
    )
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client, key


@pytest.fixture
def sender(app: Flask, web_farm: Farm) -> FlaskClient:
    """A client with a submit key."""
    return keyed(app, web_farm, KeyKind.SUBMIT)[0]


def price(farm: Farm) -> int:
    """Return what the job of these tests holds."""
    asked = brief("a rocket")
    told = jobs.estimate(farm, account_id=account_id(farm), session_id=None, brief=asked)
    return told.quote.p90_gpu_ms


ASKED = {"prompt": "a rocket", "seconds": 2.0}


# --- own jobs and others' -------------------------------------------------------------------


def test_a_submit_key_steers_what_it_submitted(sender: FlaskClient, web_farm: Farm) -> None:
    """Pause, resume, cancel and delete work on its own job, on both dialects."""
    made = sender.post("/api/v1/jobs", json=ASKED)
    assert made.status_code == 202
    path = made.headers["Location"]
    for verb, state in (("pause", "paused"), ("resume", "queued"), ("cancel", "cancelled")):
        answer = sender.post(f"{path}/{verb}")
        assert (answer.status_code, answer.get_json()["state"]) == (200, state)
    assert sender.delete(path).status_code == 204
    video = sender.post("/v1/videos", json=ASKED | {"seconds": "2"}).get_json()
    assert sender.delete(f"/v1/videos/{video['id']}").get_json()["deleted"] is True


def test_a_submit_key_reaches_no_other_job(
    sender: FlaskClient, api: FlaskClient, app: Flask, web_farm: Farm, clock: Clock
) -> None:
    """Another key's job is as if it were not there, whatever is asked of it; a user key has it."""
    job = submit(web_farm, brief(SECRET))
    path = f"/api/v1/jobs/{job.id}"
    asked = [sender.post(f"{path}/{verb}") for verb in ("pause", "resume", "finish", "cancel")]
    asked += [sender.delete(path), sender.delete(f"/v1/videos/{job.id}")]
    asked += [sender.patch(path, json={"tags": ["mine"]}), sender.patch(path, json={})]
    Hand(web_farm, clock).work_off()
    asked += [
        sender.post("/api/v1/jobs", json=ASKED | {"extends": job.id}),
        sender.post("/api/v1/quotes", json=ASKED | {"extends": job.id}),
        sender.post("/api/v1/jobs", json=ASKED | {"image_of": job.id}),
        sender.post(f"/v1/videos/{job.id}/remix", json={"prompt": "x"}),
        sender.post("/v1/videos/edits", json={"video": {"id": job.id}, "prompt": "x"}),
        sender.post(
            "/v1/videos/extensions", json={"video": {"id": job.id}, "prompt": "x", "seconds": "2"}
        ),
    ]
    ghost = sender.post("/api/v1/jobs/job_none/pause")
    assert [answer.status_code for answer in (*asked, ghost)] == [404] * 15
    assert all(SECRET not in answer.text for answer in asked)
    done = jobs.get(web_farm, None, job.id)
    assert (done.state, done.tags) == (JobState.SUCCEEDED, ())
    other, _ = keyed(app, web_farm, KeyKind.USER)
    assert other.post(f"/v1/videos/{job.id}/remix", json={"prompt": "x"}).status_code == 200
    assert other.delete(path).status_code == 204


def test_a_successor_reaches_what_its_key_submitted(app: Flask, web_farm: Farm) -> None:
    """Rotating a key loses no job."""
    first, key = keyed(app, web_farm, KeyKind.SUBMIT)
    path = first.post("/api/v1/jobs", json=ASKED).headers["Location"]
    _, token = keys.rotate(web_farm, None, key.id, keep_seconds=0)
    headers = {"Authorization": f"Bearer {token}"}
    assert app.test_client().post(f"{path}/pause", headers=headers).status_code == 200


# --- what is shown --------------------------------------------------------------------------


def test_an_answer_shows_no_words_to_who_may_not_read(
    sender: FlaskClient, api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Neither to a submission, its repetition, a pause, nor in OpenAI's dialect."""
    asked, promise = {"prompt": SECRET, "seconds": 2.0}, {"Idempotency-Key": "once"}
    theirs = api.post("/api/v1/jobs", json=asked, headers=promise)
    assert theirs.get_json()["prompt"] == SECRET
    again = sender.post("/api/v1/jobs", json=asked, headers=promise)
    assert again.get_json()["id"] == theirs.get_json()["id"]
    made = sender.post("/api/v1/jobs", json=asked)
    paused = sender.post(f"{made.headers['Location']}/pause")
    video = sender.post("/v1/videos", json=asked | {"seconds": "2"})
    for answer in (again, made, paused, video):
        assert answer.status_code in (200, 202)
        assert "purple" not in answer.text
        assert answer.get_json()["prompt"] is None
    assert "request" not in made.get_json()
    assert (paused.get_json()["shots"], paused.get_json()["artifacts"]) == ([], {})


def test_a_refusal_names_no_other_job_to_who_may_not_read(
    sender: FlaskClient, api: FlaskClient, web_farm: Farm
) -> None:
    """Only readers are told which jobs hold the budget."""
    sessions.create(web_farm, account_id=account_id(web_farm), name="s", budget_gpu_ms=3_000)
    asked = {"prompt": "a rocket", "seconds": 0.25, "session_id": "s"}
    holds = submit(web_farm, brief(seconds=0.25), session="s")
    while api.post("/api/v1/jobs", json=asked).status_code == 202:
        pass
    for path in ("/api/v1/jobs", "/api/v1/quotes"):
        assert holds.id in api.post(path, json=asked).text
        told = sender.post(path, json=asked)
        assert told.status_code in (402, 200)
        assert "held_by" not in told.text
    video = sender.post("/v1/videos", json=asked | {"seconds": "1"})
    assert (video.status_code, "held_by" in video.text) == (402, False)


def test_secrets_of_webhooks_are_shown_to_who_configures(
    sender: FlaskClient, api: FlaskClient, app: Flask, web_farm: Farm
) -> None:
    """Once, to a user or a configure key; a submit key may name a URL and learns no secret."""
    for path, more in (("/api/v1/jobs", {}), ("/v1/videos", {"seconds": "2"})):
        asked = ASKED | more
        quiet = sender.post(path, json=asked | {"webhook_url": f"{HOOK}{path}"})
        assert quiet.status_code in (200, 202)
        assert "whsec" not in quiet.text
        loud = api.post(path, json=asked | {"webhook_url": f"{HOOK}{path}2"})
        assert loud.get_json()["webhook_secret"].startswith("whsec_")
    setter, _ = keyed(app, web_farm, KeyKind.CONFIGURE)
    made = setter.post("/api/v1/webhooks", json={"url": HOOK})
    assert made.get_json()["secret"].startswith("whsec_")
    listed = setter.get("/api/v1/webhooks")
    assert (listed.status_code, "whsec" in listed.text) == (200, False)
    rotated = setter.post(f"/api/v1/webhooks/{made.get_json()['id']}/rotate")
    assert rotated.get_json()["secret"].startswith("whsec_")
    assert sender.post(f"/api/v1/webhooks/{made.get_json()['id']}/rotate").status_code == 403


def test_who_configures_gets_no_key_that_may_do_more(
    app: Flask, web_farm: Farm, api: FlaskClient
) -> None:
    """A configure key rotates one of its kind, and revokes any; a user key rotates all of them."""
    setter, own = keyed(app, web_farm, KeyKind.CONFIGURE)
    _, wide = keyed(app, web_farm, KeyKind.USER)
    _, payer = keyed(app, web_farm, KeyKind.PAY)
    for key in (wide, payer):
        refused = setter.post(f"/api/v1/keys/{key.id}/rotate", json={})
        assert (refused.status_code, "token" in refused.get_json()) == (403, False)
    assert setter.post(f"/api/v1/keys/{own.id}/rotate", json={}).status_code == 201
    assert api.post(f"/api/v1/keys/{payer.id}/rotate", json={}).status_code == 201
    assert setter.delete(f"/api/v1/keys/{wide.id}").status_code == 200


def test_who_pays_sets_no_alerts(app: Flask, web_farm: Farm) -> None:
    """A pay key opens sessions, tops up and lowers; what stops jobs is configured."""
    payer, _ = keyed(app, web_farm, KeyKind.PAY)
    body = {"name": "s", "budget_gpu_seconds": 10}
    with_alerts = payer.post("/api/v1/sessions", json=body | {"alerts": [{"percent": 90}]})
    assert with_alerts.status_code == 403
    assert payer.post("/api/v1/sessions", json=body).status_code == 201
    topped = payer.post("/api/v1/sessions/s/top-ups", json={"gpu_seconds": 1})
    assert topped.get_json()["budget_gpu_seconds"] == 11
    assert payer.get("/api/v1/sessions/s").status_code == 200
    assert payer.get("/api/v1/sessions/s/ledger").status_code == 403
    assert payer.post("/api/v1/jobs", json=ASKED | {"session_id": "s"}).status_code == 403


# --- pictures and share links ---------------------------------------------------------------


def test_pictures_of_the_account_are_deleted_by_who_steers(
    sender: FlaskClient, api: FlaskClient, app: Flask, web_farm: Farm
) -> None:
    """A key that only submits, or is bound, keeps pictures and deletes none, on both dialects."""
    bound, _ = keyed(app, web_farm, KeyKind.USER, gpu_ms=10**6)

    def kept(client: FlaskClient) -> list[str]:
        picture = {"file": (BytesIO(evil.picture()), "a.png"), "purpose": "vision"}
        file = client.post("/v1/files", data=picture).get_json()["id"]
        portrait = {"video": (BytesIO(evil.picture()), "a.png"), "name": "Ada"}
        ada = client.post("/v1/videos/characters", data=portrait).get_json()["id"]
        return [f"/api/v1/files/{file}", f"/v1/files/{file}", f"/api/v1/characters/{ada}"]

    for path in kept(api) + kept(sender):
        for client in (sender, bound):
            refused = client.delete(path)
            assert (refused.status_code, "scope steer" in refused.text) == (403, True), path
        assert api.get(path).status_code == 200
    for path in kept(api)[1:]:
        assert api.delete(path).status_code in (200, 204)


def test_a_link_is_ended_by_its_maker_or_by_who_steers_or_configures(
    api: FlaskClient, app: Flask, web_farm: Farm, clock: Clock
) -> None:
    """A read or bound key ends its own links, a successor its line's, and nobody else's."""
    job = submit(web_farm)
    Hand(web_farm, clock).work_off()
    reader, key = keyed(app, web_farm, KeyKind.READ)
    bound, _ = keyed(app, web_farm, KeyKind.USER, gpu_ms=10**6)
    makers = (api, reader, bound)

    def made(by: FlaskClient) -> str:
        answer = by.post(f"/api/v1/jobs/{job.id}/links", json={})
        assert answer.status_code == 201
        return f"/api/v1/links/{answer.get_json()['id']}"

    links = {id(maker): made(maker) for maker in makers}
    for client in (reader, bound):
        for maker in makers:
            if maker is not client:
                refused = client.delete(links[id(maker)])
                assert (refused.status_code, "scope steer or conf" in refused.text) == (403, True)
    assert {row["state"] for row in api.get("/api/v1/links").get_json()["data"]} == {"open"}
    _, token = keys.rotate(web_farm, None, key.id, keep_seconds=60)
    successor = app.test_client()
    successor.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    theirs = made(successor)
    setter, _ = keyed(app, web_farm, KeyKind.CONFIGURE)
    for client, path in (
        (successor, links[id(reader)]),
        (reader, theirs),
        (bound, links[id(bound)]),
        (setter, links[id(api)]),
        (api, made(reader)),
    ):
        assert client.delete(path).get_json()["state"] == "revoked"


# --- bounds ---------------------------------------------------------------------------------


def test_a_key_is_bound_by_the_api(caller: Caller, web_farm: Farm) -> None:
    """It is made, listed and shown with its session and what is left of its allowance."""
    admin = caller(KeyKind.ADMIN)
    mine = sessions.create(web_farm, account_id=account_id(web_farm), name="s", budget_gpu_ms=10**6)
    body = {"name": "n", "kind": "submit", "session_id": "s", "gpu_seconds": 100}
    made = admin.post("/api/v1/keys", json=body).get_json()
    assert (made["session_id"], made["scopes"]) == (mine.id, ["spend"])
    key = keys.resolve(web_farm, made["token"])
    job = submit(web_farm, asker=key)
    row = next(r for r in admin.get("/api/v1/keys").get_json()["data"] if r["id"] == key.id)
    held = job.held_gpu_ms / 1000
    assert row["allowance"] == {
        "limit_gpu_seconds": 100.0,
        "held_gpu_seconds": held,
        "spent_gpu_seconds": 0.0,
        "available_gpu_seconds": round(100 - held, 3),
    }
    assert (
        sum(r["allowance"] is not None for r in admin.get("/api/v1/keys").get_json()["data"]) == 1
    )


@pytest.mark.parametrize("amount", [0, -1, 10**30, 1.0001, "NaN", "1", True, None])
def test_a_wrong_allowance_is_a_422(caller: Caller, web_farm: Farm, amount: object) -> None:
    """Of a new key and of one there is; no allowance at all is fine for a new key."""
    admin = caller(KeyKind.ADMIN)
    _, key = keyed(admin.application, web_farm, KeyKind.SUBMIT, gpu_ms=1_000)
    if amount is not None:
        body = {"name": "n", "kind": "submit", "gpu_seconds": amount}
        assert admin.post("/api/v1/keys", json=body).status_code == 422
    path = f"/api/v1/keys/{key.id}/limit"
    assert admin.put(path, json={"gpu_seconds": amount}).status_code == 422
    nan = admin.put(path, data='{"gpu_seconds": NaN}', content_type="application/json")
    assert nan.status_code == 422
    assert allowances.of(web_farm, [key])[key.id].limit_gpu_ms == 1_000


def test_what_cannot_be_bound_is_refused(caller: Caller, web_farm: Farm) -> None:
    """A session that is another account's is not found; a read key spends nothing."""
    admin = caller(KeyKind.ADMIN)
    guest = accounts.create(web_farm, name="guest", plan="free").account.id
    theirs = sessions.find(web_farm, guest, None).id
    for body, status in (
        ({"session_id": theirs}, 404),
        ({"session_id": "nowhere"}, 404),
        ({"session_id": ""}, 422),
        ({"gpu_seconds": 1, "kind": "read"}, 422),
        ({"gpu_seconds": 1, "kind": "admin"}, 422),
        ({"session_id": "default", "kind": "join"}, 422),
    ):
        refused = admin.post("/api/v1/keys", json={"name": "n", "kind": "submit"} | body)
        assert refused.status_code == status, body


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/api/v1/quotes", "/v1/videos"])
def test_another_session_than_its_own_is_a_403(app: Flask, web_farm: Farm, path: str) -> None:
    """It says which one the key is bound to, with a remedy; no name means that one."""
    mine = sessions.create(web_farm, account_id=account_id(web_farm), name="s", budget_gpu_ms=10**6)
    client, _ = keyed(app, web_farm, KeyKind.USER, session="s")
    asked = ASKED | ({"seconds": "2"} if path == "/v1/videos" else {})
    assert client.post(path, json=asked).get_json()["session_id"] == mine.id
    refused = client.post(path, json=asked | {"session_id": "default"})
    told = refused.get_json()
    told = told.get("error", told)
    assert (refused.status_code, told["session_id"], told["session"]) == (403, mine.id, "s")
    assert told["next"]["code"] == "use_session"
    assert "bound to session 's'" in refused.text


@pytest.mark.parametrize("path", ["/api/v1/jobs", "/v1/videos"])
def test_beyond_its_allowance_is_a_402(app: Flask, web_farm: Farm, path: str) -> None:
    """With the call that gives it more; a quote says so before."""
    each = price(web_farm)
    client, key = keyed(app, web_farm, KeyKind.SUBMIT, gpu_ms=each + 1)
    asked = ASKED | ({"seconds": "2"} if path == "/v1/videos" else {})
    assert client.post(path, json=asked).status_code in (200, 202)
    quoted = client.post("/api/v1/quotes", json=ASKED).get_json()
    assert (quoted["fits"], quoted["available_gpu_seconds"]) == (False, 0.001)
    refused = client.post(path, json=asked)
    told = refused.get_json()
    told = told.get("error", told)
    assert (refused.status_code, told["limit"], told["code"]) == (402, "key", "budget_exceeded")
    assert told["next"]["call"] == {
        "method": "PUT",
        "path": f"/api/v1/keys/{key.id}/limit",
        "body": {"gpu_seconds": 2 * each / 1000},
    }
    payer, _ = keyed(app, web_farm, KeyKind.PAY)
    raised = payer.put(told["next"]["call"]["path"], json=told["next"]["call"]["body"])
    assert raised.get_json()["allowance"]["limit_gpu_seconds"] == 2 * each / 1000
    assert client.post(path, json=asked).status_code in (200, 202)


def test_no_call_of_a_bound_key_passes_its_bounds(app: Flask, web_farm: Farm) -> None:
    """It neither gives itself more, nor makes, rotates or ends keys, nor steers other jobs."""
    client, key = keyed(app, web_farm, KeyKind.USER, gpu_ms=1_000)
    job = submit(web_farm)
    jobs.pause(web_farm, None, job.id)
    assert client.get(f"/api/v1/jobs/{job.id}").status_code == 200
    assert client.post(f"/api/v1/jobs/{job.id}/resume").status_code == 404
    for answer in (
        client.put(f"/api/v1/keys/{key.id}/limit", json={"gpu_seconds": 100}),
        client.post(f"/api/v1/keys/{key.id}/rotate", json={}),
        client.post("/api/v1/keys", json={"name": "n"}),
        client.post("/api/v1/sessions/default/top-ups", json={"gpu_seconds": 1}),
        client.post("/api/v1/sessions/default/close"),
    ):
        assert answer.status_code == 403
        assert "bound" in answer.text or "admin" in answer.text


def test_a_bound_key_remixes_what_another_session_paid_for(
    app: Flask, web_farm: Farm, clock: Clock
) -> None:
    """It pays from its own session, where the source does not say otherwise."""
    mine = sessions.create(web_farm, account_id=account_id(web_farm), name="s", budget_gpu_ms=10**6)
    job = submit(web_farm)
    Hand(web_farm, clock).work_off()
    client, _ = keyed(app, web_farm, KeyKind.USER, session="s")
    made = client.post(f"/v1/videos/{job.id}/remix", json={"prompt": "x"})
    assert (made.status_code, made.get_json()["session_id"]) == (200, mine.id)


# --- the default session --------------------------------------------------------------------


def test_the_default_session_is_closed_reopened_and_moved(
    api: FlaskClient, sender: FlaskClient, caller: Caller, web_farm: Farm
) -> None:
    """A key that only submits cannot close it; requests without a session say how to go on."""
    first = api.get("/api/v1/sessions/default").get_json()
    assert first["is_default"]
    assert api.get("/api/v1/account").get_json()["default_session_id"] == first["id"]
    assert sender.post("/api/v1/sessions/default/close").status_code == 403
    closed = caller(KeyKind.PAY).post("/api/v1/sessions/default/close").get_json()
    assert (closed["state"], closed["is_default"]) == ("closed", True)
    for path in ("/api/v1/jobs", "/v1/videos"):
        refused = api.post(path, json={"prompt": "a rocket", "session_id": None})
        told = refused.get_json()
        told = told.get("error", told)
        assert (refused.status_code, told["next"]["code"]) == (409, "reopen")
        assert told["also"][0]["code"] == "open_session"
    quoted = api.post("/api/v1/quotes", json=ASKED).get_json()
    assert quoted["why_not"]["next"]["code"] == "reopen"
    api.post("/api/v1/sessions", json={"name": "other", "budget_gpu_seconds": 100})
    refused = api.post("/api/v1/jobs", json=ASKED).get_json()
    move = refused["also"][0]
    assert (move["code"], move["data"]["session"]) == ("move_default", "other")
    moved = api.open(move["call"]["path"], method=move["call"]["method"])
    assert (moved.status_code, moved.get_json()["is_default"]) == (200, True)
    made = api.post("/api/v1/jobs", json=ASKED).get_json()
    assert made["session_id"] == moved.get_json()["id"]
    call = refused["next"]["call"]
    again = api.open(call["path"], method=call["method"]).get_json()
    assert (again["state"], again["is_default"]) == ("open", False)
    listed = api.get("/api/v1/sessions").get_json()["data"]
    assert {row["name"]: row["is_default"] for row in listed} == {"other": True, "default": False}


def test_a_page_offers_the_way_on_from_a_closed_default(web_farm: Farm) -> None:
    """Its buttons reopen the session, or make another one the default."""
    browser = signed_in(web_farm)
    browser.application.config["WTF_CSRF_ENABLED"] = False
    owner = account_id(web_farm)
    first = sessions.find(web_farm, owner, None)
    other = sessions.create(web_farm, account_id=owner, name="other", budget_gpu_ms=10**6)
    sessions.close(web_farm, None, first.id)
    asked = {"prompt": "a rocket", "seconds": "2", "request_key": "k"}
    refused = browser.post("/", data=asked)
    assert refused.status_code == 409
    assert f'form="session-change" name="reopen" value="{first.id}"' in refused.text
    assert f'form="session-change" name="default" value="{other.id}"' in refused.text
    assert refused.text.count('id="session-change"') == 1
    moved = browser.post("/sessions", data={"default": other.id, "next": "/account"})
    assert (moved.status_code, moved.headers["Location"]) == (303, "/account")
    assert sessions.find(web_farm, owner, None).id == other.id
    browser.post("/sessions", data={"reopen": first.id})
    assert sessions.get(web_farm, None, first.id).state == "open"
    browser.post("/sessions", data={"close": first.id})
    assert sessions.get(web_farm, None, first.id).state == "closed"
    guest = accounts.create(web_farm, name="guest", plan="free").account.id
    theirs = sessions.find(web_farm, guest, None)
    for verb in ("reopen", "close", "default"):
        assert browser.post("/sessions", data={verb: theirs.id}).status_code == 404
    assert browser.post("/sessions", data={}).status_code == 404


def test_the_account_page_shows_and_raises_allowances(web_farm: Farm, app: Flask) -> None:
    """A key's allowance, what is held, spent and left of it; a wrong amount changes nothing."""
    browser = signed_in(web_farm)
    browser.application.config["WTF_CSRF_ENABLED"] = False
    _, key = keyed(app, web_farm, KeyKind.SUBMIT, gpu_ms=123_000, session="default")
    page = browser.get("/account").text
    assert key.id in page
    assert "123" in page
    path = f"/keys/{key.id}/limit"
    assert browser.post(path, data={"gpu_seconds": "200"}).status_code == 303
    assert allowances.of(web_farm, [key])[key.id].limit_gpu_ms == 200_000
    for wrong in ("0", "-1", "NaN", "1e30", "", "9" * 30):
        assert browser.post(path, data={"gpu_seconds": wrong}).status_code == 422
    assert browser.post("/keys/key_none/limit", data={"gpu_seconds": "1"}).status_code == 404
    assert allowances.of(web_farm, [key])[key.id].limit_gpu_ms == 200_000


def test_a_picture_of_its_own_job_is_taken(app: Flask, web_farm: Farm) -> None:
    """`image_of` names a job that the key submitted: refused for its picture, not for its key."""
    with_painter(web_farm)
    client, key = keyed(app, web_farm, KeyKind.SUBMIT)
    job = submit(web_farm, asker=key)
    told = client.post("/api/v1/jobs", json=ASKED | {"image_of": job.id})
    assert "reference picture" in told.text
