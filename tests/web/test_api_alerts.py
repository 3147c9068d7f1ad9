"""Alerts and early ends over HTTP: what clients send, what they are shown, what is refused."""

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.states import JobState, KeyKind
from tests.factories import Clock, Hand, account_id, brief, submit
from tests.web.conftest import Caller

OWN = [{"percent": 50, "action": "notify"}, {"percent": 80, "action": "pause_new"}]
DEFAULT = [{"percent": each, "action": "notify"} for each in (50, 75, 90, 95, 100)]


def test_a_session_is_shown_with_the_alerts_that_hold(api: FlaskClient) -> None:
    """Its own where it has some, else its plan's; alone, in the list and in every answer."""
    plain = api.get("/api/v1/sessions/default").get_json()
    assert (plain["alerts"], plain["alerts_by"]) == (DEFAULT, "plan")
    asked = [{"percent": 50}, {"percent": 80, "action": "pause_new"}]
    made = api.post("/api/v1/sessions", json={"name": "s", "alerts": asked})
    assert made.status_code == 201
    assert (made.get_json()["alerts"], made.get_json()["alerts_by"]) == (OWN, "session")
    for row in api.get("/api/v1/sessions").get_json()["data"]:
        assert row["alerts_by"] == ("session" if row["name"] == "s" else "plan")
    back = api.put("/api/v1/sessions/s/alerts", json={"alerts": None}).get_json()
    assert (back["alerts"], back["alerts_by"]) == (DEFAULT, "plan")
    off = api.put("/api/v1/sessions/s/alerts", json={"alerts": []}).get_json()
    assert (off["alerts"], off["alerts_by"]) == ([], "session")


def test_an_account_is_shown_with_the_alerts_that_hold(caller: Caller, web_farm: Farm) -> None:
    """An operator gives its months a list of their own, and its owner sees it."""
    admin, mine = caller(KeyKind.ADMIN), account_id(web_farm)
    assert admin.get("/api/v1/account").get_json()["alerts_by"] == "plan"
    changed = admin.put(f"/api/v1/accounts/{mine}/alerts", json={"alerts": OWN})
    assert changed.status_code == 200
    assert (changed.get_json()["alerts"], changed.get_json()["alerts_by"]) == (OWN, "account")
    assert caller(KeyKind.READ).get("/api/v1/account").get_json()["alerts"] == OWN
    plans = admin.get("/api/v1/plans").get_json()["data"]
    assert {"percent": 100, "action": "pause_new"} in plans[0]["alerts"]


@pytest.mark.parametrize(
    ("alerts", "said"),
    [
        ([{"percent": 0}], "alerts.0.percent"),
        ([{"percent": 101}], "alerts.0.percent"),
        ([{"percent": 1.5}], "alerts.0.percent"),
        ([{"percent": 50, "action": "shout"}], "alerts.0.action"),
        ([{"percent": 50}, {"percent": 50}], "ascend"),
        ([{"percent": 60}, {"percent": 50}], "ascend"),
        ([{"percent": 1}] * 21, "at most 20"),
        ("50", "alerts"),
    ],
)
def test_a_bad_list_is_a_422(api: FlaskClient, alerts: object, said: str) -> None:
    """It names what is wrong, and nothing is made or changed."""
    for method, path, body in (
        ("POST", "/api/v1/sessions", {"name": "s", "alerts": alerts}),
        ("PUT", "/api/v1/sessions/default/alerts", {"alerts": alerts}),
    ):
        answer = api.open(path, method=method, json=body)
        assert answer.status_code == 422
        assert said in answer.get_json()["detail"]
    assert api.put("/api/v1/sessions/default/alerts", json={}).status_code == 422
    (only,) = api.get("/api/v1/sessions").get_json()["data"]
    assert only["alerts_by"] == "plan"


def test_a_paused_job_is_finished_over_http(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """The answer is the job on its way to its video, however often it is asked."""
    hand = Hand(web_farm, clock)
    job = submit(web_farm, brief(seconds=8.0))
    path = f"/api/v1/jobs/{job.id}"
    refused = api.post(f"{path}/finish")
    assert refused.status_code == 409
    assert refused.get_json()["next"]["call"] == {"method": "POST", "path": f"{path}/pause"}
    for _ in range(2):
        order = hand.claim()
        assert order
        hand.done(order, 10)
    api.post(f"{path}/pause")
    waits = api.get(path).get_json()["waiting_for"]
    assert (waits["next"]["code"], [each["code"] for each in waits["also"]]) == (
        "resume",
        ["finish_early"],
    )
    for _ in range(2):
        ending = api.post(f"{path}/finish")
        assert ending.status_code == 200
        told = ending.get_json()
        assert (told["state"], told["truncated"], told["pause_reason"]) == ("encoding", True, None)
    hand.work_off(5)
    assert jobs.get(web_farm, None, job.id).state is JobState.SUCCEEDED
    assert api.get(path).get_json()["truncated"]
