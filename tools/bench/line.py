"""Cost of choosing a unit, and of telling a waiting job its place, with a long line.

    python -m tools.bench.line
    python -m tools.bench.line --sessions 10 1000 5000 --units 20

Sessions with one job of so many ready units each, in SQLite: choosing the next unit by each rule
(weight, a floor, age), which must not grow with the line; choosing for a device while nobody
else's queue is served but the last session's, the worst case; one look at the line, which serves
all waiting jobs for two seconds; and a job's place in that look.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from itertools import islice
from pathlib import Path

from orchestrator import catalog
from orchestrator.farm import Farm, Terms, jobs
from orchestrator.farm.accounts import accounts, opening
from orchestrator.farm.jobs import waiting
from orchestrator.farm.leases import grants
from orchestrator.model import Brief, Job, Session, Unit, Worker
from orchestrator.scheduling.scheduler import AGE
from orchestrator.store import migrate, open_store
from tools.bench.progress import step

TIMES = 30


def main() -> None:
    """Print milliseconds for each length of the line."""
    options = _options()
    print(f"{'sessions':>8} {'weight':>8} {'floor':>8} {'age':>8} {'worst':>8} ", end="")
    print(f"{'look':>8} {'place':>8}   ms, median of {TIMES}")
    for count in options.sessions:
        step(f"a line of {count} sessions")
        with tempfile.TemporaryDirectory() as home:
            cells = measure(Path(home), count, options.units)
        print(f"{count:>8} " + " ".join(f"{cell:>8.2f}" for cell in cells))


def measure(home: Path, count: int, units: int) -> list[float]:
    """Return what each question takes with so many sessions in line."""
    url = f"sqlite:///{home / 'farm.db'}"
    migrate(url)
    farm = Farm(
        store=open_store(url),
        catalog=catalog.Catalog(cards={catalog.FAKE.id: catalog.FAKE}),
        clock=lambda: 1_800_000_000_000,
        terms=Terms(look_seconds=0.0),
    )
    opening.open_home(farm)
    job = _fill(farm, count, units)
    worker = _worker()
    with farm.store.write() as tx:
        tx.add(worker)
    last = replace(worker, models=("last",))
    found = [
        _ms(lambda: _choose(farm, worker)),
        _ms(lambda: _choose(farm, replace(worker, owed={"studio": 5_000}))),
        _ms(lambda: _choose(farm, replace(worker, owed={AGE: 5_000}))),
        _ms(lambda: _choose(farm, last)),
        _ms(lambda: waiting.queued(farm, [job])),
    ]
    seen = replace(farm, terms=Terms(look_seconds=10**6))
    return [*found, _ms(lambda: waiting.queued(seen, [job]))]


def _choose(farm: Farm, worker: Worker) -> None:
    with farm.store.read() as tx:
        assert list(islice(grants.waiting_for(farm, tx, worker, None, farm.clock()), 1))


def _ms(ask: Callable[[], object]) -> float:
    took = []
    for _ in range(TIMES):
        before = time.perf_counter()
        ask()
        took.append((time.perf_counter() - before) * 1000)
    return statistics.median(took)


def _fill(farm: Farm, count: int, units: int) -> Job:
    """Put so many sessions in line, each like the first; return the last one's job."""
    account = accounts.first(farm)
    asked = Brief(prompt="a red ball rolls", seconds=1.0)
    job = jobs.submit(farm, account_id=account.id, session_id=None, brief=asked).job
    with farm.store.write() as tx:
        session, unit = tx.get(Session, job.session_id), tx.find(Unit, job_id=job.id)[0]
        assert session
        for n in range(count):
            own = replace(session, id=f"ses_{n}", name=f"{n}", virtual_us=n, waits_from_ms=n)
            mine = replace(job, id=f"job_{n}", session_id=own.id)
            queue = "render.last" if n == count - 1 else "render.fake"
            part = replace(unit, session_id=own.id, job_id=mine.id, queue=queue)
            tx.add(own, mine, *(replace(part, id=f"unt_{n}_{k}") for k in range(units)))
    return mine


def _worker() -> Worker:
    return Worker(
        id="wrk",
        name="w",
        host="h",
        device="cpu",
        device_class="cpu",
        memory_mb=1,
        kinds=("render",),
        models=("fake",),
        fingerprint="f",
        versions={},
        since_ms=0,
        seen_at_ms=0,
        created_at_ms=0,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--sessions", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--units", type=int, default=20, help="ready ones of each session")
    return parser.parse_args()


if __name__ == "__main__":
    main()
