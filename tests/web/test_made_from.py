"""Jobs that are made from others: what their requests carry on."""

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.model import Json
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, with_painter
from tests.web import evil
from tests.web.conftest import Caller, signed_in

JOBS = "/api/v1/jobs"
VIDEOS = "/v1/videos"
HOOK = "https://93.184.215.14/hook"
DAY_MS = 86_400_000
TOLD: Json = {"webhook_url": HOOK, "webhook_events": ["job.succeeded"]}
LABELS: Json = {"tags": ["red"], "metadata": {"shop": "north"}}


def submit(api: FlaskClient, **fields: Any) -> Json:
    """Submit a job of a second."""
    sent = api.post(JOBS, json={"prompt": "a rocket rises", "seconds": 1, **fields})
    assert sent.status_code == 202, sent.text
    told: Json = sent.get_json()
    return told


def iso(at_ms: int) -> str:
    """Return a moment as the API writes it."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).isoformat(timespec="milliseconds")


def test_a_request_names_its_webhook(caller: Caller) -> None:
    """To keys that may see it: those that configure, and the one that submitted."""
    api = caller()
    job = submit(api, **TOLD)
    assert TOLD.items() <= job["request"].items()
    again = submit(api, **{k: v for k, v in job["request"].items() if k not in ("prompt",)})
    assert again["webhook_id"] == job["webhook_id"]
    shown = caller(KeyKind.READ).get(f"{JOBS}/{job['id']}").get_json()["request"]
    assert TOLD.keys().isdisjoint(shown)
    assert "secret" not in str(shown) + str(job["request"])


def test_a_moment_is_carried_while_it_is_ahead(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """By request, remix, extension and variation; over, it is said and never lost."""
    until = clock() + DAY_MS
    job = submit(api, expires_at=iso(until))
    path = f"{JOBS}/{job['id']}"
    assert job["request"]["expires_at"] == iso(until)
    Hand(web_farm, clock).work_off()
    longer: Json = {"prompt": "it falls", "seconds": 1, "extends": job["id"]}
    assert api.post(JOBS, json=longer).get_json()["expires_at"] == iso(until)
    remix = f"{VIDEOS}/{job['id']}/remix"
    assert api.post(remix, json={"prompt": "a cat"}).get_json()["expires_at"] == until // 1000
    for said in ({"expires_in": 7200}, {"expires_at": iso(until + 1000)}):
        assert api.post(remix, json={"prompt": "a cat", **said}).status_code == 200
        assert api.post(JOBS, json=longer | said).status_code == 202
    browser = signed_in(web_farm)
    assert f'name="expires_at" value="{until}"' in browser.get(f"/?like={job['id']}").text
    clock.now_ms += DAY_MS - 1_800_000
    shown = api.get(path).get_json()
    assert "expires_at" not in shown["request"]
    assert "leaves it out" in shown["notes"][-1]
    for refused in (api.post(remix, json={"prompt": "a cat"}), api.post(JOBS, json=longer)):
        assert refused.status_code in (400, 422)
        assert "expires_at" in refused.text
    assert api.post(remix, json={"prompt": "a cat", "expires_in": 7200}).status_code == 200
    page = browser.get(f"/?like={job['id']}").text
    assert 'name="expires_at"' not in page
    assert "is over" in page


@pytest.mark.parametrize("dialect", ["native", "openai"])
def test_an_extension_keeps_labels_and_webhook(
    api: FlaskClient, web_farm: Farm, clock: Clock, dialect: str
) -> None:
    """In both dialects alike: what the request leaves out is as in the video before."""
    first = submit(api, **TOLD, **LABELS)
    Hand(web_farm, clock).work_off()

    def extended(**said: Any) -> Json:
        asked: Json = {"prompt": "it falls", **said}
        if dialect == "native":
            sent = api.post(JOBS, json=asked | {"seconds": 1, "extends": first["id"]})
        else:
            asked |= {"seconds": "1", "video": {"id": first["id"]}}
            sent = api.post(f"{VIDEOS}/extensions", json=asked)
        assert sent.status_code in (200, 202), sent.text
        shown: Json = api.get(f"{JOBS}/{sent.get_json()['id']}").get_json()
        return shown

    assert (TOLD | LABELS).items() <= extended()["request"].items()
    other = extended(tags=["blue"], metadata={}, webhook_events=["job.failed"])
    assert (other["tags"], other["metadata"]) == (["blue"], {})
    assert other["request"]["webhook_url"] == HOOK
    assert other["webhook_events"] == ["job.failed"]
    elsewhere = extended(webhook_url=f"{HOOK}2")
    assert elsewhere["request"]["webhook_url"] == f"{HOOK}2"
    assert "webhook_events" not in elsewhere["request"]


def test_jobs_are_listed_by_a_sessions_name(caller: Caller, api: FlaskClient) -> None:
    """As everywhere else; an operator's names are those of its own account."""
    api.post("/api/v1/sessions", json={"name": "films", "budget_gpu_seconds": 100})
    here, there = submit(api), submit(api, session_id="films")
    for client in (api, caller(KeyKind.ADMIN)):
        for asked, job in (("default", here), ("films", there), (there["session_id"], there)):
            rows = client.get(JOBS, query_string={"session_id": asked}).get_json()["data"]
            assert [row["id"] for row in rows] == [job["id"]], asked
        assert client.get(f"{JOBS}?session_id=nobody").get_json()["data"] == []


