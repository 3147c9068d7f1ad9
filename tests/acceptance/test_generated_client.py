"""A client that somebody generates from the API's description renders a video with it."""

import importlib
import os
import pkgutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx
import pytest

from tests.acceptance.conftest import Cli

pytestmark = pytest.mark.slow(50)

NAME = "made_farm_client"


@pytest.fixture
def generated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Generate a package from a description; a warning of the generator fails."""

    def make(description: str) -> ModuleType:
        target = tmp_path / NAME
        argv = [sys.executable, "-m", "openapi_python_client", "generate", "--url", description]
        argv += ["--output-path", str(target), "--meta", "none", "--fail-on-warning"]
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # noqa: TID251 - its ruff
        env = {**os.environ, "PATH": path}  # noqa: TID251 - a child's
        done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        monkeypatch.syspath_prepend(str(tmp_path))
        return importlib.import_module(NAME)

    yield make
    for name in [each for each in sys.modules if each.partition(".")[0] == NAME]:
        del sys.modules[name]


def test_a_generated_client_renders_a_video(
    cli: Cli, farm_up: Callable[..., dict[str, Any]], generated: Callable[..., ModuleType]
) -> None:
    """All its modules import; it submits, waits, looks, lists, downloads and reads a refusal."""
    cli.env["FARM_PUBLIC_URL"] = "https://farm.example.com"
    told = farm_up()
    url = told["url"]
    assert told["sign_in_url"].startswith("https://farm.example.com/sign-in/")
    made = generated(f"{url}/openapi/openapi.json")
    modules = [each.name for each in pkgutil.walk_packages(made.__path__, f"{NAME}.")]
    part = {name.removeprefix(f"{NAME}."): importlib.import_module(name) for name in modules}
    assert len(part) > 100
    key = cli.json("keys", "create")["token"]
    with made.AuthenticatedClient(base_url=url, token=key, timeout=httpx.Timeout(90)) as client:
        ask = part["models.job_body"].JobBody(prompt="a rocket rises", model="fake", seconds=1.0)
        once = {"idempotency_key": "once", "x_request_id": "generated.1"}
        submitted = part["api.jobs.jobs_submit"].sync_detailed(client=client, body=ask, **once)
        assert submitted.status_code == 202
        assert submitted.headers["X-Request-Id"] == "generated.1"
        job = submitted.parsed
        again = part["api.jobs.jobs_submit"].sync(
            client=client, body=ask, prefer="wait=60", idempotency_key="once"
        )
        assert (again.id, again.state, again.progress) == (job.id, "succeeded", 100)
        shown = part["api.jobs.jobs_show"].sync(job.id, client=client)
        assert shown.shots[0].frames == shown.frames_total
        assert shown.artifacts["video"].bytes_ > 0
        listed = part["api.jobs.jobs_list"].sync(client=client, limit=1)
        assert [type(each).__name__ for each in listed.data] == ["JobView"]
        video = part["api.jobs.jobs_video"].sync(job.id, client=client)
        assert video.payload.read(12)[4:8] == b"ftyp"
        link = part["api.links.links_create"].sync(
            job.id, client=client, body=part["models.link_body"].LinkBody()
        )
        assert link.url.startswith("https://farm.example.com/api/v1/shared/")
        receipt = part["api.jobs.jobs_receipt"].sync(job.id, client=client)
        assert receipt.final
        assert {line.kind for line in receipt.lines} >= {"parse", "render", "encode"}
        missing = part["api.jobs.jobs_show"].sync_detailed("job_none", client=client)
        assert missing.status_code == 404
        assert (missing.parsed.code, missing.parsed.next_.text != "") == ("not_found", True)
        assert missing.parsed.request_id == missing.headers["X-Request-Id"]
