"""The job API over HTTP: one test for each promise of the contract."""

import io
from hashlib import sha256
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import sessions
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, account_id, with_painter
from tests.web.conftest import Caller
from web.media import pictures

JOBS = "/api/v1/jobs"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)


def submit(api: FlaskClient, **body: Any) -> dict[str, Any]:
    """Submit a job that must be accepted."""
    answer = api.post(JOBS, json={"prompt": "a rocket rises", **body})
    assert answer.status_code == 202, answer.text
    return dict(answer.get_json())


def test_a_job_is_accepted_with_its_quote_and_hold(api: FlaskClient) -> None:
    """202 carries the whole job: what it will be, what it may cost, what is held."""
    job = submit(api, seconds=1, fps=8, seed=5)
    assert (job["state"], job["frames_total"], job["seed"]) == ("queued", 8, 5)
    assert job["usage"]["held_gpu_seconds"] == job["quote"]["gpu_seconds_p90"] > 0
    assert api.get(f"{JOBS}/{job['id']}").get_json() == job


def test_a_finished_job_serves_its_files(
    app: Flask, api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """The video is sent whole, in ranges, and under an ETag; before the end it is a 404."""
    job = submit(api)
    assert api.get(f"{JOBS}/{job['id']}/video").status_code == 404
    hand = Hand(web_farm, clock)
    hand.work_off(gpu_ms=5)
    ended = api.get(f"{JOBS}/{job['id']}").get_json()
    assert (ended["state"], ended["progress"]) == ("succeeded", 100)
    key = jobs.get(web_farm, None, job["id"]).artifacts["video"].key
    body = bytes(range(100))
    files = app.extensions["artifacts"]
    files.put(key, [body], sha256=sha256(body).hexdigest(), max_bytes=1000)
    with api.get(f"{JOBS}/{job['id']}/video") as whole:
        assert (whole.data, whole.mimetype) == (body, "video/mp4")
    with api.get(f"{JOBS}/{job['id']}/video", headers={"Range": "bytes=10-19"}) as part:
        assert (part.status_code, part.data) == (206, body[10:20])


def test_an_unchanged_poll_is_a_304(api: FlaskClient) -> None:
    """The ETag of a job changes with the job and with nothing else."""
    job = submit(api)
    etag = api.get(f"{JOBS}/{job['id']}").headers["ETag"]
    again = api.get(f"{JOBS}/{job['id']}", headers={"If-None-Match": etag})
    assert (again.status_code, again.data) == (304, b"")
    api.post(f"{JOBS}/{job['id']}/cancel")
    assert api.get(f"{JOBS}/{job['id']}", headers={"If-None-Match": etag}).status_code == 200


def test_the_same_idempotency_key_is_one_job(api: FlaskClient, web_farm: Farm) -> None:
    """A repeated POST with its key is one job and one hold; another body under it is a 422."""
    headers = {"Idempotency-Key": "k1"}
    first = api.post(JOBS, json={"prompt": "a cat"}, headers=headers).get_json()
    again = api.post(JOBS, json={"prompt": "a cat"}, headers=headers).get_json()
    assert first["id"] == again["id"]
    assert len(jobs.listing(web_farm, None).items) == 1
    other = api.post(JOBS, json={"prompt": "a dog"}, headers=headers)
    assert (other.status_code, other.get_json()["code"]) == (422, "idempotency_mismatch")


def test_over_budget_is_a_402_that_explains_itself(api: FlaskClient, web_farm: Farm) -> None:
    """The refusal says what is needed, what is left, and what would fit; nothing is written."""
    sessions.create(web_farm, account_id=account_id(web_farm), name="small", budget_gpu_ms=2_000)
    body = {"prompt": "a rocket rises", "seconds": 8, "session_id": "small"}
    unasked = api.post(JOBS, json=body).get_json()
    assert "alternatives" not in unasked
    call = {"method": "POST", "path": "/api/v1/quotes", "body": None}
    assert call in [each["call"] for each in unasked["also"]]
    refused = api.post(f"{JOBS}?alternatives=true", json=body)
    problem = refused.get_json()
    assert (refused.status_code, problem["code"]) == (402, "budget_exceeded")
    assert problem["needed_gpu_seconds"] > problem["available_gpu_seconds"] == 2.0
    assert problem["alternatives"], "something shorter fits two seconds"
    assert problem["next"]
    smaller = problem["alternatives"][0]["request"] | {"session_id": "small"}
    assert api.post(JOBS, json=smaller).status_code == 202
    assert len(jobs.listing(web_farm, None).items) == 1


def test_what_would_fit_is_the_whole_request(api: FlaskClient, web_farm: Farm) -> None:
    """Scenes, what to leave out and who pays are in it; of files it says that they come again."""
    sessions.create(web_farm, account_id=account_id(web_farm), name="small", budget_gpu_ms=2_000)
    scenes = [{"prompt": "a dog", "seconds": 4}, {"prompt": "a cat", "negative_prompt": "rain"}]
    body = {"prompt": "a story", "storyboard": scenes, "session_id": "small", "seconds": 9}
    other = api.post("/api/v1/quotes", json=body).get_json()["alternatives"][0]
    assert other["request"]["storyboard"] == scenes
    assert other["files"] == []
    job = api.post(JOBS, json=other["request"]).get_json()
    assert [shot["prompt"] for shot in job["shots"]] == ["a dog, a story", "a cat, a story"]
    assert job["session_id"] == sessions.find(web_farm, account_id(web_farm), "small").id
    with_painter(web_farm)
    sessions.create(web_farm, account_id=account_id(web_farm), name="tiny", budget_gpu_ms=2_000)
    form = {"prompt": "a cat", "model": "painter", "seconds": "9", "session_id": "tiny"}
    sent = {**form, "image": (io.BytesIO(PNG), "me.png")}
    refused = api.post(f"{JOBS}?alternatives=true", data=sent).get_json()
    assert refused["alternatives"][0]["files"] == ["image"]
    smaller = {name: str(value) for name, value in refused["alternatives"][0]["request"].items()}
    taken = api.post(JOBS, data={**smaller, "image": (io.BytesIO(PNG), "me.png")})
    assert taken.status_code == 202, taken.get_json()


def test_a_quote_writes_nothing(api: FlaskClient, web_farm: Farm) -> None:
    """A quote has the figures of the job it would be, and leaves no trace."""
    quote = api.post("/api/v1/quotes", json={"prompt": "a rocket rises", "seconds": 2}).get_json()
    assert quote["fits"] is True
    assert [line["stage"] for line in quote["stages"]] == ["parse", "render", "encode"]
    assert jobs.listing(web_farm, None).items == ()
    job = submit(api, seconds=2)
    assert job["quote"]["gpu_seconds_p90"] == quote["gpu_seconds_p90"]


@pytest.mark.parametrize(
    "body",
    [
        {"prompt": ""},
        {"prompt": "a\x00b"},
        {"prompt": "a cat", "seconds": 0},
        {"prompt": "a cat", "seconds": 1e9},
        {"prompt": "a cat", "size": "wide"},
        {"prompt": "a cat", "size": "0x0"},
        {"prompt": "a cat", "steps": -1},
        {"prompt": "a cat", "model": "../../etc/passwd"},
        {"prompt": "a cat", "max_gpu_seconds": 1.2345},
        {"prompt": "a cat", "max_gpu_seconds": "NaN"},
        {"prompt": "a cat", "colour": "red"},
        {"prompt": ["a", "cat"]},
        ["a cat"],
        "a cat",
        None,
    ],
)
def test_bad_input_is_a_422_that_changes_nothing(
    api: FlaskClient, web_farm: Farm, body: object
) -> None:
    """A body that cannot be understood gets a problem with a next step, and no job."""
    answer = api.post(JOBS, json=body)
    problem = answer.get_json()
    assert answer.status_code == 422, problem
    assert answer.mimetype == "application/problem+json"
    assert problem["detail"]
    assert problem["next"]
    assert "passwd" not in answer.text.replace("'../../etc/passwd'", "")
    assert jobs.listing(web_farm, None).items == ()


def test_a_broken_body_is_a_422(api: FlaskClient) -> None:
    """JSON that is none is said to be none."""
    answer = api.post(JOBS, data="{", content_type="application/json")
    assert (answer.status_code, answer.get_json()["detail"]) == (422, "The body is not JSON.")


def test_a_multipart_job_brings_its_storyboard(api: FlaskClient) -> None:
    """A form may carry a storyboard file."""
    story = "- prompt: a cat sleeps\n  seconds: 1\n- prompt: a dog runs\n  seconds: 1\n"
    answer = api.post(
        JOBS,
        data={
            "prompt": "pets",
            "fps": "8",
            "storyboard": (io.BytesIO(story.encode()), "story.yaml"),
        },
    )
    job = answer.get_json()
    assert answer.status_code == 202, job
    assert [shot["prompt"] for shot in job["shots"]] == ["a cat sleeps, pets", "a dog runs, pets"]


def test_a_multipart_job_brings_its_picture(api: FlaskClient, web_farm: Farm) -> None:
    """A model that takes a reference image says so, and its job names the kept file."""
    with_painter(web_farm)
    models = api.get("/api/v1/models").get_json()["data"]
    assert {each["id"]: each["takes_image"] for each in models} == {"fake": False, "painter": True}
    data = {"prompt": "a cat", "model": "painter", "image": (io.BytesIO(PNG), "me.png")}
    answer = api.post(JOBS, data=data)
    assert answer.status_code == 202, answer.text
    image = jobs.get(web_farm, None, answer.get_json()["id"]).brief.image
    assert (
        image == f"inputs/{sha256(pictures.clean(pictures.Upload(PNG))[1]).hexdigest()}/input.png"
    )


def test_a_model_that_takes_no_picture_says_so_at_once(api: FlaskClient, web_farm: Farm) -> None:
    """A reference image for a model without a use for it is refused before anything is held."""
    answer = api.post(JOBS, data={"prompt": "a cat", "image": (io.BytesIO(PNG), "me.png")})
    assert answer.status_code == 422
    assert "reference image" in answer.get_json()["detail"]
    assert jobs.listing(web_farm, None).items == ()


@pytest.mark.parametrize("content", [b"", b"GIF89a....", PNG[:20], b"\xff\xd8\xff\xe0\x00"])
def test_what_is_no_picture_is_refused(api: FlaskClient, content: bytes) -> None:
    """A reference image is judged by its content, whatever its name says."""
    answer = api.post(JOBS, data={"prompt": "a cat", "image": (io.BytesIO(content), "me.png")})
    assert answer.status_code == 422


def test_another_tenants_job_is_not_found(
    api: FlaskClient, other: FlaskClient, caller: Caller
) -> None:
    """Every call on another account's job is a 404; an admin key finds it."""
    job = submit(api)
    path = f"{JOBS}/{job['id']}"
    for method, url in [
        ("get", path),
        ("delete", path),
        ("post", f"{path}/pause"),
        ("post", f"{path}/resume"),
        ("post", f"{path}/cancel"),
        ("get", f"{path}/events"),
        ("get", f"{path}/video"),
        ("get", f"{path}/receipt"),
    ]:
        assert getattr(other, method)(url).status_code == 404, url
    assert other.get(JOBS).get_json()["data"] == []
    assert caller(KeyKind.ADMIN).get(path).status_code == 200


def test_pause_resume_and_cancel_answer_the_job(api: FlaskClient) -> None:
    """Intents answer the job as it then is; one that makes no sense is a 409."""
    path = f"{JOBS}/{submit(api)['id']}"
    assert api.post(f"{path}/pause").get_json()["pause_reason"] == "user"
    assert api.post(f"{path}/pause").status_code == 409
    assert api.post(f"{path}/resume").get_json()["state"] == "queued"
    assert api.post(f"{path}/cancel").get_json()["state"] == "cancelled"
    assert api.post(f"{path}/resume").status_code == 409
    assert api.delete(path).status_code == 204
    assert api.get(path).status_code == 404


def test_events_tell_the_life_of_a_job_and_resume(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """The stream ends with the job; Last-Event-ID leaves out what was heard."""
    job = submit(api)
    Hand(web_farm, clock).work_off()
    text = api.get(f"{JOBS}/{job['id']}/events").text
    kinds = [line.removeprefix("event: ") for line in text.splitlines() if line[:5] == "event"]
    assert {"state", "frame", "progress", "usage"} == set(kinds)
    assert '"state": "succeeded"' in text
    ids = [int(line[4:]) for line in text.splitlines() if line.startswith("id: ")]
    assert ids == sorted(set(ids))
    rest = api.get(f"{JOBS}/{job['id']}/events", headers={"Last-Event-ID": str(ids[-3])}).text
    assert [int(line[4:]) for line in rest.splitlines() if line.startswith("id: ")] == ids[-2:]


def test_the_receipt_is_in_seconds(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """A receipt sums its lines, and says when it is final."""
    job = submit(api)
    receipt = api.get(f"{JOBS}/{job['id']}/receipt").get_json()
    assert (receipt["final"], receipt["lines"]) == (False, [])
    Hand(web_farm, clock).work_off(gpu_ms=7)
    receipt = api.get(f"{JOBS}/{job['id']}/receipt").get_json()
    assert receipt["final"]
    total = sum(line["gpu_seconds"] for line in receipt["lines"])
    assert receipt["gpu_seconds"] == pytest.approx(total) == 0.007 * len(receipt["lines"])
    for line in receipt["lines"]:
        assert line.pop("report")["gpu_ms"] == 7, "as it was digested"
    assert "gpu_ms" not in str(receipt)


def test_jobs_are_paged_by_cursor(api: FlaskClient) -> None:
    """Pages of a list follow each other without gap or double."""
    made = [submit(api)["id"] for _ in range(3)]
    first = api.get(f"{JOBS}?limit=2").get_json()
    second = api.get(f"{JOBS}?limit=2&after={first['next_cursor']}").get_json()
    assert [job["id"] for job in first["data"] + second["data"]] == made[::-1]
    assert second["next_cursor"] is None
    assert api.get(f"{JOBS}?limit=0").status_code == 422
    assert api.get(f"{JOBS}?state=nonsense").status_code == 422


def test_a_preview_is_there_with_the_first_frames(
    app: Flask, api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """The newest batch's frames while it renders, the contact sheet once it is done."""
    job = submit(api, seconds=8)
    path = f"{JOBS}/{job['id']}/preview"
    assert api.get(path).status_code == 404
    hand = Hand(web_farm, clock)
    files = app.extensions["artifacts"]
    for _ in range(2):
        order = hand.claim()
        assert order
        for name in ("strip.jpg", "sheet.jpg"):
            key = f"units/{order.unit_id}/{order.fence}/{name}"
            body = order.unit_id.encode()
            files.put(key, [body], sha256=sha256(body).hexdigest(), max_bytes=1000)
        hand.done(order, 5)
    with api.get(path) as strip:
        assert (strip.data, strip.mimetype) == (order.unit_id.encode(), "image/jpeg")


def test_a_job_extends_another(api: FlaskClient, web_farm: Farm, clock: Clock) -> None:
    """`extends` joins new frames to a finished video: size, rate and seed are taken from there."""
    first = submit(api, seconds=2, size="128x64", seed=5)
    early = api.post(JOBS, json={"prompt": "it falls", "extends": first["id"]})
    assert early.status_code == 409
    Hand(web_farm, clock).work_off()
    quote = api.post("/api/v1/quotes", json={"prompt": "it falls", "extends": first["id"]})
    assert (quote.get_json()["width"], quote.get_json()["fps"]) == (128, first["fps"])
    longer = submit(api, extends=first["id"], seconds=1)
    assert longer["origin"] == {"job_id": first["id"], "how": "extension", "frames": 24}
    assert (longer["width"], longer["seed"], longer["frames_total"]) == (128, 5, 12)
    assert api.post(JOBS, json={"prompt": "x", "extends": "job_nobody"}).status_code == 404
    assert longer["request"]["extends"] == first["id"]


def test_an_extension_keeps_cap_negatives_and_what_to_do(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Fields that its request leaves out are as in the video before; those that it says count."""
    beside = {"negative_prompt": "cats", "max_gpu_seconds": 200, "on_exhausted": "finish"}
    first = submit(api, seconds=1, **beside)
    Hand(web_farm, clock).work_off()
    longer = submit(api, extends=first["id"], seconds=1)
    assert {name: longer["request"].get(name) for name in beside} == beside
    assert longer["usage"]["max_gpu_seconds"] == 200
    assert longer["shots"][0]["negative_prompt"] == first["shots"][0]["negative_prompt"]
    other = {"negative_prompt": "", "max_gpu_seconds": None, "on_exhausted": "pause"}
    free = submit(api, extends=first["id"], seconds=1, **other)
    assert {name: free["request"][name] for name in other} == other
    again = submit_body(api, free["request"])
    assert {name: again["request"][name] for name in other} == other
    form = {"prompt": "it falls", "extends": first["id"], "seconds": "1"}
    sent = api.post(JOBS, data=form, content_type="multipart/form-data").get_json()
    assert sent["usage"]["max_gpu_seconds"] == 200


def test_an_alternative_names_whom_to_tell(api: FlaskClient, web_farm: Farm) -> None:
    """The webhook and the borrowed picture of a request are in what would fit: quote and 402."""
    with_painter(web_farm)
    sessions.create(web_farm, account_id=account_id(web_farm), name="tiny", budget_gpu_ms=2_000)
    picture = {"prompt": "a ball", "model": "painter", "image": (io.BytesIO(PNG), "me.png")}
    first = api.post(JOBS, data=picture, content_type="multipart/form-data").get_json()
    told = {"webhook_url": "https://example.com/hook", "image_of": first["id"]}
    body = {"prompt": "a cat", "model": "painter", "seconds": 9, "session_id": "tiny", **told}
    for path, status in (("/api/v1/quotes", 200), (f"{JOBS}?alternatives=true", 402)):
        answer = api.post(path, json=body)
        assert answer.status_code == status, answer.text
        other = answer.get_json()["alternatives"][0]
        assert {name: other["request"].get(name) for name in told} == told
        assert other["files"] == []
    taken = submit_body(api, other["request"])
    assert taken["webhook_id"]
    bad = body | {"webhook_url": "http://localhost/"}
    assert api.post("/api/v1/quotes", json=bad).status_code == 422


@pytest.mark.parametrize(
    "asked",
    [
        {"prompt": "a ball rolls at 6 fps for 2 seconds, then a cat for 1 s, 64x64, seed 9"},
        {"prompt": "a ball", "seconds": 2, "fps": 6, "size": "64x64", "seed": 3, "steps": 2},
        {"prompt": "cartoon", "max_gpu_seconds": 300, "on_exhausted": "finish", "storyboard": [
            {"prompt": "a dog for 9 s", "seconds": 0.5, "negative_prompt": "cats"},
            {"prompt": "a cat, zoom in"},
        ]},
        {"storyboard": [{"prompt": "a dog", "seconds": 1}], "negative_prompt": "text"},
        {"prompt": "a ball", "interpolate": 2, "fps": 12},
        {"prompt": "a ball at 6 fps, 64x64", "seconds": 1, "written_out": True},
    ],
)  # fmt: skip
def test_a_job_is_asked_for_again_whole(api: FlaskClient, asked: dict[str, Any]) -> None:
    """The request of a job makes the same job: scenes, negatives, cap, words and options."""
    first = submit_body(api, asked)
    again = submit_body(api, first["request"])
    same = set(first) - {
        "id", "created_at", "waiting_for", "request", "webhook_secret", "notes", "usage", "quote"
    }  # fmt: skip
    assert {name: again[name] for name in same} == {name: first[name] for name in same}
    assert again["request"] == first["request"]
    assert again["usage"]["max_gpu_seconds"] == asked.get("max_gpu_seconds")
    for name, value in asked.items():
        assert first["request"][name] == value


def test_a_reference_picture_is_taken_again(api: FlaskClient, web_farm: Farm) -> None:
    """The request of a job with a picture names the job, whose picture it takes; nobody else's."""
    with_painter(web_farm)
    sent = {"prompt": "a ball", "model": "painter", "image": (io.BytesIO(PNG), "me.png")}
    first = api.post(JOBS, data=sent, content_type="multipart/form-data").get_json()
    assert first["request"]["image_of"] == first["id"], first
    again = submit_body(api, first["request"])
    assert again["request"]["image_of"] == again["id"]
    plain = submit_body(api, {"prompt": "a ball"})
    for job_id in (plain["id"], "job_nobody"):
        answer = api.post(JOBS, json={"prompt": "a ball", "image_of": job_id})
        assert answer.status_code == 404


def submit_body(api: FlaskClient, body: dict[str, Any]) -> dict[str, Any]:
    """Submit a job and return it."""
    answer = api.post(JOBS, json=body)
    assert answer.status_code == 202, answer.text
    job: dict[str, Any] = answer.get_json()
    return job
