"""`farm keys` and `farm session` over HTTP: bounds, reopening, and the default session."""

import json

import pytest

from orchestrator.farm import Farm
from orchestrator.farm.accounts import allowances, keys, sessions
from tests.factories import account_id, submit
from tests.web.test_cli_money import Run, run

__all__ = ["run"]


def test_a_key_is_bound_listed_and_given_more(run: Run, web_farm: Farm) -> None:
    """`keys create` prints the token, `ls` what is left, `limit` gives another allowance."""
    asked = ("--kind", "submit", "--session", "default", "--gpu-seconds", "100", "--name", "n")
    code, token, _ = run("keys", "create", *asked)
    assert code == 0
    key = keys.resolve(web_farm, token.strip())
    held = submit(web_farm, asker=key).held_gpu_ms
    row = next(r for r in json.loads(run("keys", "ls", "--json")[1])["data"] if r["id"] == key.id)
    assert row["allowance"]["available_gpu_seconds"] == round(100 - held / 1000, 3)
    code, out, _ = run("keys", "ls")
    assert code == 0
    assert "ALLOWED" in out
    code, _, err = run("keys", "limit", key.id, "200")
    assert (code, "200" in err) == (0, True)
    assert allowances.of(web_farm, [key])[key.id].limit_gpu_ms == 200_000


@pytest.mark.parametrize("amount", ["0", "-5", "nan", "1e30", "1.0001", "much", ""])
def test_an_amount_that_is_none_makes_no_key(run: Run, web_farm: Farm, amount: str) -> None:
    """It is refused before anything is sent."""
    before = len(keys.listing(web_farm, None))
    assert run("keys", "create", "--kind", "submit", f"--gpu-seconds={amount}")[0] == 2
    assert run("keys", "limit", "key_none", amount)[0] == 2
    assert len(keys.listing(web_farm, None)) == before


def test_a_session_is_closed_reopened_and_made_the_default(run: Run, web_farm: Farm) -> None:
    """Closing the default one says what follows; a refusal says both ways on."""
    owner = account_id(web_farm)
    first = sessions.find(web_farm, owner, None)
    code, _, err = run("session", "close", "default")
    assert code == 0
    assert "account's default" in err
    assert f"farm session reopen {first.id}" in err
    sessions.create(web_farm, account_id=owner, name="other", budget_gpu_ms=10**6)
    _, _, err = run("quote", "a rocket", "--seconds", "2")
    assert "farm session reopen default" in err
    code, out, _ = run("session", "default", "other", "--json")
    assert (code, json.loads(out)["is_default"]) == (0, True)
    assert sessions.find(web_farm, owner, None).name == "other"
    code, out, _ = run("session", "reopen", "default", "--json")
    assert (code, json.loads(out)["state"]) == (0, "open")
    code, _, err = run("session", "close", "default")
    assert (code, "account's default" in err) == (0, False)
    code, _, err = run("session", "default", "default")
    assert (code, "farm session reopen default" in err) == (1, True)
