"""OpenAI's own client against a farm, over HTTP: nothing but base_url and api_key is changed."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import Cli

pytestmark = pytest.mark.slow(40)

CALLS = Path(__file__).parent / "openai_calls.py"
OLDER = ("openai==2.54.0", "distro==1.9.0")
"""The last of the major version before, and the one library it needs beside ours."""

CALLS_SECONDS = 400
"""All of them together with one version; half a minute on an idle machine."""

Up = Callable[..., dict[str, Any]]


@pytest.fixture(scope="session")
def older_client(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the client of the major version before."""
    folder = tmp_path_factory.mktemp("openai")
    argv = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*argv, "--no-deps", "--target", folder, *OLDER], check=True)
    return folder


@pytest.mark.timeout(3 * CALLS_SECONDS)
def test_the_real_client_works_unchanged(cli: Cli, farm_up: Up, older_client: Path) -> None:
    """Every promise of `openai_calls.py` holds for both versions, and they warn of nothing else."""
    cli.env["FARM_OPENAI_MODEL"] = "fake"
    url = farm_up()["url"]
    key = cli.json("keys", "create")["token"]
    plain = {name: value for name, value in os.environ.items() if name != "OPENAI_API_KEY"}  # noqa: TID251 - a child's
    for version, extra in (("3.54.0", {}), ("2.54.0", {"PYTHONPATH": str(older_client)})):
        done = subprocess.run(
            [sys.executable, CALLS, f"{url}/v1", key],
            env=plain | extra,
            capture_output=True,
            text=True,
            timeout=CALLS_SECONDS,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert done.stdout.startswith(f"openai {version}\n")
