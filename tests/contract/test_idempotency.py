"""One Idempotency-Key, one effect: also for requests beside each other."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from orchestrator.errors import IdempotencyMismatch
from orchestrator.farm import Farm, Idempotency, jobs, webhook_queue
from orchestrator.farm.accounts import accounts, keys, sessions
from orchestrator.states import KeyKind
from tests.factories import account_id, brief

PROMISE = Idempotency(key="k", body_sha256="0" * 64)


def verbs(farm: Farm) -> dict[str, Callable[[Idempotency], str]]:
    """Return each verb that creates, as a function that returns the id of what it made."""
    owner = account_id(farm)
    url = "https://hooks.example.com/"
    return {
        "session": lambda promise: (
            sessions.create(
                farm, account_id=owner, name="s", budget_gpu_ms=1, idempotency=promise
            ).id
        ),
        "job": lambda promise: (
            jobs.submit(
                farm, account_id=owner, session_id=None, brief=brief(), idempotency=promise
            ).job.id
        ),
        "key": lambda promise: (
            keys.create_once(farm, promise, account_id=owner, kind=KeyKind.USER, name="n")[0].id
        ),
        "account": lambda promise: (
            accounts.create(farm, name="a", plan="free", by=owner, idempotency=promise).account.id
        ),
        "webhook": lambda promise: (
            webhook_queue.create(farm, account_id=owner, url=url, idempotency=promise).id
        ),
    }


@pytest.mark.parametrize("noun", ["session", "job", "key", "account", "webhook"])
def test_requests_beside_each_other_make_one_thing(farm: Farm, noun: str) -> None:
    """Eight at once with one key all get the same id; another body under it is refused."""
    make = verbs(farm)[noun]
    with ThreadPoolExecutor(8) as crowd:
        made = set(crowd.map(make, [PROMISE] * 8))
    assert len(made) == 1
    with pytest.raises(IdempotencyMismatch):
        make(Idempotency(key="k", body_sha256="1" * 64))
    if noun != "session":
        assert make(Idempotency(key="other", body_sha256="0" * 64)) not in made


def test_a_key_is_shown_once(farm: Farm) -> None:
    """A repeated request finds the key, not its token, which is not kept."""
    asked = {"account_id": account_id(farm), "kind": KeyKind.USER, "name": "n"}
    key, token = keys.create_once(farm, PROMISE, **asked)
    again, nothing = keys.create_once(farm, PROMISE, **asked)
    assert token
    assert (again.id, nothing) == (key.id, None)
    assert keys.resolve(farm, token).id == key.id
