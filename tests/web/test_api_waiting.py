"""The reasons of a job's wait, over HTTP and on its page."""

from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.leases import fleet
from tests.factories import Clock, Hand, submit


def test_a_job_shows_what_it_waits_for(api: FlaskClient, house: Farm, clock: Clock) -> None:
    """The reason is part of the job, and another reason is another answer to its ETag."""
    address = f"/api/v1/jobs/{submit(house).id}"
    first = api.get(address)
    assert first.get_json()["waiting_for"]["code"] == "worker"
    known = {"If-None-Match": first.headers["ETag"]}
    assert api.get(address, headers=known).status_code == 304
    fleet.freeze(house, frozen=True)
    told = api.get(address, headers=known).get_json()["waiting_for"]
    assert told["code"] == "frozen" and "farm freeze --off" in told["next"]
    fleet.freeze(house, frozen=False)
    assert Hand(house, clock).claim()
    assert api.get(address).get_json()["waiting_for"] is None


def test_place_and_time_are_shown(api: FlaskClient, house: Farm, clock: Clock) -> None:
    """A job, and a list of jobs, say how many are ahead and for how long; null without a device."""
    first, second = submit(house), submit(house)
    waits = api.get(f"/api/v1/jobs/{second.id}").get_json()["waiting_for"]
    assert (waits["code"], waits["jobs_ahead"], waits["eta_seconds"]) == ("worker", None, None)
    Hand(house, clock)
    waits = api.get(f"/api/v1/jobs/{second.id}").get_json()["waiting_for"]
    assert waits["jobs_ahead"] == 1
    assert waits["eta_seconds"] == first.quote.p50_gpu_ms / 1000
    listed = {job["id"]: job["waiting_for"] for job in api.get("/api/v1/jobs").get_json()["data"]}
    assert listed[second.id] == waits and listed[first.id]["jobs_ahead"] == 0


def test_a_refusal_over_http_names_the_holders(api: FlaskClient, house: Farm) -> None:
    """A 402 says which limit, what holds it, in seconds, and the command that tops it up."""
    body = {"name": "s", "budget_gpu_seconds": 0.001}
    session = api.post("/api/v1/sessions", json=body).get_json()["id"]
    asked = {"prompt": "a rocket rises", "session_id": session}
    answer = api.post("/api/v1/jobs", json=asked)
    told = answer.get_json()
    assert (answer.status_code, told["limit"], told["held_by"]) == (402, "session", [])
    assert told["missing_gpu_seconds"] == round(told["needed_gpu_seconds"] - 0.001, 3)
    assert f"farm session topup {session}" in told["next"]
