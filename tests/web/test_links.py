"""Share links: one file, one while, no key; listed, revoked, ended, and in the audit log."""

import json
import re
from hashlib import sha256

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.farm.jobs import sharing
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.leases import reconcile
from orchestrator.model import Json, ShareLink
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, account_id, submit
from tests.web.conftest import Caller, signed_in
from tests.web.test_cli_money import Run, run
from web.api import views

__all__ = ["run"]

DATA = bytes(range(256)) * 8


@pytest.fixture
def link(app: Flask, api: FlaskClient, web_farm: Farm, clock: Clock) -> str:
    """The path of a link to a finished job's video, for a minute."""
    job = submit(web_farm)
    Hand(web_farm, clock).work_off()
    key = jobs.get(web_farm, account_id(web_farm), job.id).artifacts["video"].key
    files = app.extensions["artifacts"]
    files.put(key, [DATA], sha256=sha256(DATA).hexdigest(), max_bytes=len(DATA))
    made = api.post(f"/api/v1/jobs/{job.id}/links", json={"seconds": 60})
    assert made.status_code == 201
    return str(made.get_json()["url"]).removeprefix("http://localhost")


def test_a_link_opens_its_file_without_a_key(app: Flask, link: str) -> None:
    """Whoever has the address gets the video, and parts of it."""
    with app.test_client() as client:
        whole = client.get(link)
        assert (whole.status_code, whole.data) == (200, DATA)
        part = client.get(link, headers={"Range": "bytes=2-5"})
        assert (part.status_code, part.data) == (206, DATA[2:6])
        whole.close()
        part.close()


def test_a_link_ends(app: Flask, clock: Clock, link: str) -> None:
    """After its while it is a 410 that says so, and in the end an address that nobody knows."""
    clock.advance(60)
    answer = app.test_client().get(link)
    assert (answer.status_code, answer.get_json()["code"]) == (410, "gone")
    assert "its time is over" in answer.get_json()["detail"]
    clock.advance(31 * 86_400)
    reconcile.forget(app.extensions["farm"])
    assert app.test_client().get(link).status_code == 404


def test_a_link_ends_with_its_job(app: Flask, api: FlaskClient, link: str) -> None:
    """A deleted video is not to be had by an old address."""
    job = api.get("/api/v1/jobs").get_json()["data"][0]["id"]
    assert api.delete(f"/api/v1/jobs/{job}").status_code == 204
    answer = app.test_client().get(link)
    assert answer.status_code == 410
    assert "its video was deleted" in answer.get_json()["detail"]
    assert [each["state"] for each in listed(api)] == ["job deleted"]


def test_a_changed_link_opens_nothing(app: Flask, link: str) -> None:
    """Neither a flipped character, nor an id, nor nothing at all is taken."""
    client = app.test_client()
    for bad in (
        link[:-1] + ("A" if link[-1] != "A" else "B"),
        f"{link}.x",
        link[:-5],
        f"{link}%00",
    ):
        assert client.get(bad).status_code in (404, 422), bad
    assert client.get(f"/api/v1/shared/{'x' * 600}").status_code == 422


def listed(api: FlaskClient, path: str = "/api/v1/links") -> list[Json]:
    """Return the share links that a key sees."""
    rows: list[Json] = api.get(path).get_json()["data"]
    return rows


def test_links_are_listed_and_revoked(
    app: Flask, api: FlaskClient, other: FlaskClient, web_farm: Farm, link: str
) -> None:
    """A list says of each who made it and when it ends; revoked it is a 410, and stays so."""
    (row,) = listed(api)
    assert (row["state"], row["name"], row["ends_with_key"]) == ("open", "video", False)
    assert row["key_id"].startswith("key_")
    assert row == listed(api, f"/api/v1/jobs/{row['job_id']}/links")[0]
    assert link.rpartition("/")[2] not in json.dumps(row), "the address is shown once"
    with web_farm.store.read() as tx:
        assert link.rpartition("/")[2] not in repr(tx.find(ShareLink))
    assert listed(other) == []
    assert other.delete(f"/api/v1/links/{row['id']}").status_code == 404
    assert api.delete("/api/v1/links/lnk_none").status_code == 404
    first = api.delete(f"/api/v1/links/{row['id']}").get_json()
    assert first["state"] == "revoked"
    assert api.delete(f"/api/v1/links/{row['id']}").get_json() == first, "again is as once"
    answer = app.test_client().get(link)
    assert answer.status_code == 410
    assert "its owner revoked it" in answer.get_json()["detail"]


def audited(farm: Farm) -> list[tuple[str, object]]:
    """Return what the audit log has of links, oldest first."""
    found = audit_log.listing(farm, limit=200).items
    return [(e.verb, e.data.get("by")) for e in reversed(found) if e.verb.startswith("link.")]


