"""A plan's watermark is the job's from its submission on, and its owner is told."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm
from orchestrator.farm.accounts import accounts
from orchestrator.money.plans import Plans, shipped
from orchestrator.store import open_store
from orchestrator.wire import RenderWork
from tests.factories import Clock, Hand, account_id, make_farm

JOBS = "/api/v1/jobs"
BODY = {"prompt": "a red ball rolls left", "seconds": 1, "steps": 4}
MARK = {"text": "Framefarm", "plan": "free"}


@pytest.fixture
def web_farm(sqlite_url: str, clock: Clock) -> Iterator[Farm]:
    """A farm whose plan free has the model of these tests, too."""
    store = open_store(sqlite_url)
    free = replace(shipped().named("free"), models=("*",))
    yield replace(make_farm(store, clock), plans=Plans({**shipped().plans, "free": free}))
    store.close()


def test_quote_job_and_receipt_name_it(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """The work of each batch says the words, also when the plan has changed since."""
    assert api.post("/api/v1/quotes", json=BODY).get_json()["watermark"] is None
    accounts.set_plan(web_farm, account_id(web_farm), "free")
    assert api.post("/api/v1/quotes", json=BODY).get_json()["watermark"] == MARK
    job = api.post(JOBS, json=BODY).get_json()
    accounts.set_plan(web_farm, account_id(web_farm), "studio")
    hand = Hand(web_farm, clock)
    while order := hand.claim():
        assert not isinstance(order.work, RenderWork) or order.work.watermark == "Framefarm"
        hand.done(order)
    assert api.get(f"{JOBS}/{job['id']}").get_json()["watermark"] == MARK
    assert api.get(f"{JOBS}/{job['id']}/receipt").get_json()["watermark"] == MARK


def test_its_frames_are_not_given_away_without_it(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Masters have no watermark, so frames.zip of such a job is refused; it says by what."""
    accounts.set_plan(web_farm, account_id(web_farm), "free")
    job = api.post(JOBS, json=BODY).get_json()
    Hand(web_farm, clock).work_off()
    refused = api.get(f"{JOBS}/{job['id']}/frames.zip")
    assert refused.get_json()["code"] == "plan_limit"
    assert refused.get_json()["limit"] == "watermark"
    assert "the plan free" in refused.get_json()["detail"]
