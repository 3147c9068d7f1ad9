"""The running farm against a machine that reads its description and tries to break it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SECONDS = os.environ.get("SCHEMATHESIS_SECONDS", "20")  # noqa: TID251 - of this test alone
SEED = os.environ.get("SCHEMATHESIS_SEED", "20261123")  # noqa: TID251
"""One search, always the same; others are for whoever looks for more."""
CONFIG = Path(__file__).with_name("schemathesis.toml")
UNFIT = {
    "positive_data_acceptance": "a schema cannot say that a budget is spent or a host is private",
    "content_type_conformance": "tables are CSV on demand; flask-openapi tells one type a status",
    "ensure_resource_availability": "a new job has no preview, and says so by a 404",
}
"""Checks whose rule is not ours, each with the reason."""
LEFT_OUT = "events|/api/v1/keys|/worker"
"""Event streams do not end, and keys that are revoked or rotated would be the caller's own."""


@pytest.mark.slow
def test_no_request_breaks_the_farm(served: tuple[str, str, str], tmp_path: Path) -> None:
    """Every call, with data that fits its schema and data that does not: no 5xx, no surprise."""
    url, token, _ = served
    argv = [
        *(str(Path(sys.executable).parent / "st"), "--config-file", str(CONFIG)),
        *("run", f"{url}/openapi/openapi.json", "--seed", SEED, "--max-time", SECONDS),
        *("--header", f"Authorization: Bearer {token}"),
        *("--checks", "all", "--exclude-checks", ",".join(UNFIT)),
        *("--exclude-path-regex", LEFT_OUT, "--request-timeout", "20"),
        *("--generation-database", "none", "--no-color"),
    ]
    env = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}  # noqa: TID251
    done = subprocess.run(
        argv,
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=int(SECONDS) + 180,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-8000:]
    assert token not in done.stdout
