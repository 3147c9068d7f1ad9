"""Submissions at a steady rate: how long clients wait, and what CPU they cost the web process.

    python -m tools.bench.submit --rate 50 --seconds 30
    python -m tools.bench.submit --rate 50 --seconds 30 --refused

A farm of its own is started without workers, and jobs are sent by the clock, whether the ones
before them were answered or not: a request's time counts from when it was due, so that a stall
is felt by everybody who comes in it. Then the broker is stopped (SIGSTOP) and all is done again.
With `--refused` every job is asked of a session that has too little. CPU is user and system time of
gunicorn and its children, as /proc counts it, over the number of requests.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import httpx

from tools.bench.progress import step

JOB = {"prompt": "a cat sleeps on a sofa", "model": "fake", "seconds": 1}
SMALL = {"name": "small", "budget_gpu_seconds": 0.05}
TICKS = os.sysconf("SC_CLK_TCK")
FARM = [sys.executable, "-m", "orchestrator.cli"]


class Farm(TypedDict):
    """A farm's address and its operator's key."""

    url: str
    admin_key: str


def main() -> None:
    """Print the waits with a living and with a frozen broker."""
    options = _options()
    refused = options.refused
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
            pids = json.loads((home / "run" / "farm.json").read_text())["pids"]
            broker = pids["broker"]
            crowd = Crowd(farm, pids["web"], JOB | ({"session_id": "small"} if refused else {}))
            _unlimit(farm)
            step("with a living broker")
            crowd.measure(rate=5, seconds=3)  # warm
            print(f"{options.rate}/s for {options.seconds} s, {os.cpu_count()} cores")
            print(f"  broker lives:  {crowd.measure(options.rate, options.seconds)}")
            step("with a frozen broker")
            os.kill(broker, signal.SIGSTOP)
            try:
                waits = crowd.measure(options.rate, options.seconds)
            finally:
                os.kill(broker, signal.SIGCONT)
            print(f"  broker frozen: {waits}")
        finally:
            subprocess.run([*FARM, "down"], env=env, check=True, capture_output=True)


def _unlimit(farm: Farm) -> None:
    """Put the account on a plan without limits, and open a session that has next to nothing."""
    headers = {"Authorization": f"Bearer {farm['admin_key']}"}
    with httpx.Client(base_url=f"{farm['url']}/api/v1", headers=headers, timeout=60) as client:
        account = client.get("/accounts").json()["data"][0]["id"]
        client.put(f"/accounts/{account}/plan", json={"plan": "unlimited"}).raise_for_status()
        client.post("/sessions", json=SMALL).raise_for_status()


@dataclass(frozen=True, slots=True)
class Crowd:
    """Clients of one farm who all ask for the same."""

    farm: Farm
    web: int
    """Process id of gunicorn."""
    job: dict[str, object]

    def measure(self, rate: int, seconds: int) -> str:
        """Return the waits, the answers and the CPU of so many requests a second."""
        headers = {"Authorization": f"Bearer {self.farm['admin_key']}"}
        limits = httpx.Limits(max_connections=200)
        base = f"{self.farm['url']}/api/v1"
        with (
            httpx.Client(base_url=base, headers=headers, limits=limits, timeout=60) as client,
            ThreadPoolExecutor(100) as crowd,
        ):
            before = cpu_seconds(self.web)
            begin = time.monotonic() + 0.2

            def submit(number: int) -> tuple[float, int]:
                due = begin + number / rate
                status = client.post("/jobs", json=self.job).status_code
                return time.monotonic() - due, status

            sent = []
            for number in range(rate * seconds):
                time.sleep(max(0.0, begin + number / rate - time.monotonic()))
                sent.append(crowd.submit(submit, number))
            found = [each.result() for each in sent]
            cpu_ms = (cpu_seconds(self.web) - before) * 1000 / len(found)
        waits = sorted(wait for wait, _ in found)
        answers = Counter(status for _, status in found)
        p50, p99 = (waits[int(len(waits) * part)] * 1000 for part in (0.5, 0.99))
        told = ", ".join(f"{count} x {status}" for status, count in sorted(answers.items()))
        return (
            f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, slowest {waits[-1] * 1000:.0f} ms; "
            f"{cpu_ms:.1f} ms CPU each; {told}"
        )


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process and of its living children, theirs too. Linux only."""
    stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()
    own = (int(stat[11]) + int(stat[12])) / TICKS
    return own + sum(cpu_seconds(int(child)) for child in children)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=50, help="jobs a second")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--refused", action="store_true", help="of a session with too little")
    return parser.parse_args()


if __name__ == "__main__":
    main()
