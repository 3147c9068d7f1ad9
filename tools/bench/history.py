"""CPU of what operators, pages and workers ask, with a long history behind it: it must not grow.

    python -m tools.bench.history
    python -m tools.bench.history --ended 0 10000 1000000

Stores with so many ended units, ten to a job, spread over the last thirty days, each with its
lease and its ledger entry, written by SQL alone; then each call over the real web application, in
this process, without its shared looks. SQLite; CPU of the process, the median of several calls.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from flask.testing import FlaskClient
from sqlalchemy import text

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import accounts, keys, opening
from orchestrator.farm.leases import reconcile, worker_calls
from orchestrator.model import Brief, Worker
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.store import Store
from orchestrator.wiring import farm_from, now_ms
from web.api.health import SharedLook
from web.app import create_app

TIMES: Final = 15
UNITS: Final = 10
"""Of a job."""
HISTORY_MS: Final = 30 * 86_400_000
BASE: Final = 10_000_000
"""Numbers of rows begin here, so that they sort as their ids do."""

CHANGED_JOB: Final = {
    "id": "'job_' || n.i",
    "state": "'succeeded'",
    "frames_done": "frames_total",
    "held_gpu_ms": "0",
    "spent_gpu_ms": "100",
    "created_at_ms": "{at}",
    "finished_at_ms": "{at}",
}
CHANGED_UNIT: Final = {
    "id": "'unt_' || n.i",
    "job_id": "'job_' || (n.i - n.i % :units)",
    "kind": "'render'",
    "state": "'done'",
    "queue": "'render.fake'",
    "fence": "1",
    "accepted_lease_id": "'lea_' || n.i",
    "created_at_ms": "{at}",
}
LEASE: Final = {
    "id": "'lea_' || n.i",
    "unit_id": "'unt_' || n.i",
    "job_id": "'job_' || (n.i - n.i % :units)",
    "session_id": ":session",
    "worker_id": "'wrk_' || (n.i % 8)",
    "worker_name": "'w'",
    "device": "'cpu'",
    "device_class": "'cpu'",
    "kind": "'render'",
    "lane": "'weight'",
    "virtual_us": "0",
    "fence": "1",
    "epoch": "1",
    "state": "'completed'",
    "gpu_ms_limit": "1000",
    "granted_at_ms": "{at} - 100",
    "expires_at_ms": "{at}",
    "sequence": "1",
    "used_gpu_ms": "10",
    "frames_done": "1",
    "outcome": "'done'",
    "settled_gpu_ms": "10",
    "lost_gpu_ms": "0",
    "over_quote_gpu_ms": "0",
    "steps_done": "0",
    "worked_ms": "0",
    "resolved_at_ms": "{at}",
}
ENTRY: Final = {
    "id": "'ent_' || n.i",
    "at_ms": "{at}",
    "kind": "'settle'",
    "session_id": ":session",
    "job_id": "'job_' || (n.i - n.i % :units)",
    "lease_id": "'lea_' || n.i",
    "month_id": ":month",
    "gpu_ms": "10",
    "debit": "'held'",
    "credit": "'spent'",
    "note": "''",
    "price_microusd": "10",
    "rates": "'1'",
    "receipt_sha256": "''",
    "number": "n.i",
    "previous_sha256": "''",
    "sha256": "''",
}
SUMS: Final = """
INSERT INTO usage_sums
SELECT s.ms, l.resolved_at_ms / s.ms * s.ms, j.account_id, l.session_id, j.model, l.worker_id,
       l.kind, count(*), sum(l.settled_gpu_ms), sum(l.lost_gpu_ms)
FROM leases AS l JOIN jobs AS j ON j.id = l.job_id,
     (SELECT 3600000 AS ms UNION SELECT 86400000) AS s
