"""Processes that are killed (T5 of docs/reliability.md): the job ends, the bill is exact."""

import json
import signal
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from orchestrator.farm import check
from orchestrator.settings import Settings
from orchestrator.wiring import farm_from
from tests.acceptance.conftest import Cli, until

pytestmark = pytest.mark.slow(60)

Up = Callable[..., dict[str, Any]]

VICTIMS = {
    "the worker": "workers.entry",
    "the engine": "multiprocessing",
    "the broker": "-server 127.0.0.1",
    "the dispatcher": "orchestrator.dispatcher",
    "the web": "gunicorn",
}


@pytest.fixture
def quick_leases(cli: Cli) -> None:
    """Leases short enough for a test to wait for."""
    cli.env |= {
        "FARM_LEASE_SECONDS": "4",
        "FARM_HEARTBEAT_SECONDS": "0.5",
        "FARM_GRACE_SECONDS": "1",
        "FARM_THREADS": "1",
    }


@pytest.mark.usefixtures("quick_leases")
def test_whatever_is_killed_the_job_ends_and_the_bill_is_exact(cli: Cli, farm_up: Up) -> None:
    """kill -9 of each process twice while a job renders: every frame once, nothing twice.

    Its frames are, byte for byte, those of the same job undisturbed.
    """
    farm_up()
    job = _submit(cli, seconds=40)
    until(lambda: _job(cli, job)["frames_done"] > 0)
    for name, pattern in [*VICTIMS.items()] * 2:
        before = _job(cli, job)["frames_done"]
        assert cli.kill(pattern), f"there was no {name} to kill"
        until(lambda: _frames_or_end(cli, job) > before)  # noqa: B023 - read at once
    until(lambda: _job(cli, job)["state"] in ("succeeded", "failed"), 180)
    ended = _job(cli, job)
    assert ended["state"] == "succeeded", ended["error"]
    assert ended["frames_done"] == ended["frames_total"]
    receipt = cli.json("jobs", "receipt", job)
    charged = sum(line["gpu_seconds"] for line in receipt["lines"])
    assert charged == pytest.approx(receipt["gpu_seconds"])
    assert cli.json("session", "show", "default")["held_gpu_seconds"] == 0
    calm = _submit(cli, seconds=40)
    until(lambda: _job(cli, calm)["state"] == "succeeded", 120)
    frames = _frames(cli, job)
    assert sorted(frames) == list(range(ended["frames_total"]))
    assert frames == _frames(cli, calm)
    farm = farm_from(Settings(home=cli.home, fake_model=True), upgrade=False)
    assert check.violations(farm) == []
    farm.store.close()  # type: ignore[attr-defined]


@pytest.mark.usefixtures("quick_leases")
def test_a_frozen_worker_is_outlived(cli: Cli, farm_up: Up) -> None:
    """A worker that is stopped past its lease loses the unit; the other one finishes the job."""
    farm_up("--workers", "2")
    job = _submit(cli, seconds=12)
    until(lambda: _job(cli, job)["frames_done"] > 0)
    frozen = [p for p in cli.alive() if "worker-1" in " ".join(p.cmdline())]
    assert frozen
    for process in frozen:
        process.send_signal(signal.SIGSTOP)
    try:
        until(lambda: _job(cli, job)["state"] == "succeeded", 120)
    finally:
        for process in frozen:
            process.send_signal(signal.SIGCONT)
    farm = farm_from(Settings(home=cli.home, fake_model=True), upgrade=False)
    assert check.violations(farm) == []
    farm.store.close()  # type: ignore[attr-defined]


def _submit(cli: Cli, *, seconds: int) -> str:
    """Submit a job without waiting for it, and return its id."""
    running = cli.json("status")
    key = cli.json("keys", "create", "--kind", "user", "--name", "chaos")["token"]
    answer = httpx.post(
        f"{running['url']}/api/v1/jobs",
        json={"prompt": "a rocket rises", "model": "fake", "seconds": seconds, "seed": 7},
        headers={"Authorization": f"Bearer {key}"},
    )
    assert answer.status_code == 202, answer.text
    return str(answer.json()["id"])


def _frames(cli: Cli, job_id: str) -> dict[int, str]:
    """Return the digest of every frame that was accepted, by its number."""
    return {
        line["first_frame"] + place: digest
        for line in cli.json("jobs", "receipt", job_id)["lines"]
        for place, digest in enumerate(line["frame_sha256"])
    }


def _job(cli: Cli, job_id: str) -> dict[str, Any]:
    done = cli("jobs", "show", job_id, "--json")
    if done.returncode:  # the web process may be the one that was just killed
        return {"frames_done": -1, "state": "unknown"}
    return dict(json.loads(done.stdout))


def _frames_or_end(cli: Cli, job_id: str) -> float:
    job = _job(cli, job_id)
    return float("inf") if job["state"] == "succeeded" else job["frames_done"]
