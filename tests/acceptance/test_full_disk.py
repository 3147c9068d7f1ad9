"""Full disks: a job ends with a clear error and no bill, and the farm outlives it.

A small tmpfs is the disk, so these need the right to mount one; CI has it.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from orchestrator.farm import check
from orchestrator.settings import Settings
from orchestrator.wiring import farm_from
from tests.acceptance.conftest import Cli, until

pytestmark = pytest.mark.slow(40)

Up = Callable[..., dict[str, Any]]
FILL_BYTES = 1 << 16


@dataclass
class Disk:
    """A file system of a few megabytes."""

    folder: Path

    def fill(self, *, leave_kb: int) -> None:
        """Use it up but for `leave_kb`."""
        with (self.folder / "filler").open("ab", buffering=0) as file:
            while self.free_kb() > leave_kb:
                room = min(FILL_BYTES, (self.free_kb() - leave_kb) << 10)
                file.write(bytes(room))

    def empty(self) -> None:
        """Give the room back."""
        (self.folder / "filler").unlink()

    def free_kb(self) -> int:
        """Return how much is left."""
        left = os.statvfs(self.folder)
        return left.f_bavail * left.f_frsize >> 10


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of 40 MB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=40m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        assert not os.environ.get("CI"), "CI can mount a tmpfs"  # noqa: TID251 - not a setting
        pytest.skip("mounting a tmpfs is not allowed here")
    yield Disk(folder)
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.fixture
def user(cli: Cli) -> Iterator[Callable[[], httpx.Client]]:
    """Connect to the running farm as a user."""
    open_clients: list[httpx.Client] = []

    def connect() -> httpx.Client:
        url = cli.json("status")["url"]
        key = cli.json("keys", "create", "--kind", "user", "--name", "disk")["token"]
        client = httpx.Client(
            base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        open_clients.append(client)
        return client

    yield connect
    for client in open_clients:
        client.close()


def _begin(api: httpx.Client, seconds: int = 40) -> str:
    """Submit a job and wait for its first frames."""
    body = {"prompt": "a rocket rises", "model": "fake", "seconds": seconds}
    job = str(api.post("/jobs", json=body).raise_for_status().json()["id"])
    until(lambda: _job(api, job).get("frames_done"))
    return job


def _job(api: httpx.Client, job_id: str) -> dict[str, Any]:
    answer = api.get(f"/jobs/{job_id}")
    return dict(answer.json()) if answer.is_success else {}


def _end(api: httpx.Client, job_id: str) -> dict[str, Any]:
    until(lambda: _job(api, job_id).get("state") in ("succeeded", "failed"), 120)
    return _job(api, job_id)


def _check(cli: Cli) -> None:
    farm = farm_from(Settings(home=cli.home, fake_model=True), upgrade=False)
    assert check.violations(farm) == []
    farm.store.close()  # type: ignore[attr-defined]


def _costs_nothing(api: httpx.Client, job: dict[str, Any]) -> None:
    receipt = api.get(f"/jobs/{job['id']}/receipt").json()
    assert (job["usage"]["gpu_seconds"], receipt["gpu_seconds"]) == (0, 0)
    assert receipt["refunded_gpu_seconds"] > 0, "its plan and first batches had been charged"
    assert "nothing is charged" in job["error"]["message"]
    assert job["error"]["next"]["data"] == {"job_id": job["id"]}
    session = api.get("/sessions/default").json()
    assert (session["held_gpu_seconds"], session["spent_gpu_seconds"]) == (0, 0)


def test_a_full_disk_of_the_farm_fails_the_job_free_of_charge(
    cli: Cli, farm_up: Up, disk: Disk, user: Callable[[], httpx.Client]
) -> None:
    """Segments find no room: the job fails with a sentence, new ones are refused, all lives on."""
    cli.home = disk.folder / "home"
    cli.env["FARM_MIN_FREE_DISK_MB"] = "8"
    farm_up()
    api = user()
    before = {process.pid for process in cli.alive()}
    job = _begin(api)
    disk.fill(leave_kb=900)
    failed = _end(api, job)
    assert failed["state"] == "failed", failed
    assert "disk is nearly full" in failed["error"]["message"]
    _costs_nothing(api, failed)
    refused = api.post("/jobs", json={"prompt": "a cat", "model": "fake"})
    assert (refused.status_code, refused.json()["code"]) == (507, "disk_full")
    disk.empty()
    again = _end(api, _begin(api, seconds=4))
    assert again["state"] == "succeeded", again["error"]
    assert before <= {process.pid for process in cli.alive()}, "a process died of it"
    _check(cli)


def test_a_disk_without_a_byte_left_stops_nothing_for_good(
    cli: Cli, farm_up: Up, disk: Disk, user: Callable[[], httpx.Client]
) -> None:
    """With no room even for the database the farm waits, and goes on when there is some again."""
    cli.home = disk.folder / "home"
    cli.env |= {"FARM_MIN_FREE_DISK_MB": "8", "FARM_LEASE_SECONDS": "6"}
    cli.env |= {"FARM_HEARTBEAT_SECONDS": "1", "FARM_GRACE_SECONDS": "2"}
    farm_up()
    api = user()
    job = _begin(api)
    disk.fill(leave_kb=0)
    until(lambda: api.post("/sessions", json={"name": "s", "budget_gpu_seconds": 1}).is_error)
    refused = api.post("/sessions", json={"name": "t", "budget_gpu_seconds": 1})
    if refused.is_error:  # room may come and go as scratch files do
        assert refused.json()["code"] == "unavailable", refused.text
    disk.empty()
    ended = _end(api, job)
    assert ended["state"] in ("succeeded", "failed")
    if ended["state"] == "failed":
        _costs_nothing(api, ended)
    assert _end(api, _begin(api, seconds=4))["state"] == "succeeded"
    _check(cli)


def test_a_full_disk_of_a_worker_fails_the_job_free_of_charge(
    cli: Cli, farm_up: Up, disk: Disk, user: Callable[[], httpx.Client]
) -> None:
    """FFmpeg cannot write its segment: three attempts, then a failed job that names the disk."""
    up = farm_up("--workers", "0")
    join = cli.json("keys", "create", "--kind", "join", "--device-class", "cpu")["token"]
    home = disk.folder / "worker"
    argv = [sys.executable, "-m", "workers.entry", "--home", str(home), "--name", "w", "--poll"]
    env = cli.environment() | {"FARM_SERVER": up["url"], "FARM_JOIN_TOKEN": join}
    with subprocess.Popen(argv, env=env, stderr=subprocess.DEVNULL) as worker:
        try:
            api = user()
            job = _begin(api)
            disk.fill(leave_kb=0)
            failed = _end(api, job)
            assert failed["state"] == "failed", failed
            assert "The worker's disk is full" in failed["error"]["message"]
            _costs_nothing(api, failed)
            disk.empty()
            again = _end(api, _begin(api, seconds=4))
            assert again["state"] == "succeeded", again["error"]
        finally:
            worker.terminate()
    _check(cli)
