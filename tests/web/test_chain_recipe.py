"""The chain as an outsider checks it: by exported rows and the recipe of docs/ledger.md alone.

Nothing of the farm's code is asked how a digest is made.
"""

import csv
import hashlib
import io
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.states import Cause, Outcome
from tests.factories import Clock, Hand, submit
from tests.test_docs import rows
from tests.web.test_api_money import rows as sheet

LEDGER = "/api/v1/sessions/default/ledger"
TAKEN: dict[str, Callable[[Any], object]] = {
    "a text": lambda value: value or "",
    "a number": int,
    "milliseconds since 1970": lambda at: round(datetime.fromisoformat(at).timestamp() * 1000),
    "milliseconds": lambda seconds: round(float(seconds) * 1000),
    "JSON, its keys sorted": lambda report: report,
}
"""The recipe's word on an item, as an outsider would understand it."""


def digest(heading: str, row: dict[str, Any]) -> str:
    """Follow the recipe under a heading."""
    items = [TAKEN[how](row[name.strip("`")]) for name, how in rows("ledger.md", heading)]
    text = json.dumps(items, separators=(",", ":"), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.fixture
def jobs(web_farm: Farm, clock: Clock) -> list[str]:
    """A finished job with a failure and a loss on its way, and one that was refunded."""
    job, broken = submit(web_farm), submit(web_farm)
    hands = [Hand(web_farm, clock, name=name) for name in ("one", "zwei ü")]
    for number in range(20):
        hand = hands[number % 2]
        if order := hand.claim():
            clock.advance(1)
            fails = (order.job_id == broken.id and number > 2) or number == 3
            outcome = Outcome.FAILED if fails else Outcome.DONE
            cause = Cause.FARM if fails else None
            hand.complete(order, outcome, gpu_ms=70, cause=cause, load_gpu_ms=number, energy_mj=5)
    return [job.id, broken.id]


@pytest.mark.parametrize("form", ["json", "csv"])
def test_a_whole_chain_is_computed_from_its_export(
    api: FlaskClient, jobs: list[str], form: str
) -> None:
    """Every digest follows from the row and the one before it, up to what the session shows."""
    if form == "csv":
        told: list[dict[str, Any]] = list(sheet(api, f"{LEDGER}?format=csv"))
    else:
        told = api.get(f"{LEDGER}?limit=200").get_json()["data"]
    assert {row["kind"] for row in told} >= {"grant", "place", "settle", "loss", "refund"}
    head = ""
    for row in sorted(told, key=lambda row: int(row["number"])):
        assert row["previous_sha256"] == head
        head = digest("The chain", row)
        assert row["sha256"] == head, row["kind"]
    session = api.get("/api/v1/sessions/default").get_json()
    assert (session["entries"], session["head_sha256"]) == (len(told), head)


def test_what_a_lease_s_digest_is_of_stands_on_the_receipt(
    api: FlaskClient, jobs: list[str]
) -> None:
    """Each settlement and loss has the digest of the line of its lease."""
    entries = api.get(f"{LEDGER}?limit=200").get_json()["data"]
    lines = {}
    for job in jobs:
        receipt = api.get(f"/api/v1/jobs/{job}/receipt").get_json()
        lines |= {line["lease_id"]: line for line in receipt["lines"]}
    of_lease = [entry for entry in entries if entry["lease_id"]]
    assert len(of_lease) > 5
    for entry in of_lease:
        line = lines[entry["lease_id"]]
        assert digest("A lease's digest", line) == entry["receipt_sha256"], line
        assert line["receipt_sha256"] == entry["receipt_sha256"]


def test_money_stands_beside_every_price(api: FlaskClient, jobs: list[str]) -> None:
    """An exported entry with a price names the two accounts of money; together they are 0."""
    told = list(sheet(api, f"{LEDGER}?format=csv"))
    balances: dict[str, int] = {}
    for row in told:
        price = int(row["price_microusd"])
        assert bool(row["money_debit"]) == bool(row["money_credit"]) == bool(price)
        for name, sign in ((row["money_credit"], 1), (row["money_debit"], -1)):
            balances[name] = balances.get(name, 0) + sign * abs(price)
    bills = [api.get(f"/api/v1/jobs/{job}/receipt").get_json()["price"]["microusd"] for job in jobs]
    assert balances["revenue"] == sum(bills) > 0
    assert sum(balances.values()) == 0


def test_csv_without_an_apostrophe_is_as_it_was_digested(api: FlaskClient, jobs: list[str]) -> None:
    """No cell of a digested column needs the apostrophe that a formula gets."""
    answer = api.get(f"{LEDGER}?format=csv")
    assert not [
        cell for row in csv.reader(io.StringIO(answer.text)) for cell in row if cell[:1] == "'"
    ]
