"""Labels, filters, chosen events and expiry at the rim: both dialects, the pages, the CLI."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.jobs import expiry
from orchestrator.stored_files import StoredFiles
from tests.factories import START_MS, Clock, Hand
from tests.web.conftest import signed_in
from tests.web.test_cli_money import Run, run

__all__ = ["run"]

JOBS = "/api/v1/jobs"
URL = "https://hooks.example.com/farm"
LABELS = {"tags": ["draft", "red"], "metadata": {"shop": "north", "gpu_ms": "7", "report": "r"}}


def submit(api: FlaskClient, **body: Any) -> dict[str, Any]:
    """Submit a job that must be accepted."""
    answer = api.post(JOBS, json={"prompt": "a rocket rises", "seconds": 1, **body})
    assert answer.status_code == 202, answer.text
    return dict(answer.get_json())


def ids(api: FlaskClient, **query: Any) -> list[str]:
    """Return the ids of the jobs that are listed."""
    answer = api.get(JOBS, query_string=query)
    assert answer.status_code == 200, answer.text
    return [job["id"] for job in answer.get_json()["data"]]


def test_labels_are_shown_wherever_the_job_is(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Job, list, request, receipt and its CSV, and the other dialect; names of keys stay theirs."""
    job = submit(api, **LABELS)
    Hand(web_farm, clock).work_off(gpu_ms=5)
    shown = api.get(f"{JOBS}/{job['id']}").get_json()
    listed = api.get(JOBS).get_json()["data"][0]
    receipt = api.get(f"{JOBS}/{job['id']}/receipt").get_json()
    video = api.get(f"/v1/videos/{job['id']}").get_json()
    for each in (shown, listed, shown["request"], receipt, video):
        assert {name: each[name] for name in LABELS} == LABELS
    sheet = api.get(f"{JOBS}/{job['id']}/receipt?format=csv").text.splitlines()
    assert sheet[0].endswith(",tags,metadata")
    assert all("draft red" in line and '""shop"": ""north""' in line for line in sheet[1:])


def test_labels_decide_nothing_of_the_video(api: FlaskClient) -> None:
    """Two jobs that differ in labels alone have equal plans; one key with other labels is a 422."""
    plain, labelled = (submit(api, seed=3, **more) for more in ({}, LABELS))
    beside = ("quote", "shots", "seed", "frames_total", "notes")
    assert [plain[name] for name in beside] == [labelled[name] for name in beside]
    headers = {"Idempotency-Key": "k"}
    asked = {"prompt": "a cat", "tags": ["one"]}
    assert api.post(JOBS, json=asked, headers=headers).status_code == 202
    again = api.post(JOBS, json=asked, headers=headers).get_json()
    assert again["tags"] == ["one"]
    other = api.post(JOBS, json=asked | {"tags": ["two"]}, headers=headers)
    assert other.get_json()["code"] == "idempotency_mismatch"


def test_jobs_are_listed_by_filters(api: FlaskClient, clock: Clock) -> None:
    """Repeated filters count together; a moment is ISO 8601, with a + as it comes, or a number."""
    first = submit(api, tags=["red"], metadata={"shop": "a=b"})
    clock.advance(60)
    second = submit(api, tags=["red", "big"])
    assert ids(api, tag="red") == [second["id"], first["id"]]
    assert ids(api, tag=["red", "big"]) == [second["id"]]
    assert ids(api, metadata="shop=a=b") == [first["id"]]
    assert ids(api, state="queued", model="fake", tag="big") == [second["id"]]
    for moment in (second["created_at"], str(START_MS + 60_000), "2027-01-15T08:01:00Z"):
        assert ids(api, created_after=moment) == [second["id"]], moment
        assert first["id"] in ids(api, created_before=moment), moment
    typed = api.get(f"{JOBS}?created_after={second['created_at']}").get_json()["data"]
    assert [job["id"] for job in typed] == [second["id"]], "its + came as a blank"
    assert ids(api, created_after="2027-01-15") == [second["id"], first["id"]]
    assert ids(api, created_after="2027-01-16") == []
    page = api.get(JOBS, query_string={"tag": "red", "limit": 1}).get_json()
    assert ids(api, tag="red", limit=1, after=page["next_cursor"]) == [first["id"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("state", "done"), ("tag", "two words"), ("tag", ""), ("tag", "a" * 41), ("tag", "a,b"),
        ("metadata", "no-equals"), ("metadata", "=v"), ("metadata", "k=" + "v" * 513),
        ("created_after", "yesterday"), ("created_before", "1e12"), ("created_before", "-1"),
        ("created_after", "2027-13-01"), ("tags", "red"), ("limit", "0"), ("model", "m" * 101),
        ("created_after", "999999999999999999999"), ("created_after", "12"),
    ],
)  # fmt: skip
def test_a_bad_filter_is_a_422_that_names_it(api: FlaskClient, name: str, value: str) -> None:
    """Nothing is listed by a filter that was not understood, an unknown name of one too."""
    answer = api.get(JOBS, query_string={name: value})
    assert answer.status_code == 422
    assert answer.get_json()["detail"].startswith(name)
    assert "input_value" not in answer.text and "v" * 99 not in answer.text, (
        "what was sent is not said"
    )


