"""No request names a place, a class or a hub id: what it may name is listed, all else is a 4xx."""

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path
from urllib.parse import quote

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator import catalog
from orchestrator.errors import BadRequest
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys, opening
from orchestrator.states import KeyKind
from orchestrator.wire import SEGMENT
from tests.factories import Clock, Hand, account_id, submit
from tests.web.evil_words import LABELS, PLAIN
from workers.engines.recipes import pipeline_class, recipe

NAMES = [*PLAIN.values(), *LABELS.values(), "Pipeline", "DiffusionPipeline", "subprocess.Popen"]
PLACES = [
    "../../../../etc/passwd", "/etc/passwd", "inputs/../../secret_key", "units/../../farm.sqlite",
    "..", ".", "....//", "inputs/" + "0" * 64 + "/../../../secret_key", "a.pkl", "model.bin",
    "segment.mp4/../../../x", "segment.mp4.", "SEGMENT.MP4", "segment.mp4\x00", " segment.mp4",
    "file:///etc/passwd", "s3://bucket/a", "concat:a|b", "-i", "con", "*", "~", "$HOME", "%00",
]  # fmt: skip


@pytest.mark.parametrize(
    "field", ["image", "before", "origin", "path", "pipeline", "engine", "seed_"]
)
def test_a_job_has_no_field_for_a_place(field: str, api: FlaskClient, web_farm: Farm) -> None:
    """A name of a file or a class inside the farm is no field of a request."""
    for value in ("/etc/passwd", "inputs/x", "os.system", {"job_id": "x"}):
        answer = api.post("/api/v1/jobs", json={"prompt": "a cat", field: value})
        assert answer.status_code == 422, answer.text
        video = api.post("/v1/videos", json={"prompt": "a cat", field: value})
        assert video.status_code == 400, video.text
    assert jobs.listing(web_farm, None).items == ()


def test_a_model_is_one_of_the_catalogue() -> None:
    """A path, a class, a hub id or a name that looks alike is no model; pipelines are listed."""
    offered = catalog.load(catalog.bundled_models(), fake=True)
    assert set(offered.cards) == {"fake", "tiny_world"}
    for name in [
        *NAMES,
        "tiny_world/",
        "./tiny_world",
        "Tiny_World",
        "tiny_world\n",
        "ｔｉｎｙ_world",
    ]:
        with pytest.raises(BadRequest, match="There is no model"):
            offered.card(name)
        with pytest.raises(BadRequest, match="is not one of"):
            recipe(name)
        with pytest.raises(BadRequest, match="is not one of"):
            pipeline_class(name)


def test_a_worker_names_no_place(app: Flask, web_farm: Farm, clock: Clock, tmp_path: Path) -> None:
    """It brings files of seven names and reads what its leases name; nothing lands elsewhere."""
    hand = Hand(web_farm, clock)
    submit(web_farm)
    order = hand.claim()
    assert order
    _, token = keys.create(
        web_farm, account_id=None, kind=KeyKind.WORKER, name="w", worker_id=hand.id
    )
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    data = b"planted"
    asked = {"fence": str(order.fence), "sha256": sha256(data).hexdigest()}
    before = everything(tmp_path)
    for name in [*PLACES, *NAMES]:
        part = quote(name, safe="")
        path = f"/worker/v1/artifacts/{order.lease_id}/{part}"
        answer = client.put(path, data=data, query_string=asked, follow_redirects=True)
        assert 400 <= answer.status_code < 500, (name, answer.text)
        for key in (part, quote(name), f"units/{part}/1/x", f"inputs/{part}/x"):
            read = client.get(f"/worker/v1/artifacts/{key}", follow_redirects=True)
            assert 400 <= read.status_code < 500, (name, read.text)
    assert everything(tmp_path) == before
    path = f"/worker/v1/artifacts/{order.lease_id}/{SEGMENT}"
    assert client.put(path, data=data, query_string=asked).status_code == 201
    new = everything(tmp_path) - before
    place = tmp_path / "home/artifacts/units" / order.unit_id / str(order.fence)
    assert new == {str(place / SEGMENT), str(place / f"{SEGMENT}.sha256")}


def everything(folder: Path) -> set[str]:
    """Return every file below a folder but the database's own."""
    return {
        str(f) for f in folder.rglob("*") if f.is_file() and not f.name.startswith("farm.sqlite")
    }


def test_a_form_names_no_place(app: Flask, web_farm: Farm) -> None:
    """The studio's hidden fields for files that came before take keys of inputs alone."""
    browser = app.test_client()
    owner = account_id(web_farm)
    link = opening.replace_key(web_farm, account_id=owner, kind=KeyKind.SIGNIN, name="link")
    browser.get(f"/sign-in/{link}")
    csrf = browser.get("/").text.partition('name="csrf_token" value="')[2].partition('"')[0]
    for place in PLACES:
        form = {"csrf_token": csrf, "prompt": "a cat", "kept_image": place, "seconds": "1"}
        answer = browser.post("/", data=form | {"kept_storyboard": place, "request_key": place})
        assert answer.status_code == 303, (place, answer.text)
    assert {job.image for job in jobs.listing(web_farm, None, limit=200).items} == {None}


@pytest.mark.parametrize("name", ["FARM_SECRET_KEY", "FARM_JOIN_TOKEN"])
@pytest.mark.parametrize("host", ["0.0.0.0", "127.0.0.1"])
def test_no_socket_is_opened_behind_a_guessable_secret(
    name: str, host: str, tmp_path: Path
) -> None:
    """gunicorn ends before it serves, on every interface and on this machine's own alone."""
    env = dict(os.environ) | {"FARM_HOME": str(tmp_path / "h"), name: "change-me"}  # noqa: TID251 - a child's
    argv = [sys.executable, "-m", "gunicorn", "web.app:create_app()"]
    argv += ["--config", "python:web.serving", "--bind", f"{host}:0", "--preload"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert f"{name} can be guessed" in done.stderr
    assert "Listening at" not in done.stderr
    assert "change-me" not in done.stderr


def test_farm_up_opens_nothing_behind_a_guessable_secret(tmp_path: Path) -> None:
    """The command says which secret it is and how to make one, and starts no process."""
    env = dict(os.environ) | {"FARM_HOME": str(tmp_path / "h"), "FARM_SECRET_KEY": "change-me"}  # noqa: TID251 - a child's
    argv = [sys.executable, "-m", "orchestrator.cli", "up", "--host", "0.0.0.0", "--detach"]
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert "FARM_SECRET_KEY can be guessed; make one with" in done.stderr
    assert "change-me" not in done.stderr + done.stdout
    assert not (tmp_path / "h" / "run" / "farm.json").exists()
