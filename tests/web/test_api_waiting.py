"""What a job waits for, over HTTP and on its page."""

from flask.testing import FlaskClient

from orchestrator.farm import Farm, fleet
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
