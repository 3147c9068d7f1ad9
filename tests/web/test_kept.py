"""Files and characters over both APIs, on the command line and on their page."""

import io
import json
import re
from dataclasses import replace

import pytest
import structlog
from flask import Flask
from flask.testing import FlaskClient

from orchestrator import dispatcher
from orchestrator.dispatcher import Dispatcher, celery_app
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import references
from orchestrator.model import Json, Reference
from orchestrator.money.plans import Plans
from orchestrator.settings import Settings
from tests.factories import Clock, account_id, with_painter
from tests.web import evil
from tests.web.conftest import signed_in
from tests.web.test_cli_money import Run, run
from web.artifacts import Artifacts

__all__ = ["run"]

PNG = evil.picture()


def keep(api: FlaskClient, name: str = "a.png", **form: str) -> Json:
    """Keep a file, as OpenAI's client does."""
    sent = api.post(
        "/v1/files", data={"file": (io.BytesIO(PNG), name), "purpose": "vision", **form}
    )
    assert sent.status_code == 200, sent.text
    told: Json = sent.get_json()
    return told


def character(api: FlaskClient, name: str = "Ada") -> Json:
    """Keep a character, as OpenAI's client does."""
    sent = api.post(
        "/v1/videos/characters", data={"video": (io.BytesIO(PNG), "a.png"), "name": name}
    )
    assert sent.status_code == 200, sent.text
    told: Json = sent.get_json()
    return told


def files_of(app: Flask) -> Artifacts:
    """Return the files of the application."""
    found: Artifacts = app.extensions["artifacts"]
    return found


def image_of(farm: Farm, reference_id: str) -> str:
    """Return the key of a kept picture."""
    with farm.store.read() as tx:
        row = tx.get(Reference, reference_id)
    assert row
    return row.image


@pytest.mark.parametrize("kind", ["file", "character"])
def test_what_is_kept_is_listed_shown_fetched_and_deleted(
    app: Flask, api: FlaskClient, other: FlaskClient, web_farm: Farm, kind: str
) -> None:
    """By its owner; for another account it is not there. Deleted twice it is a 404."""
    kept = keep(api) if kind == "file" else character(api)
    path = f"/api/v1/{kind}s"
    (row,) = api.get(path).get_json()["data"]
    assert row == api.get(f"{path}/{kept['id']}").get_json()
    assert (row["id"], row["object"], row["expires_at"]) == (kept["id"], kind, None)
    picture = api.get(f"{path}/{kept['id']}/content")
    assert (picture.status_code, picture.mimetype) == (200, "image/png")
    assert len(picture.data) == row["bytes"]
    assert other.get(path).get_json()["data"] == []
    for call in ("", "/content"):
        assert other.get(f"{path}/{kept['id']}{call}").status_code == 404
        assert api.get(f"{path}/nobody{call}").status_code == 404
    assert other.delete(f"{path}/{kept['id']}").status_code == 404
    image = image_of(web_farm, kept["id"])
    assert files_of(app).exists(image)
    picture.close()
    assert api.delete(f"{path}/{kept['id']}").status_code == 204
    assert api.delete(f"{path}/{kept['id']}").status_code == 404
    assert not files_of(app).exists(image)
    assert api.get(path).get_json()["data"] == []


def test_a_long_list_goes_on(api: FlaskClient) -> None:
    """Parts of both lists, newest first, follow each other without a gap."""
    made = [keep(api, f"{n}.png")["id"] for n in range(3)][::-1]
    first = api.get("/api/v1/files?limit=2").get_json()
    rest = api.get(f"/api/v1/files?limit=2&after={first['next_cursor']}").get_json()
    assert [row["id"] for row in first["data"] + rest["data"]] == made
    theirs = api.get("/v1/files?limit=2").get_json()
    assert ([row["id"] for row in theirs["data"]], theirs["has_more"]) == (made[:2], True)
    assert api.get("/v1/files?order=asc").get_json()["data"][0]["id"] == made[-1]
    assert api.get("/v1/files?limit=0").status_code == 400


