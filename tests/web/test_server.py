"""The web process as it is run: gunicorn with gevent, streams and all."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from orchestrator.farm import Idempotency, accounts, jobs, keys, opening
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from
from tests.factories import brief
from tests.web import evil

STREAMS = 30


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[str, str, str]]:
    """A real web process; yields its URL, a key and a job's id."""
    home = tmp_path / "home"
    farm = farm_from(Settings(home=home, fake_model=True))
    opening.open_home(farm)
    owner = accounts.first(farm).id
    _, token = keys.create(farm, account_id=owner, kind=KeyKind.USER, name="t")
    promise = Idempotency(key="k", body_sha256="0" * 64)
    asked = brief(model="fake")
    job = jobs.submit(farm, account_id=owner, session_id=None, brief=asked, idempotency=promise).job
    farm.store.close()  # type: ignore[attr-defined]
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [sys.executable, "-m", "gunicorn", "web.app:create_app()", "-k", "gevent", "-w", "1"]
    argv += ["--bind", f"127.0.0.1:{port}", "--no-control-socket", "--graceful-timeout", "2"]
    env = dict(os.environ) | {"FARM_HOME": str(home), "FARM_FAKE_MODEL": "1"}  # noqa: TID251 - a child's
    server = subprocess.Popen(argv, env=env)
    url = f"http://127.0.0.1:{port}"
    try:
        _until(lambda: httpx.get(f"{url}/healthz").is_success)
        yield url, token, job.id
    finally:
        server.terminate()
        assert server.wait(20) == 0


@pytest.mark.slow
def test_open_streams_keep_nobody_waiting(served: tuple[str, str, str]) -> None:
    """With thirty event streams open, the farm still answers and takes jobs."""
    url, token, job_id = served
    headers = {"Authorization": f"Bearer {token}"}

    def first_event(_: int) -> str:
        path = f"{url}/api/v1/jobs/{job_id}/events"
        with httpx.stream("GET", path, headers=headers, timeout=30) as stream:
            for line in stream.iter_lines():
                if line.startswith("event:"):
                    opened.append(line)
                    while len(opened) < STREAMS + 1:  # held open until the test has looked
                        time.sleep(0.05)
                    return line
        return ""

    opened: list[str] = []
    with ThreadPoolExecutor(STREAMS) as crowd:
        streams = [crowd.submit(first_event, n) for n in range(STREAMS)]
        _until(lambda: len(opened) == STREAMS)
        health = httpx.get(f"{url}/healthz", timeout=5)
        body = {"prompt": "a cat", "model": "fake"}
        accepted = httpx.post(f"{url}/api/v1/jobs", json=body, headers=headers, timeout=5)
        opened.append("looked")
        assert [s.result(30) for s in streams] == ["event: state"] * STREAMS
    assert health.is_success
    assert accepted.status_code == 202


@pytest.mark.slow
def test_pictures_are_decoded_beside_the_server(served: tuple[str, str, str]) -> None:
    """Several uploads at once are cleaned in children of the real web process; bad ones refused."""
    url, token, _ = served

    def upload(data: bytes) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        files = {"file": ("a.png", data)}
        sent = {"purpose": "vision"}
        address = f"{url}/v1/files"
        return httpx.post(address, files=files, data=sent, headers=headers, timeout=60).status_code

    good, bad = evil.picture("JPEG", (1500, 1000)), evil.moving("WEBP")
    with ThreadPoolExecutor(6) as crowd:
        assert list(crowd.map(upload, [good, bad] * 3)) == [200, 400] * 3


def _until(ready: object, seconds: float = 60) -> None:
    assert callable(ready)
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            if ready():
                return
        except httpx.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError("it did not come about")
