"""Submissions at a steady rate: how long clients wait, also while the broker is frozen.

    python -m tools.bench.submit --rate 50 --seconds 30

A farm of its own is started without workers, and jobs are sent by the clock, whether the ones
before them were answered or not: a request's time counts from when it was due, so that a stall
is felt by everybody who comes in it. Then the broker is stopped (SIGSTOP) and all is done again.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from tools.bench.progress import step

JOB = {"prompt": "a cat sleeps on a sofa", "model": "fake", "seconds": 1}
FARM = [sys.executable, "-m", "orchestrator.cli"]


def main() -> None:
    """Print the waits with a living and with a frozen broker."""
    options = _options()
    with tempfile.TemporaryDirectory(prefix="framefarm-bench-") as folder:
        home = Path(folder) / "home"
        env = os.environ | {
            "FARM_HOME": str(home),
            "FARM_FAKE_MODEL": "1",
            "FARM_DEFAULT_SESSION_GPU_SECONDS": "1000000",
        }
        up = [*FARM, "up", "--detach", "--json", "--workers", "0"]
        said = subprocess.run(up, env=env, check=True, capture_output=True, text=True).stdout
        farm = json.loads(said)
        try:
            broker = json.loads((home / "run" / "farm.json").read_text())["pids"]["broker"]
            _unlimit(farm)
            step("with a living broker")
            _measure(farm, rate=5, seconds=3)  # warm
            print(f"{options.rate}/s for {options.seconds} s, {os.cpu_count()} cores")
            print(f"  broker lives:  {_measure(farm, rate=options.rate, seconds=options.seconds)}")
            step("with a frozen broker")
            os.kill(broker, signal.SIGSTOP)
            try:
                waits = _measure(farm, rate=options.rate, seconds=options.seconds)
            finally:
                os.kill(broker, signal.SIGCONT)
            print(f"  broker frozen: {waits}")
        finally:
            subprocess.run([*FARM, "down"], env=env, check=True, capture_output=True)


def _unlimit(farm: dict[str, Any]) -> None:
    """Put the account on a plan without limits."""
    headers = {"Authorization": f"Bearer {farm['admin_key']}"}
    with httpx.Client(base_url=f"{farm['url']}/api/v1", headers=headers, timeout=60) as client:
        account = client.get("/accounts").json()["data"][0]["id"]
        client.put(f"/accounts/{account}/plan", json={"plan": "unlimited"}).raise_for_status()


def _measure(farm: dict[str, Any], *, rate: int, seconds: int) -> str:
    headers = {"Authorization": f"Bearer {farm['admin_key']}"}
    limits = httpx.Limits(max_connections=200)
    base = f"{farm['url']}/api/v1"
    with (
        httpx.Client(base_url=base, headers=headers, limits=limits, timeout=60) as client,
        ThreadPoolExecutor(100) as crowd,
    ):
        begin = time.monotonic() + 0.2

        def submit(number: int) -> tuple[float, int]:
            due = begin + number / rate
            status = client.post("/jobs", json=JOB).status_code
            return time.monotonic() - due, status

        sent = []
        for number in range(rate * seconds):
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
            sent.append(crowd.submit(submit, number))
        found = [each.result() for each in sent]
    waits = sorted(wait for wait, _ in found)
    accepted = sum(status == 202 for _, status in found)
    p50, p99 = (waits[int(len(waits) * part)] * 1000 for part in (0.5, 0.99))
    return (
        f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {waits[-1] * 1000:.0f} ms; "
        f"{accepted} of {len(found)} accepted"
    )


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=50, help="jobs a second")
    parser.add_argument("--seconds", type=int, default=30)
    return parser.parse_args()


if __name__ == "__main__":
    main()
