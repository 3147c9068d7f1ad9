"""A worker's reports of files and frames, held over HTTP against what it brought."""

from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from orchestrator.errors import StaleLease
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import keys, sessions
from orchestrator.model import Lease
from orchestrator.states import JobState, KeyKind, LeaseState, UnitKind
from orchestrator.wire import SEGMENT, EncodeWork, Order, RenderWork
from tests import videos
from tests.factories import FILES, Clock, Hand, account_id, submit
from web.artifacts import Artifacts

BODY = b"a file of it"


class Reporter:
    """A worker that speaks HTTP, and whose reports a test can falsify."""

    def __init__(self, app: Flask, farm: Farm, clock: Clock) -> None:
        self.farm, self.clock = farm, clock
        self.hand = Hand(farm, clock)
        key = {"account_id": None, "kind": KeyKind.WORKER, "worker_id": self.hand.id}
        _, token = keys.create(farm, name="w", **key)  # type: ignore[arg-type]
        self.http: FlaskClient = app.test_client()
        self.http.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"

    def claim(self, kind: UnitKind) -> Order:
        """Do everything that comes before a unit of this kind, and return its order."""
        while True:
            order = self.hand.claim()
            assert order
            if order.work.kind is kind:
                return order
            self.clock.advance(1)
            assert self.report(order).status_code == 200

    def put(self, order: Order, name: str, body: bytes = BODY) -> TestResponse:
        """Bring a file."""
        asked = {"fence": str(order.fence), "sha256": sha256(body).hexdigest()}
        path = f"/worker/v1/artifacts/{order.lease_id}/{name}"
        return self.http.put(path, data=body, query_string=asked)

    def report(
        self, order: Order, *, brought: dict[str, bytes] | None = None, **lies: Any
    ) -> TestResponse:
        """Bring all files of a unit and report it done, with some of the receipt changed."""
        brought = brought or files_of(order)
        assert all(self.put(order, *file).status_code == 201 for file in brought.items())
        frames = len(order.work.frames) if isinstance(order.work, RenderWork) else 0
        truth = {
            "gpu_ms": 100,
            "by_stage": {"denoise": 60, "decode": 40},
            "frames_done": frames,
            "frame_sha256": [sha256(bytes([n])).hexdigest() for n in range(frames)],
            "artifacts": told(brought),
        }
        report = {
            "lease_id": order.lease_id,
            "fence": order.fence,
            "outcome": "done",
            "receipt": truth | lies,
            "render_plan": self.hand.plan(order) if order.work.kind is UnitKind.PARSE else None,
            "claim_next": False,
        }
        return self.http.post("/worker/v1/complete", json=report)


def files_of(order: Order) -> dict[str, bytes]:
    """Return the files of a unit: a real video, and of a render unit what nobody looks into."""
    work = order.work
    return (
        videos.files(work)
        if isinstance(work, EncodeWork)
        else dict.fromkeys(FILES[work.kind], BODY)
    )


def artifacts(order: Order, **lie: Any) -> list[dict[str, Any]]:
    """Return the files of a unit as a report has them, with something else said of each."""
    return [file | lie for file in told(files_of(order))]


def told(brought: dict[str, bytes]) -> list[dict[str, Any]]:
    """Return files as a report has them."""
    return [
        {"name": name, "sha256": sha256(body).hexdigest(), "bytes": len(body)}
        for name, body in brought.items()
    ]


@pytest.fixture
def worker(app: Flask, web_farm: Farm, clock: Clock) -> Reporter:
    """A worker of a farm with one job."""
    submit(web_farm)
    return Reporter(app, web_farm, clock)


def spent(farm: Farm) -> int:
    """Return what the home account's session spent."""
    return sessions.find(farm, account_id(farm), None).spent_gpu_ms


LIES = {
    "no digests of frames": (UnitKind.RENDER, {"frame_sha256": []}),
    "one digest too many": (UnitKind.RENDER, {"frame_sha256": ["ab" * 32] * 100}),
    "no digest but a word": (UnitKind.RENDER, {"frame_sha256": ["nonsense"] * 24}),
    "digests in upper case": (UnitKind.RENDER, {"frame_sha256": ["AB" * 32] * 24}),
    "another segment": (UnitKind.RENDER, {"file": {"sha256": "0" * 64}}),
    "another video": (UnitKind.ENCODE, {"file": {"sha256": "0" * 64}}),
    "another size": (UnitKind.ENCODE, {"file": {"bytes": 1}}),
    "frames of an encode unit": (
        UnitKind.ENCODE,
        {"frames_done": 1, "frame_sha256": ["ab" * 32]},
    ),
    "a stage below nothing": (UnitKind.RENDER, {"by_stage": {"denoise": 200, "decode": -100}}),
    "stages of more than there was": (UnitKind.RENDER, {"by_stage": {"denoise": 60, "decode": 43}}),
    "stages of less than there was": (UnitKind.ENCODE, {"by_stage": {"encode": 98}}),
    "no stages at all": (UnitKind.RENDER, {"by_stage": {}}),
    "energy below nothing": (UnitKind.RENDER, {"energy_mj": -1}),
    "the energy of a star": (UnitKind.RENDER, {"energy_mj": 10**30}),
}


