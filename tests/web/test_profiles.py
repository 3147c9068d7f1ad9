"""A model's profiles: its measured speeds by name, instead of a number of steps."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from flask.testing import FlaskClient

from orchestrator.catalog import FAKE, Catalog
from orchestrator.farm import Farm
from orchestrator.farm.accounts import sessions
from orchestrator.store import open_store
from tests.factories import Clock, account_id, make_farm

QUOTES = "/api/v1/quotes"
BODY = {"prompt": "a rocket rises", "seconds": 4}


@pytest.fixture
def web_farm(sqlite_url: str, clock: Clock) -> Iterator[Farm]:
    """A farm whose model has two profiles."""
    store = open_store(sqlite_url)
    card = replace(FAKE, profiles={"fast": 2, "best": 8}, default_steps=8)
    yield replace(make_farm(store, clock), catalog=Catalog({card.id: card}))
    store.close()


def test_a_profile_is_its_steps(api: FlaskClient) -> None:
    """Models list them, a quote and a job name theirs, and the faster one is the cheaper one."""
    (model,) = api.get("/api/v1/models").get_json()["data"]
    assert model["profiles"] == {"fast": 2, "best": 8}
    fast, best, own = (
        api.post(QUOTES, json=BODY | asked).get_json()
        for asked in ({"profile": "fast"}, {}, {"steps": 5})
    )
    assert [q["profile"] for q in (fast, best, own)] == ["fast", "best", None]
    assert (fast["steps"], best["steps"]) == (2, 8)
    assert fast["gpu_seconds_p50"] < own["gpu_seconds_p50"] < best["gpu_seconds_p50"]
    job = api.post("/api/v1/jobs", json=BODY | {"profile": "fast"}).get_json()
    assert (job["steps"], job["quote"]["profile"]) == (2, "fast")


def test_a_faster_profile_is_an_alternative_by_name(api: FlaskClient, web_farm: Farm) -> None:
    """Best quality first: fewer steps, then the profile that is faster, each with its quote."""
    sessions.create(web_farm, account_id=account_id(web_farm), name="small", budget_gpu_ms=4_000)
    told = api.post(QUOTES, json=BODY | {"session_id": "small"}).get_json()
    assert not told["fits"]
    assert told["why_not"]["limit"] == "session"
    assert told["why_not"]["next"]["code"] == "top_up"
    labels = [each["label"] for each in told["alternatives"]]
    assert "the profile fast: 2 steps instead of 8" in labels


def test_a_wrong_profile_is_refused(api: FlaskClient) -> None:
    """An unknown one is told the known ones; one beside steps could mean two things."""
    unknown = api.post(QUOTES, json=BODY | {"profile": "warp"})
    assert unknown.status_code == 422
    assert "fast, best" in unknown.get_json()["next"]["text"]
    both = api.post(QUOTES, json=BODY | {"profile": "fast", "steps": 3})
    assert both.status_code == 422
    assert "both a profile and steps" in both.get_json()["detail"]
