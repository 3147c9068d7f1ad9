"""The operator's policy: asked before anything is written, and before anything is published."""

import io
import json
from collections.abc import Callable, Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from orchestrator.errors import FarmError
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import keys
from orchestrator.farm.jobs import policy
from orchestrator.receipt import Artifact, Receipt
from orchestrator.settings import Settings
from orchestrator.states import KeyKind, Outcome, UnitKind
from orchestrator.store import open_store
from orchestrator.wire import STRIP, CompleteRequest, EncodeWork, Order
from tests import judges, videos
from tests.factories import Clock, Hand, account_id, make_farm, with_painter
from tests.receiver import Received, Receiver, receiving
from web.app import create_app

JOBS = "/api/v1/jobs"
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010802000000907753de"
    "0000000c49444154789c63606060000000040001f61738550000000049454e44ae426082"
)
House = Callable[..., "Studio"]


class Studio:
    """A farm with policies behind its application, a user's client and a worker's."""

    def __init__(self, farm: Farm, clock: Clock, app: Flask) -> None:
        self.farm, self.app = farm, app
        self.hand = Hand(farm, clock)
        self.api = self._client(KeyKind.USER)
        self.worker = self._client(KeyKind.WORKER)

    def _client(self, kind: KeyKind) -> FlaskClient:
        worker_id = self.hand.id if kind is KeyKind.WORKER else None
        _, token = keys.create(
            self.farm,
            account_id=account_id(self.farm),
            kind=kind,
            name="t",
            worker_id=worker_id,
        )
        client = self.app.test_client()
        client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
        return client

    def submit(self, prompt: str = "a rocket rises") -> Any:
        """Submit a job and return the answer's JSON."""
        return self.api.post(JOBS, json={"prompt": prompt}).get_json()

    def render(self) -> Order:
        """Do all of a job but its encoding; return that order."""
        while True:
            order = self.hand.claim()
            assert order
            if order.work.kind is UnitKind.ENCODE:
                return order
            if order.work.kind is UnitKind.RENDER:
                self._put(order, STRIP, b"strip")
            self.hand.done(order)

    def finish(self, order: Order) -> int:
        """Bring a video as a worker does, over HTTP; return the status."""
        assert isinstance(order.work, EncodeWork)
        self.hand.clock.advance(1)
        files = tuple(
            self._put(order, name, data) for name, data in videos.files(order.work).items()
        )
        report = CompleteRequest(
            lease_id=order.lease_id,
            fence=order.fence,
            outcome=Outcome.DONE,
            receipt=Receipt(gpu_ms=100, by_stage={"encode": 100}, artifacts=files),
        )
        return self.worker.post(
            "/worker/v1/complete", json=report.model_dump(mode="json")
        ).status_code

    def _put(self, order: Order, name: str, data: bytes) -> Artifact:
        digest = sha256(data).hexdigest()
        key = f"units/{order.unit_id}/{order.fence}/{name}"
        self.app.extensions["artifacts"].put(key, [data], sha256=digest, max_bytes=10**7)
        return Artifact(name=name, sha256=digest, bytes=len(data))


@pytest.fixture
def web_farm(sqlite_url: str, clock: Clock, tmp_path: Path) -> Iterator[House]:
    """Make a farm with policies."""
    store = open_store(sqlite_url)
    judges.ASKED.clear()

    def make(**settings: Any) -> Studio:
        facts = {"policy_seconds": 0.3, "min_free_disk_mb": 1, **settings}
        config = Settings(home=tmp_path / "home", **facts)
        farm = make_farm(
            store,
            clock,
            judges_prompts=config.judges_prompts,
            judges_frames=config.judges_frames,
        )
        return Studio(farm, clock, create_app(farm, config, {"TESTING": True}))

    yield make
    store.close()


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A policy's own server."""
    with receiving() as server:
        yield server


def answers(receiver: Receiver, status: int, body: str) -> None:
    """Let a policy's server answer so."""

    def says(_: Received, handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body.encode())

    receiver.says = says