@pytest.mark.parametrize(
    ("field", "body"),
    [
        ("tags", {"tags": ["x"] * 17 + [str(n) for n in range(17)]}),
        ("tags.0", {"tags": ["two words"]}),
        ("tags.1", {"tags": ["one", ""]}),
        ("tags", {"tags": "red"}),
        ("metadata", {"metadata": {str(n): "v" for n in range(17)}}),
        ("metadata", {"metadata": {"cafe\u0301": "1", "caf\u00e9": "2"}}),
        ("metadata", {"metadata": {"k" * 65: "v"}}),
        ("metadata", {"metadata": {"k": "v" * 513}}),
        ("metadata", {"metadata": {"k": 7}}),
        ("metadata", {"metadata": {"a=b": "v"}}),
        ("metadata", {"metadata": {"": "v"}}),
        ("webhook_events", {"webhook_events": ["job.succeeded"]}),
        ("webhook_events", {"webhook_url": URL, "webhook_events": ["job.exploded"]}),
        ("webhook_events", {"webhook_url": URL, "webhook_events": []}),
        ("expires_in", {"expires_in": 60}),
        ("expires_at", {"expires_at": "soon"}),
        ("expires_at", {"expires_at": "2020-01-01T00:00:00Z"}),
        ("expires_at", {"expires_in": 3600, "expires_at": "2029-01-01T00:00:00Z"}),
    ],
)
def test_a_bad_label_is_a_422_that_names_its_field(
    api: FlaskClient, web_farm: Farm, field: str, body: dict[str, Any]
) -> None:
    """Nothing is written, in either dialect, and the refusal says which field it was."""
    native = api.post(JOBS, json={"prompt": "a cat", **body})
    assert native.status_code == 422
    assert native.get_json()["detail"].startswith(field)
    assert native.get_json()["errors"][0]["field"].startswith(field)
    openai = api.post("/v1/videos", json={"prompt": "a cat", **body})
    assert openai.status_code == 400
    assert openai.get_json()["error"]["param"].startswith(field)
    assert jobs.listing(web_farm, None).items == ()


def test_labels_are_changed_by_patch(api: FlaskClient, other: FlaskClient) -> None:
    """Absent fields stay, null takes away; another account's job is not there."""
    job = submit(api, **LABELS)
    path = f"{JOBS}/{job['id']}"
    etag = api.get(path).headers["ETag"]
    after = api.patch(path, json={"metadata": {"gpu_ms": None, "by": "Ada"}}).get_json()
    assert after["tags"] == LABELS["tags"]
    assert after["metadata"] == {"shop": "north", "report": "r", "by": "Ada"}
    assert api.get(path, headers={"If-None-Match": etag}).status_code == 200
    assert api.patch(path, json={"tags": ["a", "a"]}).get_json()["tags"] == ["a"]
    assert api.patch(path, json={}).get_json()["tags"] == ["a"]
    assert api.patch(path, json={"prompt": "a dog"}).status_code == 422
    assert other.patch(path, json={"tags": []}).status_code == 404
    assert ids(api, tag="a") == [job["id"]]


def test_a_form_brings_labels_in_json_or_brackets(api: FlaskClient) -> None:
    """A form of the native API has JSON in its fields; OpenAI's client has brackets, too."""
    packed = {name: json.dumps(value) for name, value in LABELS.items()}
    native = api.post(
        JOBS, data={"prompt": "a cat", **packed}, content_type="multipart/form-data"
    ).get_json()
    brackets = {"tags[]": LABELS["tags"], "metadata[shop]": "north"}
    nested = api.post("/v1/videos", data={"prompt": "a cat", **brackets}).get_json()
    assert (native["tags"], native["metadata"]) == (LABELS["tags"], LABELS["metadata"])
    assert (nested["tags"], nested["metadata"]) == (LABELS["tags"], {"shop": "north"})
    assert api.post("/v1/videos", data={"prompt": "a cat", **packed}).get_json()["metadata"]
    bad = api.post(
        JOBS, data={"prompt": "a cat", "metadata": "{"}, content_type="multipart/form-data"
    )
    assert bad.get_json()["detail"].startswith("metadata")