@pytest.mark.parametrize(("kind", "lie"), LIES.values(), ids=LIES)
def test_a_report_that_is_not_what_was_brought_is_refused(
    worker: Reporter, web_farm: Farm, kind: UnitKind, lie: dict[str, Any]
) -> None:
    """422; nothing is charged, the lease stays open, and the truth is accepted under it."""
    order = worker.claim(kind)
    if file := lie.get("file"):
        lie = {"artifacts": artifacts(order, **file)}
    before = spent(web_farm)
    worker.clock.advance(1)
    refused = worker.report(order, **lie)
    assert (refused.status_code, refused.get_json()["code"]) == (422, "bad_request")
    assert spent(web_farm) == before
    with web_farm.store.read() as tx:
        lease = tx.get(Lease, order.lease_id)
    assert lease
    assert lease.state is LeaseState.OPEN
    assert worker.report(order).get_json()["settled_gpu_ms"] == 100
    assert check.violations(web_farm) == []


def test_a_video_has_the_digests_of_what_was_brought(worker: Reporter, web_farm: Farm) -> None:
    """The owner is told of the video's files what the farm stored."""
    order = worker.claim(UnitKind.ENCODE)
    worker.clock.advance(1)
    assert worker.report(order).status_code == 200
    job = jobs.get(web_farm, None, order.job_id)
    assert job.state is JobState.SUCCEEDED
    brought = {(sha256(body).hexdigest(), len(body)) for body in files_of(order).values()}
    assert {(file.sha256, file.bytes) for file in job.artifacts.values()} == brought


def test_a_file_that_comes_again_is_the_newest_one(worker: Reporter) -> None:
    """A worker may bring another file while its lease is open; the report must be of that one."""
    order = worker.claim(UnitKind.RENDER)
    worker.clock.advance(1)
    first = artifacts(order)
    worker.report(order, frame_sha256=[])
    assert worker.put(order, SEGMENT, b"another").status_code == 201
    report = {
        "lease_id": order.lease_id,
        "fence": order.fence,
        "outcome": "stopped",
        "receipt": {"gpu_ms": 1, "by_stage": {"decode": 1}, "artifacts": first},
    }
    assert worker.http.post("/worker/v1/complete", json=report).status_code == 422


def test_a_slow_upload_replaces_nothing(
    app: Flask, worker: Reporter, web_farm: Farm, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body that ends when its lease has ended is not stored over the file that was accepted."""
    order = worker.claim(UnitKind.RENDER)
    worker.clock.advance(1)
    put = Artifacts.put

    def slow(self: Artifacts, key: str, pieces: Any, **facts: Any) -> int:
        def ending() -> Any:
            """Let the lease end between the body's last byte and the end of the upload."""
            monkeypatch.undo()
            assert worker.report(order).status_code == 200
            yield from pieces

        return put(self, key, ending(), **facts)

    monkeypatch.setattr(Artifacts, "put", slow)
    late = worker.put(order, SEGMENT, b"something else")
    assert (late.status_code, late.get_json()["code"]) == (409, StaleLease.code)
    with app.extensions["artifacts"].open(_lease(web_farm, order).key(SEGMENT)) as file:
        assert file.read() == BODY


def _lease(farm: Farm, order: Order) -> Lease:
    with farm.store.read() as tx:
        lease = tx.get(Lease, order.lease_id)
    assert lease
    return lease


def test_a_deleted_jobs_files_leave_nothing(
    tmp_path: Path, api: FlaskClient, worker: Reporter
) -> None:
    """With a file goes what the farm remembered of it."""
    order = worker.claim(UnitKind.ENCODE)
    worker.clock.advance(1)
    assert worker.report(order).status_code == 200
    root = tmp_path / "home" / "artifacts" / "units"
    assert [path for path in root.rglob("*") if path.is_file()]
    assert api.delete(f"/api/v1/jobs/{order.job_id}").status_code in (200, 204)
    assert not [path for path in root.rglob("*") if path.is_file()]
