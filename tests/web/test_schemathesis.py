"""The running farm against a machine that reads its description and tries to break it."""

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys, people
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from orchestrator.wiring import farm_from
from tests import depth
from tests.factories import Clock, Hand, account_id, submit

SECONDS = os.environ.get("SCHEMATHESIS_SECONDS")  # noqa: TID251 - of this test alone
SEED = os.environ.get("SCHEMATHESIS_SEED", "20261123")  # noqa: TID251
"""One search, always the same; others are for whoever looks for more."""
CONFIG = Path(__file__).with_name("schemathesis.toml")
WEBHOOKS = Path(__file__).with_name("schemathesis_hooks.py")
OFTEN = 0.7
"""The share of calls that are about something that is there."""


@pytest.mark.slow(100)
@pytest.mark.core
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("kind", [KeyKind.USER, KeyKind.ADMIN])
def test_no_request_breaks_the_farm(
    served: tuple[str, str, str], tmp_path: Path, kind: KeyKind, pytestconfig: pytest.Config
) -> None:
    """Every call, with data that fits its schema and data that does not: no 5xx, no surprise."""
    url, seconds = served[0], int(SECONDS or depth.of(pytestconfig).fuzz_seconds)
    farm = farm_from(Settings(home=tmp_path / "home", fake_model=True))
    own, token = keys.create(farm, account_id=account_id(farm), kind=kind, name="schemathesis")
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        f'hooks = "{WEBHOOKS}"\n{CONFIG.read_text(encoding="utf-8")}\n'
        + _known(_furnished(farm, tmp_path / "home", url, token)),
        encoding="utf-8",
    )
    argv = [
        *(str(Path(sys.executable).parent / "st"), "--config-file", str(config)),
        *("run", f"{url}/openapi/openapi.json", "--seed", SEED, "--max-time", str(seconds)),
        *("--header", f"Authorization: Bearer {token}", "--checks", "all"),
        *("--request-timeout", "20", "--generation-database", "none"),
        *("--no-color", "--continue-on-failure"),
    ]
    env = {k: v for k, v in os.environ.items() if not k.startswith("FARM_")}  # noqa: TID251
    env["SCHEMATHESIS_OWN_KEY"] = own.id
    done = subprocess.run(argv, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    assert token not in done.stdout
    assert keys.is_live(farm, own.id), "it asked to the end"
    farm.store.close()  # type: ignore[attr-defined]


def _known(things: Mapping[str, str]) -> str:
    """Return the lines of a configuration that tell of things that are there."""
    lines = []
    for name, value in things.items():
        where = name if name.startswith("body.") else f"path.{name}"
        lines += [f'[dictionaries."{name}"]', f'values = ["{value}"]']
        lines += [f'[parameters."{where}"]', f'dictionary = "{name}"', f"probability = {OFTEN}"]
    return "\n".join(lines)


def _furnished(farm: Farm, home: Path, url: str, token: str) -> dict[str, str]:
    """Make one of everything, and return what stands for it in an address."""
    clock = Clock()
    farm, owner = replace(farm, clock=clock), account_id(farm)
    hand = Hand(farm, clock)
    done = submit(farm)
    hand.work_off()
    done = jobs.get(farm, owner, done.id)
    for file in done.artifacts.values():
        path = home / "artifacts" / file.key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"what a worker would have made")
    bounds = keys.Bounds(gpu_ms=1_000)
    spare, _ = keys.create(farm, account_id=owner, kind=KeyKind.USER, name="spare", bounds=bounds)
    person = people.add(farm, account_id=owner, name="ada", password="correct horse battery")
    api = httpx.Client(base_url=f"{url}/api/v1", headers={"Authorization": f"Bearer {token}"})
    webhook = api.post("/webhooks", json={"url": "https://hooks.example.com/a"}).json()
    sent = api.post(f"/webhooks/{webhook['id']}/test").json()
    link = api.post(f"/jobs/{done.id}/links", json={}).json()
    api.close()
    return {
        "job_id": done.id,
        "session_id": "default",
        "account_id": owner,
        "key_id": spare.id,
        "person_id": person.id,
        "webhook_id": webhook["id"],
        "delivery_id": sent["id"],
        "token": link["url"].rpartition("/")[2],
        "model_id": "fake",
        "worker_id": hand.id,
        "body.prompt": "a rocket rises",
        "body.session_id": "default",
        "body.model": "fake",
        "body.extends": done.id,
        "body.plan": "free",
        "body.account_id": owner,
        "body.url": webhook["url"],
        "body.webhook_url": webhook["url"],
    }
