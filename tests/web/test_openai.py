"""The OpenAI dialect over HTTP, call by call; tests/acceptance drives it with the real client."""

import base64
import io
import json
from dataclasses import replace
from hashlib import sha256
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.states import JobState, Outcome, PauseReason
from tests.factories import Clock, Hand, account_id, with_painter
from tests.web import evil
from tests.web.conftest import Caller
from tests.web.test_api_jobs import PNG
from web.media import pictures
from web.openai import showing

VIDEOS = "/v1/videos"


def create(api: FlaskClient, **form: Any) -> dict[str, Any]:
    """Create a video by a form, as OpenAI's client does, and return it."""
    answer = api.post(
        VIDEOS, data={"prompt": "a rocket rises", **form}, content_type="multipart/form-data"
    )
    assert answer.status_code == 200, answer.text
    return dict(answer.get_json())


def test_a_video_is_a_job(api: FlaskClient, web_farm: Farm) -> None:
    """Numbers come as text, extras flat beside them; the job is the same one in both dialects."""
    video = create(api, model="sora-2", seconds="4", size="128x64", seed="42", steps="2")
    assert (video["object"], video["status"], video["progress"]) == ("video", "queued", 0)
    assert (video["seconds"], video["size"], video["model"]) == ("4", "128x64", "fake")
    assert (video["seed"], video["steps"]) == (42, 2)
    job = api.get(f"/api/v1/jobs/{video['id']}").get_json()
    assert (job["seconds"], job["quote"]) == (4.0, video["quote"])
    assert video["session_id"] == job["session_id"]
    assert video["usage"]["gpu_seconds"] == 0


def test_json_is_taken_too(api: FlaskClient) -> None:
    """A JSON body means what the form means; numbers may be numbers."""
    answer = api.post(VIDEOS, json={"prompt": "a cat", "seconds": 2, "seed": 7, "size": None})
    assert (answer.status_code, answer.get_json()["seed"]) == (200, 7)


