"""The reasons of a job's wait, over HTTP and on its page."""

from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.leases import fleet
from tests.factories import Clock, Hand, submit


def test_a_job_shows_what_it_waits_for(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """The reason is part of the job, and another reason is another answer to its ETag."""
    address = f"/api/v1/jobs/{submit(web_farm).id}"
    first = api.get(address)
    assert first.get_json()["waiting_for"]["code"] == "worker"
    known = {"If-None-Match": first.headers["ETag"]}
    assert api.get(address, headers=known).status_code == 304
    fleet.freeze(web_farm, frozen=True)
    told = api.get(address, headers=known).get_json()["waiting_for"]
    assert (told["code"], told["next"]["code"]) == ("frozen", "lift_freeze")
    fleet.freeze(web_farm, frozen=False)
    assert Hand(web_farm, clock).claim()
    assert api.get(address).get_json()["waiting_for"] is None


def test_place_and_time_are_shown(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """A job, and a list of jobs, say how many are ahead and for how long; null without a device."""
    first, second = submit(web_farm), submit(web_farm)
    waits = api.get(f"/api/v1/jobs/{second.id}").get_json()["waiting_for"]
    assert (waits["code"], waits["jobs_ahead"], waits["eta_seconds"]) == ("worker", None, None)
    Hand(web_farm, clock)
    waits = api.get(f"/api/v1/jobs/{second.id}").get_json()["waiting_for"]
    assert waits["jobs_ahead"] == 1
    assert waits["eta_seconds"] == first.quote.p50_gpu_ms / 1000
    listed = {job["id"]: job["waiting_for"] for job in api.get("/api/v1/jobs").get_json()["data"]}
    assert listed[second.id] == waits and listed[first.id]["jobs_ahead"] == 0


def test_a_refusal_over_http_names_the_holders(api: FlaskClient, web_farm: Farm) -> None:
    """A 402 says which limit, what holds it, in seconds, and the call that tops it up."""
    body = {"name": "s", "budget_gpu_seconds": 0.001}
    session = api.post("/api/v1/sessions", json=body).get_json()["id"]
    asked = {"prompt": "a rocket rises", "session_id": session}
    answer = api.post("/api/v1/jobs", json=asked)
    told = answer.get_json()
    assert (answer.status_code, told["limit"], told["held_by"]) == (402, "session", [])
    assert told["missing_gpu_seconds"] == round(told["needed_gpu_seconds"] - 0.001, 3)
    helps = told["next"]["call"]
    assert helps["body"] == {"gpu_seconds": told["missing_gpu_seconds"]}
    assert api.open(helps["path"], method=helps["method"], json=helps["body"]).status_code == 201
    assert api.post("/api/v1/jobs", json=asked).status_code == 202
