"""Signed links: one file, one while, no key."""

from hashlib import sha256
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs
from orchestrator.settings import Settings
from tests.factories import Clock, Hand, account_id, submit
from web.app import create_app

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
    """After its while it is a 404."""
    clock.advance(60)
    assert app.test_client().get(link).status_code == 404


def test_a_link_ends_with_its_job(app: Flask, api: FlaskClient, link: str) -> None:
    """A deleted video is not to be had by an old address."""
    job = api.get("/api/v1/jobs").get_json()["data"][0]["id"]
    assert api.delete(f"/api/v1/jobs/{job}").status_code == 204
    assert app.test_client().get(link).status_code == 404


def test_a_changed_link_opens_nothing(
    app: Flask, web_farm: Farm, tmp_path: Path, link: str
) -> None:
    """Neither a flipped character nor another farm's signature is taken."""
    client = app.test_client()
    for bad in (link[:-1] + ("A" if link[-1] != "A" else "B"), link.replace(".", "x"), f"{link}.x"):
        assert client.get(bad).status_code in (404, 422), bad
    stranger = create_app(web_farm, Settings(home=tmp_path / "other"), {"TESTING": True})
    assert stranger.test_client().get(link).status_code == 404
