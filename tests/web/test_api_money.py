"""Bills, books and quotes over HTTP: as JSON, and as CSV that no spreadsheet runs."""

import csv
import io
from typing import Any

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.accounts import sessions
from orchestrator.states import Cause, KeyKind, Outcome
from tests.factories import Clock, Hand, account_id, submit
from tests.web.conftest import Caller

JOBS = "/api/v1/jobs"


@pytest.fixture
def done(web_farm: Farm, clock: Clock) -> str:
    """A finished job whose first unit failed once."""
    job = submit(web_farm)
    hand = Hand(web_farm, clock, name="=cmd()")
    order = hand.claim()
    assert order
    clock.advance(1)
    hand.complete(order, Outcome.FAILED, gpu_ms=70, cause=Cause.WORKER)
    hand.work_off(gpu_ms=10)
    return job.id


def rows(client: FlaskClient, path: str, **more: Any) -> list[dict[str, str]]:
    """Return the rows of a CSV answer."""
    answer = client.get(path, **more)
    assert answer.status_code == 200
    assert answer.mimetype == "text/csv"
    assert "attachment" in answer.headers["Content-Disposition"]
    return list(csv.DictReader(io.StringIO(answer.text)))


def test_a_ledger_as_csv_is_all_of_it(api: FlaskClient, done: str) -> None:
    """Every entry with its digest, newest first, whatever a page of JSON would hold."""
    told = rows(api, "/api/v1/sessions/default/ledger?format=csv&limit=1")
    entries = api.get("/api/v1/sessions/default/ledger").get_json()["data"]
    assert [row["sha256"] for row in told] == [entry["sha256"] for entry in entries]
    assert [int(row["number"]) for row in told] == list(range(len(entries), 0, -1))
    assert told[0]["previous_sha256"] == told[1]["sha256"]


def test_a_receipt_as_csv_is_its_lines(api: FlaskClient, done: str) -> None:
    """One line a lease; a worker named like a formula is text, what was not charged says why."""
    told = rows(api, f"{JOBS}/{done}/receipt", headers={"Accept": "text/csv"})
    assert {row["worker"] for row in told} == {"'=cmd()"}
    assert told[0]["not_charged"] == "failed: worker: 0.07"
    assert told[0]["energy_mj"] == ""
    lines = api.get(f"{JOBS}/{done}/receipt").get_json()["lines"]
    assert [float(row["gpu_seconds"]) for row in told] == [line["gpu_seconds"] for line in lines]


def test_usage_as_csv_has_its_key_in_the_header(api: FlaskClient, done: str) -> None:
    """The first column is called what was asked for."""
    told = rows(api, "/api/v1/usage?by=stage&format=csv")
    assert {row["stage"] for row in told} == {"parse", "render", "encode"}


def test_a_plan_says_what_it_costs_and_marks(api: FlaskClient) -> None:
    """Any key sees every rule of each plan: a price of 0 is free, none is by the GPU-second."""
    plans = {plan["name"]: plan for plan in api.get("/api/v1/plans").get_json()["data"]}
    free, studio = plans["free"], plans["studio"]
    assert (free["price_month"], studio["price_month"]) == ({"microusd": 0, "usd": 0.0}, None)
    assert plans["creator"]["price_month"]["usd"] == 15
    assert (free["watermark"], studio["watermark"]) == ("Framefarm", None)
    assert (free["floor"], free["session_gpu_seconds"]) == (0.1, 120)
    assert free["alerts"][-1] == {"percent": 100, "action": "pause_new"}
    assert "microusd_a_month" not in str(api.get("/api/v1/rates").get_json())


def test_a_browser_gets_json(api: FlaskClient, done: str) -> None:
    """CSV is for who asks for it: `*/*` is JSON, and so is an unknown preference."""
    for accept in ("*/*", "text/html,*/*", "application/json, text/csv;q=0.5"):
        answer = api.get("/api/v1/usage", headers={"Accept": accept})
        assert answer.mimetype == "application/json"
    assert api.get("/api/v1/usage?format=xml").status_code == 422


def test_a_receipt_can_be_audited_by_its_owner(
    api: FlaskClient, other: FlaskClient, done: str
) -> None:
    """The audit says what it checked, in seconds; to others there is no such job."""
    told = api.get(f"{JOBS}/{done}/receipt/audit").get_json()
    receipt = api.get(f"{JOBS}/{done}/receipt").get_json()
    assert (told["ok"], told["fault"]) == (True, None)
    assert told["checked"]["gpu_seconds"] == receipt["gpu_seconds"]
    assert told["checked"]["lost_gpu_seconds"] == receipt["lost_gpu_seconds"] == 0.07
    assert other.get(f"{JOBS}/{done}/receipt/audit").status_code == 404


def test_the_books_are_the_operator_s(api: FlaskClient, caller: Caller, done: str) -> None:
    """Cost and margin are for admin keys; a user's key is refused."""
    assert api.get("/api/v1/usage/economics").status_code == 403
    admin = caller(KeyKind.ADMIN)
    told = admin.get("/api/v1/usage/economics?by=model").get_json()
    row, idle = told["rows"]
    assert (row["key"], idle["key"]) == ("fake", "(idle)")
    assert row["margin_microusd"] == row["revenue_microusd"] - row["cost_microusd"]
    assert told["total"]["cost_microusd"] == row["cost_microusd"] + idle["cost_microusd"]
    assert told["cap_hits_since"][11:] == "00:00:00.000+00:00"
    assert told["devices"][0]["device_class"] == "cpu"
    assert told["devices"][0]["present_seconds"] > 0
    sheet = rows(admin, "/api/v1/usage/economics?by=model&format=csv")
    assert [line["model"] for line in sheet] == ["fake", "(idle)", "total"]


def test_quotes_are_judged_in_public(api: FlaskClient, done: str) -> None:
    """Any key may see how many jobs came in under their p90."""
    told = api.get("/api/v1/usage/calibration").get_json()
    assert (told["jobs"], told["under_p90"], told["under_p90_percent"]) == (1, 1, 100.0)
    assert told["goal_percent"] == [88, 92]
    assert rows(api, "/api/v1/usage/calibration?format=csv")[0]["model"] == "fake"


def test_the_rate_card_is_public_and_costs_are_not(api: FlaskClient) -> None:
    """Any key may see prices by device class; what an hour costs the operator is not there."""
    (card,) = api.get("/api/v1/rates").get_json()["data"]
    assert (card["version"], card["holds"]) == ("2026-11", True)
    assert card["microusd_per_gpu_second"]["cpu"] == 14
    assert "cost" not in str(card)


def test_fit_over_http(api: FlaskClient, web_farm: Farm) -> None:
    """With `fit` a job that is too dear is taken as the best variant that fits, and says so."""
    sessions.create(web_farm, account_id=account_id(web_farm), name="small", budget_gpu_ms=3_000)
    body = {"prompt": "a rocket rises", "seconds": 8, "session_id": "small"}
    assert api.post(JOBS, json=body).status_code == 402
    quote = api.post("/api/v1/quotes", json={**body, "fit": True}).get_json()
    job = api.post(JOBS, json={**body, "fit": True})
    assert job.status_code == 202
    fitted = job.get_json()["quote"]["fitted"]
    assert fitted == quote["fitted"]
    assert "instead of" in fitted
    assert job.get_json()["quote"]["rates"] == quote["rates"] == "2026-11"
    assert quote["startup"] == {"gpu_seconds": 0.0, "charged": False}
