"""An operator at the command line of a running farm: webhooks, policy, brake, log."""

from collections.abc import Callable
from typing import Any

import pytest
from standardwebhooks import Webhook

from tests.acceptance.conftest import Cli, until
from tests.receiver import receiving


@pytest.mark.slow(30)
def test_an_operator_is_told_judges_and_brakes(
    cli: Cli, farm_up: Callable[..., dict[str, Any]]
) -> None:
    """Messages arrive signed, a refused prompt is exit code 5, and the log has what was done."""
    cli.env |= {
        "FARM_WEBHOOK_HTTP": "1",
        "FARM_WEBHOOK_NETWORKS": "127.0.0.1/32",
        "FARM_POLICY_PROMPT": "tests.judges:no_cats",
    }
    farm_up()
    with receiving() as receiver:
        webhook = cli.json("webhooks", "create", receiver.url, "--event", "webhook.*")
        cli.json("webhooks", "test", webhook["id"])
        until(lambda: receiver.got)
        got = receiver.got[0]
        assert Webhook(webhook["secret"]).verify(got.body, got.headers)["type"] == "webhook.test"
        log = ("webhooks", "deliveries", webhook["id"])
        until(lambda: cli.json(*log)["data"][0]["state"] == "delivered")
        cli.json("webhooks", "replay", webhook["id"], cli.json(*log)["data"][0]["id"])
        until(lambda: len(receiver.got) == 2)
        assert receiver.got[1].headers["webhook-id"] == got.headers["webhook-id"]
    inside = cli("webhooks", "create", "http://10.0.0.1/")
    assert (inside.returncode, "public" in inside.stderr) == (2, True)
    refused = cli("render", "a cat runs", "--model", "fake", "-o", str(cli.home / "x.mp4"))
    assert (refused.returncode, "no cats" in refused.stderr) == (5, True)
    assert cli.json("freeze") == {"frozen": True}
    assert cli.json("freeze", "--off") == {"frozen": False}
    assert cli("webhooks", "delete", webhook["id"]).returncode == 0
    verbs = [audit_entry["verb"] for audit_entry in cli.json("audit", "-n", "4")["data"]]
    assert verbs == ["webhook.delete", "farm.thaw", "farm.freeze", "webhook.replay"]
