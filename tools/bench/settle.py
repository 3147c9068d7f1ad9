"""Row (c): units from ready to settled, against bare Celery no-op tasks.

    python -m tools.bench.settle --units 200

A drives the real farm: gunicorn on SQLite (synchronous FULL), two workers that report a render
unit and get the next one in the answer, each settlement one durable transaction. B is what the
queue alone costs: as many no-op tasks through Celery on the same Valkey and two solo workers.
The files a unit would upload are put in place beforehand; the invariants are checked after.
"""

import argparse
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from hashlib import sha256
from pathlib import Path

import httpx
import redis
from celery import Celery

from orchestrator.bootstrap import find_broker
from orchestrator.bootstrap.home import free_port
from orchestrator.farm import Farm, check, jobs
from orchestrator.farm.accounts import accounts, keys, opening, sessions
from orchestrator.farm.leases import worker_calls
from orchestrator.model import Brief, RenderPlan
from orchestrator.planning import planner
from orchestrator.prompting import parser
from orchestrator.receipt import Artifact, Receipt
from orchestrator.settings import Settings
from orchestrator.states import KeyKind, Outcome, UnitKind
from orchestrator.wire import (
    MASTER,
    PREFIX,
    SEGMENT,
    STRIP,
    ClaimAnswer,
    ClaimRequest,
    CompleteAnswer,
    CompleteRequest,
    HelloRequest,
    Order,
    ParseWork,
    RenderWork,
)
from orchestrator.wiring import farm_from
from tools.bench.pairing import paired
from tools.bench.progress import step
from web.artifacts import NOTE

WORKERS = 2
CONTENT = b"a file"
DIGEST = sha256(CONTENT).hexdigest()
DONE = "bench:done"

celery = Celery("bench", broker=os.environ.get("BENCH_BROKER", ""))
celery.conf.update(task_ignore_result=True, worker_prefetch_multiplier=1)


@celery.task(name="bench.noop")  # type: ignore[untyped-decorator]  # celery has no types
def noop() -> None:
    """Do nothing, and be counted."""
    counter().incr(DONE)


def counter() -> redis.Redis:
    """Return a connection to the broker, one per process."""
    if "redis" not in _connections:
        _connections["redis"] = redis.Redis.from_url(os.environ["BENCH_BROKER"])
    return _connections["redis"]


_connections: dict[str, redis.Redis] = {}


class Reporter:
    """A worker that finishes every unit at once, over real HTTP."""

    def __init__(self, url: str, key: str, home: Path, farm: Farm) -> None:
        self.http = httpx.Client(
            base_url=url + PREFIX, headers={"Authorization": f"Bearer {key}"}, timeout=30
        )
        self.home, self.farm = home, farm
        self.order: Order | None = None

    def run(self, units: int) -> None:
        """Settle this many render units."""
        while units > 0:
            order = self.order or self._claim()
            self.order = None
            answer = self._complete(order)
            self.order = answer.orders[0] if answer.orders else None
            units -= isinstance(order.work, RenderWork)

    def _claim(self) -> Order:
        while True:
            body = ClaimRequest(wait_seconds=5).model_dump_json()
            answer = self.http.post("/claim", content=body).raise_for_status()
            orders = ClaimAnswer.model_validate_json(answer.content).orders
            if orders:
                return orders[0]

    def _complete(self, order: Order) -> CompleteAnswer:
        files, plan, frames = (), None, 0
        if isinstance(order.work, RenderWork):
            frames = len(order.work.frames)
            folder = self.home / "artifacts" / "units" / order.unit_id / str(order.fence)
            folder.mkdir(parents=True)
            for name in (SEGMENT, MASTER, STRIP):
                (folder / name).write_bytes(CONTENT)
                (folder / f"{name}{NOTE}").write_text(f"{len(CONTENT)} {DIGEST} {DIGEST[:32]}")
            files = tuple(
                Artifact(name=name, sha256=DIGEST, bytes=len(CONTENT))
                for name in (SEGMENT, MASTER, STRIP)
            )
        elif isinstance(order.work, ParseWork):
            plan = self._plan(order.work)
        request = CompleteRequest(
            lease_id=order.lease_id,
            fence=order.fence,
            outcome=Outcome.DONE,
            receipt=Receipt(
                gpu_ms=1,
                by_stage={"work": 1},
                frames_done=frames,
                frame_sha256=(DIGEST,) * frames,
                artifacts=files,
            ),
            render_plan=plan,
        )
        answer = self.http.post("/complete", content=request.model_dump_json())
        return CompleteAnswer.model_validate_json(answer.raise_for_status().content)

    def _plan(self, asked: ParseWork) -> RenderPlan:
        brief = asked.brief
        card = self.farm.catalog.card(brief.model)
        parsed = parser.of_brief(brief, card.vocabulary)
        return planner.plan(brief, parsed, card, seed=asked.seed)


