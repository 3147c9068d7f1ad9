"""Cost of many open pages for everybody else: `GET /`, heartbeats and descriptors with and without.

    python -m tools.bench.streams --streams 1000 --jobs 8 --seconds 20

A farm's web process on SQLite, and workers that hold a unit of a running job each and beat with
progress, so that every page is drawn anew again and again. Streams are pages' and the API's in
turn, held by a process of its own. Both waits are taken without streams, with them, and without
them again; then the streams hang up, and the web process's descriptors are counted 2 s later.
"""

import argparse
import multiprocessing
import os
import resource
import selectors
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import httpx
import psutil

from orchestrator.bootstrap.home import free_port
from orchestrator.farm import Farm
from orchestrator.farm import jobs as farm_jobs
from orchestrator.farm.accounts import accounts, keys, opening, sessions
from orchestrator.model import Brief
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.wire import HeartbeatRequest, LeaseUse, Order, RenderWork
from orchestrator.wiring import farm_from
from tools.bench.progress import step
from tools.bench.settle import Reporter, _enrolled, _until

BEAT_SECONDS = 1.0
LOOK_SECONDS = 0.25
LATE_SECONDS = 5.0
"""After which a worker's client gives a heartbeat up and tries again."""


@dataclass
class Waits:
    """Seconds that calls took, by what they were."""

    page: list[float] = field(default_factory=list)
    beat: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        late = sum(wait > LATE_SECONDS for wait in self.beat)
        return f"GET / {spread(self.page)}; heartbeat {spread(self.beat)}, {late} late"


def spread(waits: list[float]) -> str:
    """Return the median and the 99th percentile in ms."""
    return f"p50 {at(waits, 0.5) * 1000:.0f} ms, p99 {at(waits, 0.99) * 1000:.0f} ms"


def at(waits: list[float], part: float) -> float:
    """Return a percentile."""
    return sorted(waits)[min(len(waits) - 1, int(len(waits) * part))]


def main() -> None:
    """Print the waits of each part of the run, their ratios, and what is left open."""
    options = _options()
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    with tempfile.TemporaryDirectory(prefix="framefarm-bench-") as folder:
        farm = _opened(Path(folder), options.jobs)
        with running_web(Path(folder)) as (url, web), Crowd(url, Path(folder), farm) as crowd:
            step("without streams")
            crowd.measure(3)  # warm
            before = crowd.measure(options.seconds)
            fds = web.num_fds()
            with held(url, crowd.job_ids, crowd.cookie, crowd.token, options.streams) as line:
                step(f"opening {options.streams} streams")
                line.send("open")
                opened = line.recv()
                cpu = sum(web.cpu_times()[:2])
                step("with streams")
                during = crowd.measure(options.seconds)
                cpu = (sum(web.cpu_times()[:2]) - cpu) / options.seconds
                line.send("close")
                told = line.recv()
            time.sleep(2)
            left = web.num_fds() - fds
            step("without streams again")
            after = crowd.measure(options.seconds)
    print(f"{opened} streams of {options.jobs} running jobs, {os.cpu_count()} cores")
    print(f"  without: {before}\n  with:    {during}; web used {cpu:.2f} cores")
    print(f"  without: {after}\n  {told / options.seconds:.0f} messages a second")
    quiet = Waits(before.page + after.page, before.beat + after.beat)
    for name in ("page", "beat"):
        ratio = at(getattr(during, name), 0.99) / at(getattr(quiet, name), 0.99)
        print(f"  p99 of {name}: {ratio:.2f} x")
    print(f"  descriptors left 2 s after they hung up: {max(0, left)}")