def test_openais_clients_fetch_delete_and_let_expire(
    app: Flask, api: FlaskClient, other: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """Their verbs for files, and `expires_after`, which is bounded as theirs is."""
    after = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    kept = keep(api, **after)
    assert kept["expires_at"] == kept["created_at"] + 3600
    content = api.get(f"/v1/files/{kept['id']}/content")
    assert len(content.data) == kept["bytes"]
    content.close()
    assert other.get(f"/v1/files/{kept['id']}/content").status_code == 404
    assert other.delete(f"/v1/files/{kept['id']}").status_code == 404
    gone = {"id": kept["id"], "object": "file", "deleted": True}
    assert api.delete(f"/v1/files/{kept['id']}").get_json() == gone
    assert api.delete(f"/v1/files/{kept['id']}").status_code == 404
    for seconds, anchor in (("1", "created_at"), ("x", "created_at"), ("3600", "last_active_at")):
        bad = {"expires_after[anchor]": anchor, "expires_after[seconds]": seconds}
        sent = api.post("/v1/files", data={"file": (io.BytesIO(PNG), "a.png"), **bad})
        assert sent.status_code == 400, bad
    again = keep(api, **after)
    clock.advance(3600)
    assert api.get(f"/v1/files/{again['id']}").status_code == 404


def test_a_plan_without_room_is_a_413_that_says_what_takes_it(
    app: Flask, api: FlaskClient, web_farm: Farm
) -> None:
    """Both dialects say how much is used and what helps; the account shows it; no file is left."""
    size = keep(api)["bytes"]
    character(api)
    named = dict(web_farm.plans.plans)
    named["studio"] = replace(named["studio"], storage_bytes=2 * size)
    app.extensions["farm"] = replace(web_farm, plans=Plans(named))
    other_png = evil.picture(size=(9, 9))
    refused = api.post("/v1/files", data={"file": (io.BytesIO(other_png), "b.png")})
    assert refused.status_code == 413
    error = refused.get_json()["error"]
    assert "1 file (" in error["message"]
    assert "1 character (" in error["message"]
    account = api.get("/api/v1/account").get_json()
    assert account["storage"] == {
        "limit_bytes": 2 * size,
        "used_bytes": 2 * size,
        "files": {"count": 1, "bytes": size},
        "characters": {"count": 1, "bytes": size},
    }
    from web.media import pictures

    ending, cleaned = pictures.clean(pictures.Upload(other_png))
    files = files_of(app)
    key = files.keep_input(ending, cleaned)
    files.remove(key)
    assert api.post("/v1/files", data={"file": (io.BytesIO(other_png), "b.png")}).status_code == 413
    assert not files.exists(key)


def test_a_job_again_names_the_picture_that_is_gone(
    app: Flask, api: FlaskClient, web_farm: Farm
) -> None:
    """A file that an open job needs is a 409; then `image_of`, a remix and the form name it."""
    with_painter(web_farm)
    kept = keep(api, "my cat.png")
    asked = {"model": "painter", "prompt": "a cat", "input_reference[file_id]": kept["id"]}
    job = api.post("/v1/videos", data=asked).get_json()["id"]
    for path in ("/api/v1/files", "/v1/files"):
        needed = api.delete(f"{path}/{kept['id']}")
        assert needed.status_code == 409
        assert job in needed.text
    jobs.cancel(web_farm, None, job)
    api.delete(f"/api/v1/files/{kept['id']}")
    for path in ("/api/v1/jobs", "/api/v1/quotes"):
        again = api.post(path, json={"model": "painter", "prompt": "a cat", "image_of": job})
        assert again.status_code == 404
        assert "'my cat.png'" in again.get_json()["detail"]
    assert api.post("/v1/videos", data=asked).status_code == 404
    browser = signed_in(web_farm)
    page = browser.get(f"/?like={job}")
    assert "my cat.png" in page.text


def test_the_dispatcher_removes_what_expired_and_logs_it(
    app: Flask, api: FlaskClient, web_farm: Farm, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its picture, from the same place that web keeps it in."""
    after = {"expires_after[anchor]": "created_at", "expires_after[seconds]": "3600"}
    kept, stays = keep(api, "old.png", **after), character(api)
    character_image = image_of(web_farm, stays["id"])
    image = image_of(web_farm, kept["id"])
    assert image == character_image
    api.delete(f"/api/v1/characters/{stays['id']}")
    clock.advance(3600)
    config: Settings = app.extensions["settings"]
    monkeypatch.setattr(dispatcher, "log", structlog.get_logger("dispatcher"))  # none kept before
    with structlog.testing.capture_logs() as lines:
        Dispatcher(web_farm, celery_app("memory://"), config).tick()
    assert [line["id"] for line in lines if line["event"] == "expired, deleted"] == [kept["id"]]
    assert not files_of(app).exists(image)
    assert references.expire(web_farm, files_of(app).remove) == []


def test_the_page_lists_and_deletes(app: Flask, api: FlaskClient, web_farm: Farm) -> None:
    """Empty it says what comes next; then each picture has a button; what a job needs stays."""
    with_painter(web_farm)
    browser = signed_in(web_farm)
    browser.application.extensions["artifacts"] = files_of(app)
    empty = browser.get("/pictures").text
    assert "No files yet" in empty
    assert "No characters yet" in empty
    kept, ada = keep(api, "<b>cat</b>.png"), character(api)
    page = browser.get("/pictures").text
    assert "<b>cat</b>" not in page
    assert "&lt;b&gt;cat&lt;/b&gt;" in page
    for place in (f"files/{kept['id']}", f"characters/{ada['id']}"):
        shown = browser.get(f"/pictures/{place}")
        assert shown.status_code == 200
        shown.close()
    csrf = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', page)
    assert csrf
    form = {"csrf_token": csrf[1]}
    assert browser.post(f"/pictures/characters/{ada['id']}/delete", data=form).status_code == 303
    asked = {"model": "painter", "prompt": "a cat", "input_reference[file_id]": kept["id"]}
    job = api.post("/v1/videos", data=asked).get_json()["id"]
    needed = browser.post(f"/pictures/files/{kept['id']}/delete", data=form)
    assert needed.status_code == 409
    assert job in needed.text
    jobs.cancel(web_farm, account_id(web_farm), job)
    for status in (303, 404):
        again = browser.post(f"/pictures/files/{kept['id']}/delete", data=form)
        assert again.status_code == status
    assert browser.get(f"/pictures/files/{kept['id']}").status_code == 404


def test_the_command_line_lists_shows_and_deletes(run: Run, tmp_path: object) -> None:
    """Empty lists say what comes next, unknown ids exit with 4; the account has its room."""
    for noun in ("files", "characters"):
        assert json.loads(run(noun, "ls", "--json")[1]) == {"data": []}
        assert f"No {noun}" in "".join(str(part) for part in run(noun, "ls"))
        for verb in ("show", "get", "rm"):
            assert run(noun, verb, "nobody")[0] == 4
    assert "of 20000 MB: 0 files, 0 characters" in run("account", "show")[1]