def test_a_poll_hears_when_to_ask_again(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """Queued, then in progress, then completed; only the last is silent about the next poll."""
    video = create(api)
    place = f"{VIDEOS}/{video['id']}"
    assert int(api.get(place).headers["openai-poll-after-ms"]) >= 500
    hand = Hand(web_farm, clock)
    order = hand.claim()
    assert order
    assert api.get(place).get_json()["status"] == "in_progress"
    hand.done(order)
    hand.work_off()
    done = api.get(place)
    assert (done.get_json()["status"], done.get_json()["progress"]) == ("completed", 100)
    assert done.get_json()["completed_at"] == clock.now_ms // 1000
    assert done.get_json()["usage"]["gpu_seconds"] > 0
    assert "openai-poll-after-ms" not in done.headers


def test_lists_page_both_ways(api: FlaskClient) -> None:
    """`last_id` and `has_more` lead through all videos once, newest or oldest first."""
    made = [create(api)["id"] for _ in range(5)]
    for order, wanted in (("desc", made[::-1]), ("asc", made)):
        found: list[str] = []
        after, more = "", True
        while more:
            page = api.get(f"{VIDEOS}?limit=2&order={order}&after={after}").get_json()
            assert page["first_id"] == page["data"][0]["id"]
            found += [video["id"] for video in page["data"]]
            after, more = page["last_id"], page["has_more"]
        assert found == wanted
    empty = api.get(f"{VIDEOS}?after=job_0").get_json()
    assert (empty["data"], empty["first_id"], empty["has_more"]) == ([], None, False)


@pytest.mark.parametrize("query", ["limit=0", "limit=x", "limit=101", "order=up"])
def test_a_wrong_query_is_named(api: FlaskClient, query: str) -> None:
    """A list that cannot be read is a 400 that names the parameter."""
    answer = api.get(f"{VIDEOS}?{query}")
    assert answer.status_code == 400
    assert answer.get_json()["error"]["param"] == query.split("=", maxsplit=1)[0]


def test_delete_ends_a_video_that_waits(api: FlaskClient, web_farm: Farm) -> None:
    """A DELETE with an empty JSON body cancels what is not done, releases its hold, hides it."""
    video = create(api)
    answer = api.delete(f"{VIDEOS}/{video['id']}", content_type="application/json")
    assert answer.get_json() == {"id": video["id"], "object": "video.deleted", "deleted": True}
    gone = api.get(f"{VIDEOS}/{video['id']}")
    assert (gone.status_code, gone.get_json()["error"]["code"]) == (404, "not_found")
    assert sessions.find(web_farm, account_id(web_farm), None).held_gpu_ms == 0


def test_a_delete_whose_answer_was_lost_is_confirmed(api: FlaskClient, other: FlaskClient) -> None:
    """The client's second try finds nothing to delete, and hears what the first one did."""
    video = create(api)
    place = f"{VIDEOS}/{video['id']}"
    assert api.delete(place).status_code == 200
    again = {"x-stainless-retry-count": "1"}
    assert api.delete(place, headers=again).get_json()["deleted"]
    assert api.delete(place).status_code == 404
    assert other.delete(place, headers=again).status_code == 404


def test_a_device_that_does_not_let_go_is_worth_another_try(
    api: FlaskClient, web_farm: Farm, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a worker is still to hear of the cancellation, the 409 asks for one."""
    monkeypatch.setattr("web.openai.videos.STOP_SECONDS", 0.0)
    video = create(api)
    hand = Hand(web_farm, clock)
    order = hand.claim()
    assert order
    answer = api.delete(f"{VIDEOS}/{video['id']}")
    assert (answer.status_code, answer.headers["x-should-retry"]) == (409, "true")
    assert hand.beat(order) == "cancel"
    hand.complete(order, Outcome.STOPPED)
    assert api.delete(f"{VIDEOS}/{video['id']}").status_code == 200


def test_content_comes_in_three_variants(
    app: Flask, api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Video, thumbnail and spritesheet; before the end a 404 that is not worth a retry."""
    video = create(api)
    early = api.get(f"{VIDEOS}/{video['id']}/content", headers={"Accept": "application/binary"})
    assert (early.status_code, early.headers["x-should-retry"]) == (404, "false")
    Hand(web_farm, clock).work_off()
    files = app.extensions["artifacts"]
    kept = jobs.get(web_farm, None, video["id"]).artifacts
    for variant, name in (("video", "video"), ("thumbnail", "poster"), ("spritesheet", "sheet")):
        body = name.encode()
        files.put(kept[name].key, [body], sha256=sha256(body).hexdigest(), max_bytes=99)
        with api.get(f"{VIDEOS}/{video['id']}/content?variant={variant}") as answer:
            assert (answer.status_code, answer.data) == (200, body)
    wrong = api.get(f"{VIDEOS}/{video['id']}/content?variant=gif")
    assert (wrong.status_code, wrong.get_json()["error"]["param"]) == (400, "variant")


@pytest.mark.parametrize(
    ("form", "param"),
    [
        ({"prompt": ""}, "prompt"),
        ({"prompt": "a cat", "seconds": "long"}, "seconds"),
        ({"prompt": "a cat", "size": "wide"}, "size"),
        ({"prompt": "a cat", "colour": "red"}, "colour"),
        ({"prompt": "a cat", "seconds": "9999"}, "seconds"),
        ({"prompt": "a cat", "model": "gpt-4"}, None),
        ({"prompt": "a cat", "input_reference[image_url]": "https://x.test/a.png"},
         "input_reference"),
        ({"prompt": "a cat", "input_reference[image_url]": "data:image/png;base64,%%%"},
         "input_reference.image_url"),
        ({"prompt": "a cat", "characters": "[1"}, None),
    ],
)  # fmt: skip
def test_what_cannot_be_is_a_400_in_their_form(
    api: FlaskClient, web_farm: Farm, form: dict[str, str], param: str | None
) -> None:
    """A refusal has OpenAI's four fields, names the parameter, and starts nothing."""
    answer = api.post(VIDEOS, data=form, content_type="multipart/form-data")
    error = answer.get_json()["error"]
    assert answer.status_code in (400, 404), answer.text
    assert {"message", "type", "param", "code"} <= error.keys()
    assert (error["type"], error["param"]) == ("invalid_request_error", param)
    assert answer.headers["x-should-retry"] == "false"
    assert jobs.listing(web_farm, None).items == ()


def test_over_budget_is_a_402(api: FlaskClient, web_farm: Farm) -> None:
    """The refusal is of type insufficient_quota and says what is needed, left, and would fit."""
    sessions.create(web_farm, account_id=account_id(web_farm), name="small", budget_gpu_ms=2_000)
    asked = {"prompt": "a cat", "seconds": "8", "session_id": "small"}
    unasked = api.post(VIDEOS, data=asked).get_json()["error"]
    assert "alternatives" not in unasked
    assert unasked["also"][0]["call"]["path"] == "/api/v1/quotes"
    answer = api.post(f"{VIDEOS}?alternatives=true", data=asked)
    error = answer.get_json()["error"]
    assert (answer.status_code, error["code"]) == (402, "budget_exceeded")
    assert error["type"] == "insufficient_quota"
    assert error["needed_gpu_seconds"] > error["available_gpu_seconds"]
    assert error["alternatives"]
    assert answer.headers["x-should-retry"] == "false"


def test_other_errors_have_their_form_too(api: FlaskClient, app: Flask) -> None:
    """No key, no such call, no such method: all under /v1 is in OpenAI's form."""
    anonymous = app.test_client().get(VIDEOS)
    assert anonymous.status_code == 401
    assert anonymous.get_json()["error"]["type"] == "authentication_error"
    for answer in (api.get("/v1/nothing"), api.put(VIDEOS)):
        assert answer.get_json()["error"]["type"] == "invalid_request_error"


def test_another_account_sees_nothing(api: FlaskClient, other: FlaskClient) -> None:
    """Another account's video and reference are not there."""
    video = create(api)
    for method, place in (
        ("get", ""), ("delete", ""), ("get", "/content"), ("post", "/remix"),
    ):  # fmt: skip
        answer = getattr(other, method)(f"{VIDEOS}/{video['id']}{place}", json={"prompt": "x"})
        assert answer.status_code == 404, place
    assert other.get(VIDEOS).get_json()["data"] == []


def test_a_picture_comes_in_any_form(api: FlaskClient, web_farm: Farm) -> None:
    """A file without a type, a data URL and a kept file are the same picture to the job."""
    with_painter(web_farm)
    kept = api.post("/v1/files", data={"file": (io.BytesIO(PNG), "a.png"), "purpose": "vision"})
    assert kept.get_json()["bytes"] == len(pictures.clean(pictures.Upload(PNG))[1])
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    forms: list[dict[str, Any]] = [
        {"input_reference": (io.BytesIO(PNG), "upload", "application/octet-stream")},
        {"input_reference[image_url]": data},
        {"input_reference[file_id]": kept.get_json()["id"]},
    ]
    found = set()
    for form in forms:
        video = create(api, model="painter", **form)
        found.add(jobs.get(web_farm, None, video["id"]).brief.image)
    assert found == {
        f"inputs/{sha256(pictures.clean(pictures.Upload(PNG))[1]).hexdigest()}/input.png"
    }


def test_a_picture_is_refused_by_what_it_is(api: FlaskClient, web_farm: Farm) -> None:
    """Text named .png, several pictures, or a model that takes none: one sentence each."""
    with_painter(web_farm)
    text = {"model": "painter", "input_reference": (io.BytesIO(b"text"), "a.png")}
    several = {
        "model": "painter",
        "input_reference": (io.BytesIO(PNG), "a.png"),
        "characters": "char_1",
    }
    none = {"model": "fake", "input_reference": (io.BytesIO(PNG), "a.png")}
    for form in (text, several, none):
        answer = api.post(VIDEOS, data={"prompt": "a cat", **form})
        assert answer.status_code == 400, answer.text
    assert jobs.listing(web_farm, None).items == ()


def test_a_remix_keeps_all_but_the_prompt(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """Seed, size, length and steps are the source's; an edit keeps its words as well."""
    video = create(api, seconds="2", size="128x64", seed="5", steps="3")
    early = api.post(f"{VIDEOS}/{video['id']}/remix", json={"prompt": "a cat"})
    assert (early.status_code, early.headers["x-should-retry"]) == (409, "false")
    Hand(web_farm, clock).work_off()
    remix = api.post(f"{VIDEOS}/{video['id']}/remix", json={"prompt": "a cat"}).get_json()
    edited = api.post(
        f"{VIDEOS}/edits",
        data={"prompt": "at night", "video[id]": video["id"]},
        content_type="multipart/form-data",
    ).get_json()
    for again in (remix, edited):
        same = ("seconds", "size", "seed", "steps", "model", "session_id")
        assert [again[name] for name in same] == [video[name] for name in same]
        assert again["remixed_from_video_id"] == video["id"]
    assert (remix["prompt"], edited["prompt"]) == ("a cat", "a rocket rises, at night")


def test_a_remix_keeps_scenes_and_cap(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """A video made from another has its scenes, its cap and what it does without budget."""
    scenes = [{"prompt": "a dog", "seconds": 1, "negative_prompt": "cats"}, {"prompt": "a cat"}]
    video = create(
        api,
        storyboard=json.dumps(scenes),
        max_gpu_seconds="300",
        on_exhausted="finish",
        seconds="2",
    )
    Hand(web_farm, clock).work_off()
    again = api.post(f"{VIDEOS}/{video['id']}/remix", json={"prompt": "oil painting"}).get_json()
    was, now = (jobs.get(web_farm, None, each["id"]).brief for each in (video, again))
    for name in ("scenes", "max_gpu_ms", "on_exhausted"):
        assert getattr(now, name) == getattr(was, name)
    assert (now.prompt, now.max_gpu_ms) == ("oil painting", 300_000)


@pytest.mark.parametrize("reason", list(PauseReason))
def test_a_poll_of_a_paused_video_ends_if_nothing_will_happen(
    api: FlaskClient, web_farm: Farm, reason: PauseReason
) -> None:
    """Waiting for a top-up is `failed` with its reason; waiting for a person is `queued`."""
    job = jobs.get(web_farm, None, create(api)["id"])
    shown = showing.video(replace(job, state=JobState.PAUSED, pause_reason=reason))
    if reason is PauseReason.BUDGET:
        assert (shown["status"], shown["error"]["code"]) == ("failed", "budget_exceeded")
    else:
        assert (shown["status"], shown["error"]) == ("queued", None)
    assert (shown["state"], shown["pause_reason"]) == ("paused", reason)


def test_a_cancelled_video_has_failed(api: FlaskClient) -> None:
    """OpenAI has no word for it: `failed` with the code `cancelled`."""
    video = create(api)
    api.post(f"/api/v1/jobs/{video['id']}/cancel")
    shown = api.get(f"{VIDEOS}/{video['id']}").get_json()
    assert (shown["status"], shown["error"]["code"]) == ("failed", "cancelled")


def test_a_foreign_upload_is_no_source(api: FlaskClient) -> None:
    """Only videos of this farm can be edited or extended, and the refusal says so."""
    for call in ("edits", "extensions"):
        answer = api.post(
            f"{VIDEOS}/{call}",
            data={"prompt": "x", "seconds": "4", "video": (io.BytesIO(b"x"), "a.mp4")},
        )
        assert (answer.status_code, answer.get_json()["error"]["param"]) == (400, "video")


def test_a_repeated_create_is_one_job(api: FlaskClient, caller: Caller, web_farm: Farm) -> None:
    """The client's second try, with another boundary, finds the first one's job."""
    form = {"prompt": "a cat", "input_reference[image_url]": ""}

    def send(client: FlaskClient, tries: int) -> str:
        headers = {"x-stainless-retry-count": str(tries), "x-stainless-read-timeout": "600.0"}
        answer = client.post(VIDEOS, data=form, content_type="multipart/form-data", headers=headers)
        return str(answer.get_json()["id"])

    first = send(api, 0)
    assert send(api, 1) == first
    assert send(api, 0) != first, "a first try is meant"
    assert send(caller(), 1) not in {video.id for video in jobs.listing(web_farm, None).items[1:]}
    assert len(jobs.listing(web_farm, None).items) == 3, "another key, another client"


def test_a_try_with_another_picture_is_another_request(api: FlaskClient, web_farm: Farm) -> None:
    """An upload counts as asked: for a later try, and for an Idempotency-Key."""
    with_painter(web_farm)

    def send(picture: bytes, **headers: str) -> Any:
        form = {
            "prompt": "a cat",
            "model": "painter",
            "input_reference": (io.BytesIO(picture), "a"),
        }
        return api.post(VIDEOS, data=form, content_type="multipart/form-data", headers=headers)

    other = evil.picture()
    first = send(PNG).get_json()["id"]
    again = {"x-stainless-retry-count": "1"}
    assert send(other, **again).get_json()["id"] != first
    assert send(PNG, **again).get_json()["id"] == first
    keyed = send(PNG, **{"Idempotency-Key": "k"})
    assert send(PNG, **{"Idempotency-Key": "k"}).get_json()["id"] == keyed.get_json()["id"]
    refused = send(other, **{"Idempotency-Key": "k"})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (
        422,
        "idempotency_mismatch",
    )


def test_an_extension_is_the_whole_video(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """Its seconds are the stitched total; size and rate are the source's, and must be."""
    video = create(api, seconds="2", size="128x64", seed="5")
    Hand(web_farm, clock).work_off()
    asked = {"prompt": "it falls", "seconds": "4", "video[id]": video["id"]}
    longer = api.post(f"{VIDEOS}/extensions", data=asked).get_json()
    assert (longer["seconds"], longer["size"], longer["seed"]) == ("6", "128x64", 5)
    assert longer["remixed_from_video_id"] == video["id"]
    assert longer["frames_total"] == 48, "what is painted, and paid for"
    for odd in ({"size": "64x64"}, {"fps": "8"}, {"seconds": ""}, {"video[id]": ""}):
        answer = api.post(f"{VIDEOS}/extensions", data=asked | odd)
        assert answer.status_code == 400, answer.text
