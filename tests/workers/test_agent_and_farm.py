"""The worker and the real farm: web, SQL and ledger on one side, child and FFmpeg on the other."""

import logging
import os
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import av
import pytest
from werkzeug.serving import make_server

from orchestrator import wire
from orchestrator.catalog import FAKE, Catalog
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import keys
from orchestrator.model import Job, Lease
from orchestrator.settings import Settings
from orchestrator.states import JobState, KeyKind, LeaseState, PauseReason, UnitKind
from orchestrator.store import open_store
from orchestrator.wiring import now_ms
from tests.factories import brief, make_farm, submit
from tests.workers.fake_farm import when
from web.app import create_app
from workers import devices, entry
from workers.agent import Agent
from workers.child import Child, Setup
from workers.client import Client


@pytest.fixture
def farm(sqlite_url: str) -> Iterator[Farm]:
    """A farm on SQLite by the real clock."""
    store = open_store(sqlite_url)
    yield make_farm(store, now_ms, heartbeat_seconds=0.2, lease_seconds=10.0)  # type: ignore[arg-type]
    store.close()


@pytest.fixture
def server(farm: Farm, tmp_path: Path) -> Iterator[str]:
    """The real web application on a free port; yields its URL."""
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    app = create_app(farm, Settings(home=tmp_path / "home", min_free_disk_mb=1))
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def agent(farm: Farm, server: str, tmp_path: Path) -> Iterator[Agent]:
    """A worker that has enrolled with a join token."""
    _, token = keys.create(farm, account_id=None, kind=KeyKind.JOIN, name="join")
    config = Settings(server=server, join_token=token)  # type: ignore[arg-type]
    device = devices.discover("cpu")
    request = wire.HelloRequest(
        name="one",
        host="here",
        device=device.name,
        device_class=device.device_class,
        memory_mb=device.memory_mb,
        kinds=tuple(UnitKind),
        models=("fake",),
        polls=True,
        fingerprint=device.fingerprint(1),
        versions=device.versions,
    )
    home = tmp_path / "worker"
    home.mkdir()
    key, terms = entry.enrol(config, home, request)
    client = Client(server, key)
    child = Child(Setup(device=device, threads=1, catalog=Catalog({FAKE.id: FAKE})))
    with Agent(client, child, home, terms, grace_seconds=1) as agent:
        yield agent
    client.close()


@pytest.mark.slow(8)
def test_a_prompt_becomes_a_video_and_an_exact_bill(
    farm: Farm, agent: Agent, tmp_path: Path
) -> None:
    """Planned, rendered, joined and settled through HTTP; every invariant holds afterwards."""
    job = submit(farm, brief("a dog runs; then it sleeps", seconds=4.0))
    units = agent.run()
    job = jobs.get(farm, job.account_id, job.id)
    assert job.state is JobState.SUCCEEDED, job
    assert units >= 3
    assert check.violations(farm) == []
    video = tmp_path / "home" / "artifacts" / job.artifacts["video"].key
    with av.open(str(video)) as container:
        stream = container.streams.video[0]
        assert sum(1 for _ in container.decode(stream)) == job.frames_total
        assert stream.codec_context.name == "h264"
        assert container.metadata["title"] == "a dog runs; then it sleeps"


@pytest.mark.slow(8)
def test_half_of_the_frames_are_painted_and_the_video_has_all(
    farm: Farm, agent: Agent, tmp_path: Path
) -> None:
    """Two shots at 12 frames a second, six of them painted: masters in, a whole video out."""
    asked = brief("a dog runs; then it sleeps", seconds=4.0, interpolate=2)
    job = submit(farm, asked)
    agent.run()
    job = jobs.get(farm, job.account_id, job.id)
    assert job.state is JobState.SUCCEEDED, job
    assert (job.frames_total, job.frames_done, job.fps, job.seconds) == (24, 24, 12, 4.0)
    assert check.violations(farm) == []
    video = tmp_path / "home" / "artifacts" / job.artifacts["video"].key
    with av.open(str(video)) as container:
        times = [float(frame.pts * frame.time_base) for frame in container.decode(video=0)]  # type: ignore[operator]
    assert times == [pytest.approx(number / 12, abs=1e-3) for number in range(48)]


@pytest.mark.slow(14)
def test_a_killed_engine_and_a_pause_leave_no_trace_in_the_files(farm: Farm, agent: Agent) -> None:
    """Undisturbed, with the engine killed as it paints, and paused and resumed: equal digests."""

    def kill(job: Job) -> None:
        assert agent.child.pid
        os.kill(agent.child.pid, signal.SIGKILL)

    def pause(job: Job) -> None:
        jobs.pause(farm, job.account_id, job.id)

    found = []
    for disturb in (None, kill, pause):
        job = submit(farm, brief("a dog runs", seconds=3.0, seed=5))
        if disturb:
            watch = when(lambda: _painting(farm, job), lambda: disturb(job))  # noqa: B023 - joined
            agent.run()
            watch.join()
            if jobs.get(farm, job.account_id, job.id).state is JobState.PAUSED:
                jobs.resume(farm, job.account_id, job.id)
        agent.run()
        job = jobs.get(farm, job.account_id, job.id)
        assert job.state is JobState.SUCCEEDED, job
        found.append({name: file.sha256 for name, file in job.artifacts.items()})
    assert found[0] == found[1] == found[2]
    assert found[0].keys() == {"video", "poster", "sheet"}
    assert check.violations(farm) == []


def _painting(farm: Farm, job: Job) -> bool:
    """Tell whether a worker has painted some of the frames of the unit in its hands."""
    with farm.store.read() as tx:
        return any(x.frames_done for x in tx.find(Lease, job_id=job.id, state=LeaseState.OPEN))


def test_a_cancelled_job_stops_its_worker_at_the_next_step(farm: Farm, agent: Agent) -> None:
    """Frames rendered until then are charged, the rest of the hold comes back."""
    job = submit(farm, brief("a dog runs", seconds=8.0, steps=40))
    timer = threading.Timer(4, lambda: jobs.cancel(farm, job.account_id, job.id))
    timer.start()
    agent.run()
    timer.join()
    job = jobs.get(farm, job.account_id, job.id)
    assert job.state is JobState.CANCELLED
    assert check.violations(farm) == []


def test_leaving_gives_the_unit_to_whoever_comes_next(farm: Farm, agent: Agent) -> None:
    """A unit handed back is ready again at once, and costs nothing."""
    job = submit(farm, brief("a dog runs", seconds=8.0, steps=40))
    timer = threading.Timer(4, agent.leave)
    timer.start()
    agent.run()
    timer.join()
    job = jobs.get(farm, job.account_id, job.id)
    assert not job.state.is_terminal
    assert job.pause_reason is not PauseReason.BUDGET
    views = jobs.units(farm, job.account_id, job.id)
    assert {view.unit.state.value for view in views} <= {"ready", "done"}
    assert check.violations(farm) == []