class Crowd:
    """Workers that beat and a browser that looks at the studio."""

    def __init__(self, url: str, home: Path, farm: Farm) -> None:
        owner = accounts.first(farm).id
        link = opening.replace_key(farm, account_id=owner, kind=KeyKind.SIGNIN, name="bench")
        _, self.token = keys.create(farm, account_id=owner, kind=KeyKind.READ, name="bench")
        self.browser = httpx.Client(base_url=url, timeout=120)
        self.browser.get(f"/sign-in/{link}", follow_redirects=True).raise_for_status()
        self.cookie = "; ".join(f"{name}={value}" for name, value in self.browser.cookies.items())
        self.job_ids = [job.id for job in farm_jobs.listing(farm, owner).items]
        self.workers = [
            Reporter(url, _enrolled(farm, number), home, farm)
            for number in range(len(self.job_ids))
        ]
        self.orders = [_at_work(worker) for worker in self.workers]
        self.sequence, self.gpu_ms = 0, 0

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        self.browser.close()

    def measure(self, seconds: float) -> Waits:
        """Return what calls took in so many seconds, each by the clock."""
        waits, until = Waits(), time.monotonic() + seconds
        threads = [threading.Thread(target=self._look, args=(waits, until))]
        threads += [
            threading.Thread(target=self._beat, args=(n, waits, until))
            for n in range(len(self.workers))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.sequence += round(seconds / BEAT_SECONDS) + 1
        return waits

    def _look(self, waits: Waits, until: float) -> None:
        while (began := time.monotonic()) < until:
            self.browser.get("/").raise_for_status()
            waits.page.append(time.monotonic() - began)
            time.sleep(max(0.0, began + LOOK_SECONDS - time.monotonic()))

    def _beat(self, number: int, waits: Waits, until: float) -> None:
        worker, order, sequence = self.workers[number], self.orders[number], self.sequence
        time.sleep(BEAT_SECONDS * number / len(self.workers))
        while (began := time.monotonic()) < until:
            sequence += 1
            use = LeaseUse(
                lease_id=order.lease_id,
                fence=order.fence,
                sequence=sequence,
                gpu_ms=sequence,
                frames_done=0,
            )
            body = HeartbeatRequest(leases=(use,)).model_dump_json()
            worker.http.post("/heartbeat", content=body, timeout=120).raise_for_status()
            waits.beat.append(time.monotonic() - began)
            time.sleep(max(0.0, began + BEAT_SECONDS - time.monotonic()))


def _at_work(worker: Reporter) -> Order:
    """Have a worker take units until it has a render unit, and return that."""
    order = worker._claim()
    while not isinstance(order.work, RenderWork):
        answer = worker._complete(order)
        order = answer.orders[0] if answer.orders else worker._claim()
    return order


def _opened(home: Path, count: int) -> Farm:
    farm = farm_from(Settings(home=home, fake_model=True))
    opening.open_home(farm)
    owner = accounts.first(farm).id
    accounts.set_plan(farm, owner, "unlimited")
    asked = Brief(prompt="a rocket rises", model="fake", seconds=20.0)
    for number in range(count):  # a session each, so that each gets a worker
        name = f"bench{number}"
        sessions.create(farm, account_id=owner, name=name, budget_gpu_ms=10**9)
        farm_jobs.submit(farm, account_id=owner, session_id=name, brief=asked)
    return farm


@contextmanager
def running_web(home: Path) -> Iterator[tuple[str, psutil.Process]]:
    """Run the web process; yields its URL and the process that serves."""
    port = free_port("127.0.0.1")
    argv = [sys.executable, "-m", "gunicorn", "web.app:create_app()"]
    argv += ["--config=python:web.serving"]
    argv += [f"--bind=127.0.0.1:{port}", "--graceful-timeout=1"]
    env = os.environ | {"FARM_HOME": str(home), "FARM_FAKE_MODEL": "1", "FARM_LOG_LEVEL": "error"}
    env |= {"FARM_MAX_STREAMS": "100000", "FARM_RATE_LIMIT": "", "FARM_LEASE_SECONDS": "600"}
    quiet = subprocess.DEVNULL
    master = subprocess.Popen(argv, env=env, stdout=quiet, stderr=quiet)
    try:
        url = f"http://127.0.0.1:{port}"
        _until(lambda: httpx.get(f"{url}/healthz").is_success)
        (served,) = psutil.Process(master.pid).children()
        yield url, served
    finally:
        master.terminate()
        master.wait(30)


@contextmanager
def held(
    url: str, job_ids: list[str], cookie: str, token: str, count: int
) -> Iterator["Connection[Any, Any]"]:
    """Run the process that holds the streams; say `open` and `close` on the line it yields."""
    ours, theirs = multiprocessing.Pipe()
    context = multiprocessing.get_context("spawn")
    process = context.Process(target=_hold, args=(theirs, url, job_ids, cookie, token, count))
    process.start()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


def _hold(
    line: "Connection[Any, Any]", url: str, job_ids: list[str], cookie: str, token: str, count: int
) -> None:
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    host, port = url.removeprefix("http://").split(":")
    assert line.recv() == "open"
    watch, began, heard, messages = selectors.DefaultSelector(), [], set(), 0
    for number in range(count):
        job_id = job_ids[number % len(job_ids)]
        page = f"GET /jobs/{job_id}/live HTTP/1.1\r\nCookie: {cookie}\r\n"
        api = f"GET /api/v1/jobs/{job_id}/events HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"
        client = socket.create_connection((host, int(port)))
        client.sendall(f"{page if number % 2 else api}Host: {host}\r\n\r\n".encode())
        watch.register(client, selectors.EVENT_READ)
        began.append(client)
    until = time.monotonic() + 120
    while len(heard) < count and time.monotonic() < until:
        for key, _ in watch.select(0.1):
            part = key.fileobj.recv(1 << 16)  # type: ignore[union-attr]  # ours is a socket
            assert not part or b"HTTP/1.1 200" in part or key.fd in heard, part[:200]
            heard.add(key.fd)
    line.send(len(heard))
    while not line.poll():
        for key, _ in watch.select(0.1):
            messages += key.fileobj.recv(1 << 16).count(b"\nid: ")  # type: ignore[union-attr]  # ours is a socket
    line.recv()
    for client in began:
        client.close()
    line.send(messages)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--streams", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=8, help="running ones, each with a worker")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each part")
    return parser.parse_args()


if __name__ == "__main__":
    main()