def test_a_link_ends_with_its_key_where_that_was_asked(
    app: Flask, api: FlaskClient, caller: Caller, web_farm: Farm, link: str
) -> None:
    """Of two links of one key, its end takes the one along that says so; the log names it."""
    (row,) = listed(api)
    made = api.post(f"/api/v1/jobs/{row['job_id']}/links", json={"ends_with_key": True})
    assert made.get_json()["ends_with_key"] is True
    bound = made.get_json()["url"].removeprefix("http://localhost")
    app.test_client().get(bound).close()
    revoked = caller(KeyKind.ADMIN).delete(f"/api/v1/keys/{row['key_id']}").get_json()
    assert revoked["links_left_open"] == 1
    answer = app.test_client().get(bound)
    assert answer.status_code == 410
    assert "the key that made it has ended" in answer.get_json()["detail"]
    still = app.test_client().get(link)
    assert still.status_code == 200
    still.close()
    assert audited(web_farm) == [
        ("link.create", None),
        ("link.create", None),
        ("link.end", "key"),
    ]


def test_a_link_ends_no_later_than_its_key_runs_out(
    app: Flask, api: FlaskClient, caller: Caller, web_farm: Farm, clock: Clock, link: str
) -> None:
    """By the key's own time, and by the one that a rotation leaves it."""
    (row,) = listed(api)
    path = f"/api/v1/jobs/{row['job_id']}/links"
    _, token = keys.create(
        web_farm, account_id=account_id(web_farm), kind=KeyKind.USER, name="short", ttl_seconds=30
    )
    short = app.test_client()
    short.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    asked = {"ends_with_key": True, "seconds": 600}
    short_made = short.post(path, json=asked).get_json()
    assert short_made["expires_at"] == views.when(clock.now_ms + 30_000)
    made = api.post(path, json=asked).get_json()
    rotated = api.post(f"/api/v1/keys/{row['key_id']}/rotate", json={"keep_seconds": 20})
    assert rotated.status_code == 201
    bound = made["url"].removeprefix("http://localhost")
    clock.advance(19)
    app.test_client().get(bound).close()
    clock.advance(1)
    assert app.test_client().get(bound).status_code == 410


def test_one_job_has_a_bounded_number_of_open_links(api: FlaskClient, link: str) -> None:
    """One too many is refused, and there is room again after a revocation."""
    (row,) = listed(api)
    path = f"/api/v1/jobs/{row['job_id']}/links"
    for _ in range(sharing.MOST_OPEN - 1):
        assert api.post(path, json={}).status_code == 201
    assert api.post(path, json={}).status_code == 409
    api.delete(f"/api/v1/links/{row['id']}")
    assert api.post(path, json={}).status_code == 201


def test_a_page_makes_lists_and_revokes_links(app: Flask, web_farm: Farm, link: str) -> None:
    """The address is shown once, to whom it was made for, and the button ends it."""
    with web_farm.store.read() as tx:
        job = tx.find(ShareLink)[0].job_id
    browser = signed_in(web_farm)
    browser.application.extensions["artifacts"] = app.extensions["artifacts"]
    token = re.search(r'name="csrf_token"[^>]*value="([^"]+)"', browser.get(f"/jobs/{job}").text)
    assert token
    form = {"csrf_token": token[1]}
    made = browser.post(f"/jobs/{job}/links", data=form | {"hours": "24"})
    assert made.status_code == 201
    url = re.search(r"http://localhost(/api/v1/shared/[\w-]+)", made.text)
    assert url
    app.test_client().get(url[1]).close()
    page = browser.get(f"/jobs/{job}").text
    assert url[1] not in page
    revoke = re.findall(rf'action="(/jobs/{job}/links/lnk_\w+/revoke)"', page)
    assert len(revoke) == 2
    for each in revoke:
        assert browser.post(each, data=form).status_code == 303
    assert app.test_client().get(url[1]).status_code == 410
    assert browser.post(f"/jobs/{job}/links", data=form | {"hours": "9"}).status_code == 422
    ghost = browser.post(f"/jobs/{job}/links/lnk_none/revoke", data=form)
    assert ghost.status_code == 404


def test_the_command_line_shares_lists_and_unshares(
    app: Flask, api: FlaskClient, run: Run, link: str
) -> None:
    """The address alone is on stdout; what is left out, too long or unknown is refused."""
    job = listed(api)[0]["job_id"]
    code, address, said = run("jobs", "share", job, "--for", "2h", "--ends-with-key")
    assert code == 0
    path = "/" + address.strip().partition("//")[2].partition("/")[2]
    app.test_client().get(path).close()
    made = listed(api)[0]
    assert made["ends_with_key"] is True
    assert made["id"] in said
    assert f"or with key {made['key_id']}" in said
    assert made["id"] in run("jobs", "links")[1]
    assert made["id"] in run("jobs", "links", job)[1]
    assert run("jobs", "unshare", made["id"])[0] == 0
    assert app.test_client().get(path).status_code == 410
    assert json.loads(run("jobs", "links", "--json")[1])["data"][0]["state"] == "revoked"
    assert run("jobs", "share", job, "--for", "8d")[0] == 2
    assert run("jobs", "share", "job_none")[0] == 4