@pytest.mark.parametrize("query", ["tag=red", "model=nope", "bogus=1", "limit=2&state=queued"])
def test_openais_list_refuses_what_it_would_not_heed(api: FlaskClient, query: str) -> None:
    """Its own are after, limit and order; another one listed everything."""
    refused = api.get(f"{VIDEOS}?{query}")
    assert refused.status_code == 400
    assert refused.get_json()["error"]["param"] == query.rpartition("&")[2].partition("=")[0]
    assert api.get(f"{VIDEOS}?limit=2&order=asc").status_code == 200


@pytest.mark.parametrize("how", ["remix", "edit"])
def test_what_goes_on_from_another_video_is_not_painted_without_it(
    api: FlaskClient, web_farm: Farm, clock: Clock, how: str
) -> None:
    """A remix or an edit of an extension would be its new frames alone, and is refused."""
    first = submit(api)
    Hand(web_farm, clock).work_off()
    longer = submit(api, extends=first["id"])
    Hand(web_farm, clock).work_off()
    path = f"{VIDEOS}/{longer['id']}/remix" if how == "remix" else f"{VIDEOS}/edits"
    asked = {"prompt": "a cat"} | ({} if how == "remix" else {"video": {"id": longer["id"]}})
    refused = api.post(path, json=asked)
    assert refused.status_code == 400
    assert first["id"] in refused.get_json()["error"]["message"]


def test_a_picture_is_not_dropped_without_a_word(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """A remix onto a model that takes no picture is refused, as a submission is."""
    with_painter(web_farm)
    picture = {"image": (io.BytesIO(evil.picture()), "a.png")}
    form = {"prompt": "a dog", "seconds": "1", "model": "painter", **picture}
    sent = api.post(JOBS, data=form, content_type="multipart/form-data")
    assert sent.status_code == 202, sent.text
    Hand(web_farm, clock, models=("painter",)).work_off()
    path = f"{VIDEOS}/{sent.get_json()['id']}/remix"
    others = [card.id for card in web_farm.catalog.cards.values() if not card.takes_image]
    assert others
    refused = api.post(path, json={"prompt": "a cat", "model": others[0]})
    assert refused.status_code == 400
    assert "reference image" in refused.get_json()["error"]["message"]
    kept = api.post(path, json={"prompt": "a cat"}).get_json()
    assert (
        jobs.get(web_farm, None, kept["id"]).image
        == jobs.get(web_farm, None, sent.get_json()["id"]).image
    )
