"""The processes of docker/compose.yaml, without a container engine.

Web and dispatcher on a real Postgres and a Valkey of their own with a password; two workers
with homes of their own that know the farm by its URL alone, one of them without the broker.
"""

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import av
import httpx
import pytest

from orchestrator.bootstrap import find_broker
from orchestrator.bootstrap.home import free_port
from orchestrator.farm import Farm, check
from orchestrator.farm.accounts import accounts, keys, opening
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from
from tests.acceptance.conftest import until

pytestmark = pytest.mark.slow(40)


@dataclass
class Cluster:
    """Processes that share nothing but a database, a broker and a URL."""

    folder: Path
    database_url: str
    url: str = ""
    children: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def secret(self, name: str, value: str) -> str:
        """Write a secret file and return its path."""
        file = self.folder / name
        file.touch(mode=0o600)
        file.write_text(value, encoding="utf-8")
        return str(file)

    def spawn(self, name: str, argv: list[str], **switches: str) -> None:
        """Start a process whose FARM_* are these alone, in a home of its own."""
        home = self.folder / name
        home.mkdir()
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}  # noqa: TID251 - a child's
        env = inherited | {"FARM_HOME": str(home), "FARM_FAKE_MODEL": "1", **switches}
        with (self.folder / f"{name}.log").open("wb") as output:
            self.children[name] = subprocess.Popen(argv, env=env, stdout=output, stderr=output)

    def stop(self) -> None:
        """Stop everything, the broker last."""
        for process in reversed(self.children.values()):
            process.terminate()
            process.wait(30)


@pytest.fixture
def cluster(postgres_url: str, tmp_path: Path) -> Iterator[Cluster]:
    """Valkey, web, dispatcher and two workers."""
    cluster = Cluster(tmp_path, postgres_url)
    broker, password = find_broker(), secrets.token_hex(8)
    assert broker
    broker_port, web_port = free_port("127.0.0.1"), free_port("127.0.0.1")
    conf = cluster.secret(
        "valkey.conf", f'bind 127.0.0.1\nport {broker_port}\nrequirepass {password}\nsave ""\n'
    )
    cluster.url = f"http://127.0.0.1:{web_port}"
    database = cluster.secret("database_url", postgres_url)
    broker_url = cluster.secret("broker_url", f"redis://:{password}@127.0.0.1:{broker_port}/0")
    join = cluster.secret("join_token", secrets.token_hex(20))
    python = sys.executable
    try:
        cluster.spawn("valkey", [broker, conf])
        cluster.spawn(
            "web",
            [
                *(python, "-m", "gunicorn", "web.app:create_app()", "--config=python:web.serving"),
                *(f"--bind=127.0.0.1:{web_port}", "--graceful-timeout=2"),
            ],
            FARM_DATABASE_URL_FILE=database,
            FARM_SECRET_KEY_FILE=cluster.secret("secret_key", secrets.token_hex(32)),
            FARM_JOIN_TOKEN_FILE=join,
        )
        until(lambda: _answers(cluster.url))
        cluster.spawn(
            "dispatcher",
            [python, "-m", "orchestrator.dispatcher"],
            FARM_DATABASE_URL_FILE=database,
            FARM_BROKER_URL_FILE=broker_url,
        )
        for name, options, switches in (
            ("celery", [], {"FARM_BROKER_URL_FILE": broker_url}),
            ("poller", ["--poll"], {}),
        ):
            home = str(tmp_path / name / "worker")
            argv = [python, "-m", "workers.entry", "--home", home, "--name", name, *options]
            cluster.spawn(
                name,
                argv,
                FARM_SERVER=cluster.url,
                FARM_JOIN_TOKEN_FILE=join,
                FARM_THREADS="1",
                **switches,
            )
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture
def core(cluster: Cluster) -> Iterator[Farm]:
    """The farm's verbs on the cluster's database."""
    farm = farm_from(Settings(database_url=cluster.database_url, fake_model=True), upgrade=False)  # type: ignore[arg-type]
    opening.open_home(farm)
    yield farm
    farm.store.close()  # type: ignore[attr-defined]


def test_hosts_that_share_only_a_url_render_one_job(
    cluster: Cluster, core: Farm, tmp_path: Path
) -> None:
    """One job is painted by both workers, joined from files that travelled by HTTP, and exact."""
    owner = accounts.first(core).id
    _, token = keys.create(core, account_id=owner, kind=KeyKind.USER, name="test")
    with httpx.Client(
        base_url=f"{cluster.url}/api/v1", headers={"Authorization": f"Bearer {token}"}
    ) as api:
        until(lambda: _ready(api) == {"celery", "poller"})
        body = {"prompt": "a rocket rises", "model": "fake", "seconds": 20}
        job = api.post("/jobs", json=body).raise_for_status().json()
        until(lambda: api.get(f"/jobs/{job['id']}").json()["state"] in ("succeeded", "failed"), 180)
        ended = api.get(f"/jobs/{job['id']}").json()
        receipt = api.get(f"/jobs/{job['id']}/receipt").json()
        video = api.get(f"/jobs/{job['id']}/video").raise_for_status().content
    assert ended["state"] == "succeeded", ended["error"]
    assert {line["worker"] for line in receipt["lines"]} == {"celery", "poller"}
    out = tmp_path / "out.mp4"
    out.write_bytes(video)
    with av.open(str(out)) as film:
        assert sum(1 for _ in film.decode(video=0)) == ended["frames_total"] == 240
    assert check.violations(core) == []


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=2).is_success
    except httpx.TransportError:
        return False


def _ready(api: httpx.Client) -> set[str]:
    workers = api.get("/workers").json()["data"]
    return {worker["name"] for worker in workers if worker["state"] == "active"}