def test_a_refused_prompt_is_no_job(web_farm: House) -> None:
    """The refusal says why, and nothing is written, held or charged."""
    studio = web_farm(policy_prompt="tests.judges:no_cats")
    refused = studio.api.post(JOBS, json={"prompt": "a cat on a mat"})
    problem = refused.get_json()
    assert (refused.status_code, problem["code"]) == (422, "policy_refused")
    assert "no cats" in problem["detail"]
    assert jobs.listing(studio.farm, None).items == ()
    assert check.violations(studio.farm) == []
    job = studio.submit("a dog")
    assert job["rulings"]["prompt"] == {
        "allowed": True,
        "reason": "no cats",
        "judged": True,
        "at": job["created_at"],
    }


def test_the_policy_sees_what_was_asked(web_farm: House) -> None:
    """Prompt, scenes, model, account and the picture itself, but no path of the farm."""
    studio = web_farm(policy_prompt="tests.judges:allows")
    with_painter(studio.farm)
    body = {"prompt": "a dog", "model": "painter", "image": (io.BytesIO(PNG), "x.png")}
    assert studio.api.post(JOBS, data=body).status_code == 202
    (question,) = judges.ASKED
    assert (question["stage"], question["prompt"]) == ("prompt", "a dog")
    assert question["account_id"] == account_id(studio.farm)
    (picture,) = question["images"]
    assert picture["content_type"] == "image/png"
    assert "inputs/" not in json.dumps(question)


def test_a_picture_that_no_model_takes_is_refused_as_that(web_farm: House) -> None:
    """It is not kept, so the policy is not shown it, and the refusal speaks of the model."""
    studio = web_farm(policy_prompt="tests.judges:allows")
    body = {"prompt": "a dog", "model": "fake", "image": (io.BytesIO(PNG), "x.png")}
    answer = studio.api.post(JOBS, data=body)
    assert (answer.status_code, answer.get_json()["code"]) == (422, "bad_request")
    assert "image" in answer.get_json()["detail"]


def test_a_quote_asks_nobody(web_farm: House) -> None:
    """Only what would be made is judged."""
    studio = web_farm(policy_prompt="tests.judges:refuses")
    assert studio.api.post("/api/v1/quotes", json={"prompt": "a cat"}).status_code == 200
    assert judges.ASKED == []


def test_the_dialect_is_judged_too(web_farm: House) -> None:
    """No way into the farm goes around the policy."""
    studio = web_farm(policy_prompt="tests.judges:no_cats")
    refused = studio.api.post("/v1/videos", json={"prompt": "a cat"})
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (400, "policy_refused")


@pytest.mark.parametrize("judge", ["breaks", "sleeps", "mumbles"])
def test_a_policy_that_cannot_be_asked_refuses_or_allows(web_farm: House, judge: str) -> None:
    """Closed, it is a 503 and no job; open, the job says that nobody judged it."""
    closed = web_farm(policy_prompt=f"tests.judges:{judge}")
    refused = closed.api.post(JOBS, json={"prompt": "a dog"})
    assert (refused.status_code, refused.get_json()["code"]) == (503, "policy_unavailable")
    assert "secret detail" not in refused.text
    assert jobs.listing(closed.farm, None).items == ()
    opened = web_farm(policy_prompt=f"tests.judges:{judge}", policy_fail_closed=False)
    assert opened.submit("a dog")["rulings"]["prompt"]["judged"] is False


def test_a_policy_may_be_a_url(web_farm: House, receiver: Receiver) -> None:
    """It is posted the question; anything but a 200 with a yes or no is an error."""
    studio = web_farm(policy_prompt=f"{receiver.url}/judge", policy_seconds=5)
    answers(receiver, 200, '{"allow": false, "reason": "not today"}')
    assert "not today" in studio.submit("a dog")["detail"]
    assert json.loads(receiver.got[0].body)["prompt"] == "a dog"
    answers(receiver, 200, '{"allow": true}')
    assert studio.submit("a dog")["state"] == "queued"
    for status, body in ((500, "{}"), (302, '{"allow": true}'), (200, "yes"), (200, "{}")):
        answers(receiver, status, body)
        assert studio.submit("a dog")["code"] == "policy_unavailable", (status, body)


@pytest.mark.parametrize("where", ["tests.judges:nobody", "no.such.module:f", "tests.judges:ASKED"])
def test_a_policy_that_is_none_stops_the_start(web_farm: House, where: str) -> None:
    """A misspelt policy is found at the start, not at the first job."""
    with pytest.raises(FarmError, match="policy"):
        web_farm(policy_prompt=where)