GROUP BY 1, 2, 3, 4, 5, 6, 7
"""


def main() -> None:
    """Print the table."""
    options = _options()
    found: dict[int, dict[str, float]] = {}
    for ended in options.ended:
        with tempfile.TemporaryDirectory(prefix="framefarm-bench-") as home:
            began = time.monotonic()
            found[ended] = measure(Path(home), ended)
            print(f"{ended:,} ended units: written and asked in {time.monotonic() - began:.0f} s")
    print(f"\nms of CPU, median of {TIMES}" + "".join(f"{ended:>12,}" for ended in found))
    for name in next(iter(found.values())):
        print(f"{name:<29}" + "".join(f"{cells[name]:>12.1f}" for cells in found.values()))


def measure(home: Path, ended: int) -> dict[str, float]:
    """Return what each call costs, in ms, with so many ended units in the store."""
    config = Settings(
        home=home, fake_model=True, rate_limit="", default_session_gpu_seconds=1_000_000
    )
    farm = farm_from(config)
    client = _client(farm, config)
    with farm.store.write() as tx:
        tx.add(*(_worker(number) for number in range(8)))
    account = accounts.first(farm)
    asked = Brief(prompt="a red ball rolls", seconds=1.0)
    job = jobs.submit(farm, account_id=account.id, session_id=None, brief=asked).job
    assert isinstance(farm.store, Store)
    if ended:
        fill(farm.store, job.id, ended)
    month = client.get(f"/api/v1/usage?since_seconds={2 * HISTORY_MS // 1000}").get_json()["data"]
    assert sum(row["units"] for row in month) == ended
    body = {"prompt": "a red ball rolls", "seconds": 1}
    calls: dict[str, Callable[[], object]] = {
        "GET /metrics": lambda: client.get("/metrics"),
        "GET /queues": lambda: client.get("/api/v1/queues"),
        "GET /usage (7 days)": lambda: client.get("/api/v1/usage"),
        "GET /usage (30 days)": lambda: client.get("/api/v1/usage?since_seconds=2592000"),
        "GET /usage/economics": lambda: client.get("/api/v1/usage/economics?since_seconds=86400"),
        "GET /jobs": lambda: client.get("/api/v1/jobs?limit=5"),
        "GET /jobs?state=paused": lambda: client.get("/api/v1/jobs?state=paused"),
        "GET /jobs/{id}": lambda: client.get(f"/api/v1/jobs/{job.id}"),
        "POST /jobs": lambda: client.post("/api/v1/jobs", json=body),
        "claim without work": lambda: worker_calls.claim(farm, "wrk_0", None),
        "dispatcher: bells, leases": lambda: (reconcile.to_ring(farm), reconcile.reconcile(farm)),
    }
    told = {name: _ms(call) for name, call in calls.items()}
    farm.store.close()
    return told


def fill(store: Store, job_id: str, ended: int) -> None:
    """Write so many ended units with their jobs, leases, entries and sums, by SQL."""
    now = now_ms()
    step = max(1, HISTORY_MS // ended)
    at = f"({now} - ({BASE + ended} - n.i) * {step})"
    with store.engine.connect() as connection:
        of = connection.execute(
            text("SELECT session_id AS session, month_id AS month FROM jobs WHERE id = :job"),
            {"job": job_id},
        ).one()
        given = {"job": job_id, "units": UNITS, "first": BASE, "last": BASE + ended - 1}
        given |= of._mapping
        numbers = (
            "WITH RECURSIVE n(i) AS (SELECT :first UNION ALL SELECT i + 1 FROM n WHERE i < :last) "
        )
        tables = {"jobs": CHANGED_JOB, "units": CHANGED_UNIT}
        for name, changed in tables.items():
            told = connection.exec_driver_sql(f"SELECT * FROM {name} LIMIT 1").keys()
            values = [changed.get(column, f"{name}.{column}").format(at=at) for column in told]
            one = "id = :job AND n.i % :units = 0" if name == "jobs" else "job_id = :job"
            query = (
                f"INSERT INTO {name} ({', '.join(map(_quoted, told))}) {numbers}"
                f"SELECT {', '.join(values)} FROM n, {name} WHERE {name}.{one}"
            )
            connection.execute(text(query), _only(query, given))
        for name, row in {"leases": LEASE, "entries": ENTRY}.items():
            values = [value.format(at=at) for value in row.values()]
            query = (
                f"INSERT INTO {name} ({', '.join(row)}) {numbers}SELECT {', '.join(values)} FROM n"
            )
            connection.execute(text(query), _only(query, given))
        connection.execute(text(SUMS))
        connection.commit()


def _only(query: str, given: dict[str, object]) -> dict[str, object]:
    return {name: value for name, value in given.items() if f":{name}" in query}


def _quoted(column: str) -> str:
    return f'"{column}"'


def _ms(call: Callable[[], object]) -> float:
    call()
    took = []
    for _ in range(TIMES):
        before = time.process_time()
        call()
        took.append((time.process_time() - before) * 1000)
    return statistics.median(took)


def _client(farm: Farm, config: Settings) -> FlaskClient:
    """Return an operator's client of the application, each of whose looks is its own."""
    app = create_app(farm, config)
    app.extensions["looks"] = {name: SharedLook(0.0) for name in app.extensions["looks"]}
    opening.open_home(farm)
    account = accounts.first(farm).id
    _, token = keys.create(farm, account_id=account, kind=KeyKind.ADMIN, name="bench")
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    client.put(f"/api/v1/accounts/{account}/plan", json={"plan": "unlimited"})
    return client


def _worker(number: int) -> Worker:
    now = now_ms()
    return Worker(
        id=f"wrk_{number}",
        name=f"w{number}",
        host="h",
        device="cpu",
        device_class="cpu",
        memory_mb=1,
        kinds=("render",),
        models=("fake",),
        fingerprint="f",
        versions={},
        since_ms=now,
        seen_at_ms=now + 10**9,  # it is there for as long as the bench takes
        created_at_ms=now,
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--ended", type=int, nargs="+", default=[0, 10_000, 1_000_000])
    return parser.parse_args()


if __name__ == "__main__":
    main()
