"""The bench of settlements drives the real web process: it must keep up with the protocol."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow(10)
def test_a_few_units_are_settled_and_the_ledger_is_exact() -> None:
    """Twenty units through two workers over HTTP, against Celery's no-ops; no figure is judged."""
    argv = [sys.executable, "-m", "tools.bench.settle", "--units", "20", "--pairs", "1"]
    root = Path(__file__).parents[2]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False, timeout=240)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "ledger afterwards: exact" in done.stdout
