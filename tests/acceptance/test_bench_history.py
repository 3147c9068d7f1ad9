"""The bench of reads with a history asks the real application: each call must answer."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow(10)
def test_a_small_history_is_written_and_asked_about() -> None:
    """Forty ended units by SQL: usage counts them all, and every call has its row of figures."""
    argv = [sys.executable, "-m", "tools.bench.history", "--ended", "0", "40"]
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    rows = done.stdout.partition("ms of CPU")[2].splitlines()[1:]
    assert {"GET /metrics", "GET /usage (7 days)", "POST /jobs"} <= {
        row[:29].strip() for row in rows
    }
    assert all(float(row.split()[-1]) > 0 for row in rows)