def test_allowed_frames_are_published(web_farm: House) -> None:
    """The policy sees poster and contact sheet, and its ruling stays with the job."""
    studio = web_farm(policy_frames="tests.judges:allows")
    job = studio.submit()
    assert studio.finish(studio.render()) == 200
    ended = studio.api.get(f"{JOBS}/{job['id']}").get_json()
    assert (ended["state"], ended["rulings"]["frames"]["allowed"]) == ("succeeded", True)
    (question,) = judges.ASKED
    assert (question["stage"], question["job_id"]) == ("frames", job["id"])
    assert [p["name"] for p in question["images"]] == ["poster", "sheet"]
    with studio.api.get(f"{JOBS}/{job['id']}/poster") as poster:
        assert poster.status_code == 200


def test_refused_frames_are_never_shown_and_are_paid_for(web_farm: House) -> None:
    """The job fails with a code, its devices' time is charged, and no picture of it is served."""
    studio = web_farm(policy_frames="tests.judges:refuses")
    job = studio.submit()
    path = f"{JOBS}/{job['id']}"
    order = studio.render()
    for name in ("preview", "frames.zip"):
        assert studio.api.get(f"{path}/{name}").status_code == 404, name
    assert studio.finish(order) == 200
    ended = studio.api.get(path).get_json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "policy_refused")
    assert ended["rulings"]["frames"]["allowed"] is False
    assert ended["usage"]["gpu_seconds"] > 0
    assert ended["usage"]["held_gpu_seconds"] == 0
    for name in ("video", "poster", "sheet", "preview", "frames.zip"):
        assert studio.api.get(f"{path}/{name}").status_code == 404, name
    assert check.violations(studio.farm) == []
    assert studio.finish(order) == 200
    assert len(judges.ASKED) == 1


def test_without_a_policy_frames_are_seen_as_they_come(web_farm: House) -> None:
    """Nothing is withheld where nobody judges."""
    studio = web_farm()
    job = studio.submit()
    studio.render()
    with studio.api.get(f"{JOBS}/{job['id']}/preview") as preview:
        assert preview.status_code == 200


def test_a_policy_that_comes_back_in_time_is_asked_again(web_farm: House) -> None:
    """A worker is told to complete again while the policy is away; the video is not lost."""
    studio = web_farm(policy_frames="tests.judges:recovers")
    job = studio.submit()
    order = studio.render()
    assert [studio.finish(order) for _ in range(3)] == [503, 503, 200]
    ended = studio.api.get(f"{JOBS}/{job['id']}").get_json()
    assert (ended["state"], ended["rulings"]["frames"]["judged"]) == ("succeeded", True)


def test_frames_that_nobody_could_judge_are_withheld(web_farm: House) -> None:
    """After so many tries the job fails under a code of its own."""
    studio = web_farm(policy_frames="tests.judges:breaks")
    job = studio.submit()
    order = studio.render()
    assert [studio.finish(order) for _ in range(policy.TRIES)] == [503] * 7 + [200]
    ended = studio.api.get(f"{JOBS}/{job['id']}").get_json()
    assert (ended["state"], ended["error"]["code"]) == ("failed", "policy_unavailable")
    assert ended["rulings"]["frames"]["judged"] is False


def test_open_frames_that_nobody_could_judge_are_published(web_farm: House) -> None:
    """Frames pass if the operator chose so, and the job says that nobody judged them."""
    studio = web_farm(policy_frames="tests.judges:breaks", policy_fail_closed=False)
    job = studio.submit()
    assert studio.finish(studio.render()) == 200
    ended = studio.api.get(f"{JOBS}/{job['id']}").get_json()
    assert (ended["state"], ended["rulings"]["frames"]["judged"]) == ("succeeded", False)


def test_what_was_published_before_there_was_a_judge_stays(web_farm: House) -> None:
    """A new policy hides the frames of running jobs, not those of videos that are out."""
    before = web_farm()
    done = before.submit()
    assert before.finish(before.render()) == 200
    running = before.submit()
    before.render()
    after = web_farm(policy_frames="tests.judges:allows")
    frames = {job["id"]: jobs.units(after.farm, None, job["id"]) for job in (done, running)}
    assert any(view.lease for view in frames[done["id"]])
    assert not any(view.lease for view in frames[running["id"]])