def test_a_video_made_like_another_has_its_labels_and_webhook(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Remix, edit and extension carry all of it; what is asked anew comes first."""
    chosen = {"webhook_url": URL, "webhook_events": ["job.failed"], "expires_in": 7200}
    job = submit(api, **LABELS, **chosen)
    Hand(web_farm, clock).work_off(gpu_ms=5)
    video = {"id": job["id"]}
    made = [
        api.post(f"/v1/videos/{job['id']}/remix", json={"prompt": "a dog"}),
        api.post("/v1/videos/edits", json={"prompt": "at night", "video": video}),
        api.post("/v1/videos/extensions", json={"prompt": "more", "seconds": "1", "video": video}),
        api.post(f"/v1/videos/{job['id']}/remix", json={"prompt": "a cat", "tags": ["mine"]}),
    ]
    assert [answer.status_code for answer in made] == [200] * 4, made[2].text
    for answer in made:
        again = api.get(f"{JOBS}/{answer.get_json()['id']}").get_json()
        assert again["metadata"] == LABELS["metadata"]
        assert (again["webhook_id"], again["webhook_events"]) == (job["webhook_id"], ["job.failed"])
        assert again["expires_in"] == 7200
    assert [answer.get_json()["tags"] for answer in made] == [LABELS["tags"]] * 3 + [["mine"]]
    another = {"prompt": "a cat", "webhook_url": f"{URL}/other"}
    remix = api.post(f"/v1/videos/{job['id']}/remix", json=another).get_json()
    told = api.get(f"{JOBS}/{remix['id']}").get_json()
    assert told["webhook_id"] != job["webhook_id"]
    assert told["webhook_events"] == [], "all: those it had were for the other URL"
    asked = api.get(f"{JOBS}/{job['id']}").get_json()["request"]
    assert asked["expires_in"] == 7200
    assert submit(api, **{k: v for k, v in asked.items() if k != "prompt"})["tags"] == [
        "draft",
        "red",
    ]


def test_expired_files_are_a_410_and_the_rest_stays(
    app: Flask, api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Every download says what became of it and what helps; job and receipt are as they were."""
    job = submit(api, expires_in=3600)
    Hand(web_farm, clock).work_off(gpu_ms=5)
    files = app.extensions["artifacts"]
    row = jobs.get(web_farm, None, job["id"])
    for file in row.artifacts.values():
        files.put(file.key, [b"x"], sha256=sha256(b"x").hexdigest(), max_bytes=9)
    link = api.post(f"{JOBS}/{job['id']}/links", json={"seconds": 604_800}).get_json()["url"]
    before = api.get(f"{JOBS}/{job['id']}").get_json()
    assert (before["expires_at"][:16], before["expired_at"]) == ("2027-01-15T09:00", None)
    with api.get(f"{JOBS}/{job['id']}/video") as there:
        assert there.status_code == 200
    receipt = api.get(f"{JOBS}/{job['id']}/receipt").get_json()
    clock.advance(3600)
    list(expiry.remove_expired(web_farm, StoredFiles(files.root).delete))
    assert not any(files.exists(file.key) for file in row.artifacts.values())
    for name in ("video", "poster", "sheet", "preview", "frames.zip"):
        answer = api.get(f"{JOBS}/{job['id']}/{name}")
        assert answer.status_code == 410, (name, answer.text)
        assert answer.get_json()["code"] == "expired"
        assert answer.get_json()["next"]["code"] == "rerun"
    assert api.get(link.partition("localhost")[2]).status_code == 410
    late = api.post(f"{JOBS}/{job['id']}/links", json={})
    assert (late.status_code, late.get_json()["code"]) == (410, "expired")
    assert late.get_json()["next"]["code"] == "rerun"
    assert api.get(f"/v1/videos/{job['id']}/content").status_code == 410
    shown = api.get(f"{JOBS}/{job['id']}").get_json()
    assert (shown["state"], shown["artifacts"], bool(shown["expired_at"])) == (
        "succeeded",
        {},
        True,
    )
    assert api.get(f"/v1/videos/{job['id']}").get_json()["expires_at"] == row.expires_at_ms // 1000  # type: ignore[operator]
    assert api.get(f"{JOBS}/{job['id']}/receipt").get_json() == receipt
    longer = {"prompt": "more", "extends": job["id"]}
    assert api.post(JOBS, json=longer).status_code == 410
    assert api.post("/api/v1/quotes", json=longer).status_code == 410
    browser = signed_in(web_farm)
    page = browser.get(f"/jobs/{job['id']}").text
    assert "Its files were kept for a time, which is over" in page
    assert "<video" not in page
    assert browser.get(f"/jobs/{job['id']}/video").status_code == 410
    browser.application.config["WTF_CSRF_ENABLED"] = False
    assert browser.post(f"/jobs/{job['id']}/links", data={"hours": "1"}).status_code == 410
    assert len(api.get(f"{JOBS}/{job['id']}/links").get_json()["data"]) == 1, "none was made"


def test_pages_take_tags_and_list_by_them(web_farm: Farm, clock: Clock) -> None:
    """The form has tags, a variation carries all labels, and the list shows what is asked for."""
    browser = signed_in(web_farm)
    token = re.search(r'name="csrf_token" value="([^"]+)"', browser.get("/").text)
    form = {"prompt": "a rocket rises", "tags": "draft, <b> red", "csrf_token": token and token[1]}
    made = browser.post("/", data=form | {"metadata": '{"shop": "north"}'})
    assert made.status_code == 303, made.text[:2000]
    (job,) = jobs.listing(web_farm, None).items
    assert (job.tags, job.metadata) == (("draft", "<b>", "red"), {"shop": "north"})
    page = browser.get(f"/jobs/{job.id}").text
    assert "show_tag=draft" in page and "&lt;b&gt;" in page and "north" in page
    again = browser.get(f"/?like={job.id}").text
    assert 'value="draft &lt;b&gt; red"' in again
    assert "{&#34;shop&#34;: &#34;north&#34;}" in again
    assert job.id in browser.get("/videos?show_tag=draft&show_state=queued").text
    none = browser.get("/videos?show_tag=other").text
    assert job.id not in none and "No such videos" in none
    assert browser.get("/videos?show_tag=draft&show_state=failed").text.count(job.id) == 0
    for bad in ("show_state=done", "show_tag=a,b"):
        refused = browser.get(f"/videos?{bad}")
        assert (refused.status_code, bad.partition("=")[0] in refused.text) == (422, True)
    wrong = browser.post("/", data=form | {"tags": "a" * 41})
    assert wrong.status_code == 422
    assert "A tag is a visible word" in wrong.text


def test_the_lists_next_part_is_of_the_same_videos(web_farm: Farm, api: FlaskClient) -> None:
    """Older videos of a tag are behind a link that asks for that tag, too."""
    browser = signed_in(web_farm)
    red = [submit(api, tags=["red"])["id"] for _ in range(26)]
    submit(api)
    page = browser.get("/videos?show_tag=red").text
    link = re.search(r'href="([^"]*show_after=[^"]*)"', page)
    assert link and all(f'id="{job}"' in page for job in red[2:])
    older = browser.get(link[1].replace("&amp;", "&")).text
    assert [f'id="{job}"' in older for job in red[:3]] == [True, True, False]


def test_the_command_line_labels_and_finds_jobs(
    run: Run, web_farm: Farm, clock: Clock, tmp_path: Path
) -> None:
    """`jobs tag`, `jobs ls` by every filter, and a rerun that carries the labels and the events."""
    api = {"webhook_url": URL, "webhook_events": ["job.failed"]}
    code, out, _ = run("quote", "a cat", "--tag", "x", "--meta", "k=v", "--json")
    assert code == 0, out
    job = _submitted(run, web_farm, api)
    assert run("jobs", "tag", job, "draft", "red", "--meta", "shop=a=b")[0] == 0
    code, out, _ = run("jobs", "tag", job, "final", "--remove", "draft", "--json")
    assert json.loads(out)["tags"] == ["red", "final"]
    assert json.loads(out)["metadata"] == {"shop": "a=b"}
    for found, args in (
        (1, ("--tag", "red", "--tag", "final")),
        (0, ("--tag", "draft")),
        (1, ("--meta", "shop=a=b", "--model", "fake", "--state", "queued")),
        (0, ("--meta", "shop=b")),
        (1, ("--since", "2027-01-15T08:00:00Z", "--until", "2027-01-15T08:00:01Z")),
        (0, ("--until", "2027-01-15T08:00:00+00:00")),
    ):
        code, out, _ = run("jobs", "ls", *args, "--json")
        assert (code, len(json.loads(out)["data"])) == (0, found), args
    code, out, _ = run("jobs", "show", job)
    assert "red final" in out and "shop=a=b" in out
    code, out, _ = run("jobs", "rerun", job, "--json")
    again = json.loads(out)
    assert (again["tags"], again["metadata"]) == (["red", "final"], {"shop": "a=b"})
    assert again["webhook_events"] == ["job.failed"]
    assert json.loads(run("jobs", "tag", job, "--unmeta", "shop", "--json")[1])["metadata"] == {}
    for args in (("--since", "soon"), ("--tag", "a b"), ("--meta", "nothing")):
        assert run("jobs", "ls", *args)[0] == 2, args


def _submitted(run: Run, farm: Farm, body: dict[str, Any]) -> str:
    from orchestrator.model import Handling
    from tests.factories import account_id, brief

    handling = Handling(
        webhook_url=body["webhook_url"], webhook_events=tuple(body["webhook_events"])
    )
    return jobs.submit(
        farm, account_id=account_id(farm), session_id=None, brief=brief(), handling=handling
    ).job.id