def main() -> None:
    """Print units/s, tasks/s and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--units", type=int, default=200, help="per run")
    parser.add_argument("--pairs", type=int, default=10)
    options = parser.parse_args()
    with ExitStack() as stack:
        home = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="framefarm-bench-")))
        broker = stack.enter_context(running_broker(home))
        os.environ["BENCH_BROKER"] = celery.conf.broker_url = broker
        farm = _opened(home, options.units * (2 * options.pairs + 2))
        reporters = stack.enter_context(running_web(home, farm))
        stack.enter_context(running_celery(home))

        def settle() -> None:
            with ThreadPoolExecutor(WORKERS) as crowd:
                share = options.units // WORKERS
                list(crowd.map(lambda reporter: reporter.run(share), reporters))

        step("both once, to be warm")
        settle()
        _tasks(options.units)
        result = paired(settle, lambda: _tasks(options.units), pairs=options.pairs)
        broken = check.violations(farm)
    print(f"(c) {options.units} units settled / {options.units} Celery no-op tasks: {result}")
    rates = (options.units / cost.wall_seconds for cost in (result.a, result.b))
    print("    {:.0f} units/s, {:.0f} no-op tasks/s, medians".format(*rates))
    print(f"    ledger afterwards: {'; '.join(broken) or 'exact'}")


def _tasks(count: int) -> None:
    counter().set(DONE, 0)
    for _ in range(count):
        noop.apply_async(queue="bench")
    while int(counter().get(DONE) or 0) < count:  # type: ignore[arg-type]  # redis types it as awaitable, too
        time.sleep(0.002)


def _opened(home: Path, units: int) -> Farm:
    farm = farm_from(Settings(home=home, fake_model=True))
    opening.open_home(farm)
    owner = accounts.first(farm).id
    sessions.create(farm, account_id=owner, name="bench", budget_gpu_ms=10**11)
    asked = Brief(prompt="a rocket rises", model="fake", seconds=600.0)
    made = 0
    while made < units:
        job = jobs.submit(farm, account_id=owner, session_id="bench", brief=asked).job
        made += job.frames_total // 64  # batches of about a second
    return farm


@contextmanager
def running_broker(home: Path) -> Iterator[str]:
    """Run a Valkey with a password; yields its URL."""
    port, password, binary = free_port("127.0.0.1"), secrets.token_hex(8), find_broker()
    assert binary, "a broker comes with the installation"
    conf = home / "valkey.conf"
    conf.write_text(f'bind 127.0.0.1\nport {port}\nrequirepass {password}\nsave ""\n')
    with _process([binary, str(conf)]):
        url = f"redis://:{password}@127.0.0.1:{port}/0"
        _until(lambda: redis.Redis.from_url(url).ping())
        yield url


@contextmanager
def running_web(home: Path, farm: Farm) -> Iterator[list[Reporter]]:
    """Run the web process; yields enrolled workers."""
    port = free_port("127.0.0.1")
    argv = [sys.executable, "-m", "gunicorn", "web.app:create_app()"]
    argv += ["--config=python:web.serving"]
    argv += [f"--bind=127.0.0.1:{port}", "--graceful-timeout=1"]
    url = f"http://127.0.0.1:{port}"
    with _process(argv, FARM_HOME=str(home), FARM_FAKE_MODEL="1", FARM_LOG_LEVEL="error"):
        _until(lambda: httpx.get(f"{url}/healthz").is_success)
        yield [Reporter(url, _enrolled(farm, n), home, farm) for n in range(WORKERS)]


@contextmanager
def running_celery(home: Path) -> Iterator[None]:
    """Run as many solo Celery workers for the no-op."""
    argv = [sys.executable, "-m", "celery", "-A", "tools.bench.settle:celery", "worker"]
    argv += ["-P", "solo", "-Q", "bench", "--without-gossip", "--without-mingle", "-l", "error"]
    with ExitStack() as stack:
        for number in range(WORKERS):
            stack.enter_context(_process([*argv, "-n", f"bench{number}"]))
        yield


def _enrolled(farm: Farm, number: int) -> str:
    key, _ = keys.create(farm, account_id=None, kind=KeyKind.JOIN, name="bench")
    answer = worker_calls.hello(
        farm,
        key,
        HelloRequest(
            name=f"bench{number}",
            host="bench",
            device="cpu",
            device_class="cpu",
            memory_mb=1,
            kinds=(UnitKind.PARSE, UnitKind.RENDER),
            models=("fake",),
            polls=True,
            fingerprint="bench",
        ),
    )
    assert answer.worker_key
    return answer.worker_key


@contextmanager
def _process(argv: list[str], **env: str) -> Iterator[None]:
    quiet = subprocess.DEVNULL
    process = subprocess.Popen(argv, env=dict(os.environ) | env, stdout=quiet, stderr=quiet)
    try:
        yield
    finally:
        process.terminate()
        process.wait(30)


def _until(ready: object) -> None:
    assert callable(ready)
    limit = time.monotonic() + 60
    while time.monotonic() < limit:
        try:
            if ready():
                return
        except (httpx.TransportError, redis.RedisError):
            pass
        time.sleep(0.05)
    raise SystemExit("a process did not come up")


if __name__ == "__main__":
    main()
