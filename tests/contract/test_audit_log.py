"""The audit log: no administrative action without its line, and no line changed."""

from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from orchestrator.errors import Conflict
from orchestrator.farm import Actor, Farm, jobs, webhook_queue
from orchestrator.farm.accounts import keys, opening, sessions
from orchestrator.farm.jobs import deleting
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.leases import fleet
from orchestrator.states import KeyKind
from orchestrator.store import Store
from tests.factories import Clock, Hand, account_id, submit


def test_every_administrative_verb_is_written_down(farm: Farm, clock: Clock) -> None:
    """An entry says who, what, to what, when and from where; in the transaction that does it."""
    hand = Hand(farm, clock)
    owner = account_id(farm)
    key, _ = keys.create(farm, account_id=owner, kind=KeyKind.USER, name="k")
    session = sessions.create(farm, account_id=owner, name="s", budget_gpu_ms=1000)
    webhook = webhook_queue.create(farm, account_id=owner, url="https://hooks.example.com/s3cret")
    theirs = replace(farm, actor=Actor(key_id="key_a", source="192.0.2.7"))
    verbs: dict[str, tuple[str, Callable[[], object]]] = {
        "key.revoke": (key.id, lambda: keys.revoke(theirs, None, key.id)),
        "session.top_up": (session.id, lambda: sessions.top_up(theirs, None, session.id, 500)),
        "session.close": (session.id, lambda: sessions.close(theirs, None, session.id)),
        "worker.drain": (hand.id, lambda: fleet.drain(theirs, hand.id)),
        "worker.admit": (hand.id, lambda: fleet.admit(theirs, hand.id)),
        "farm.freeze": ("farm", lambda: fleet.freeze(theirs, frozen=True)),
        "farm.thaw": ("farm", lambda: fleet.freeze(theirs, frozen=False)),
        "webhook.rotate": (webhook.id, lambda: webhook_queue.rotate(theirs, None, webhook.id)),
        "webhook.delete": (webhook.id, lambda: webhook_queue.delete(theirs, None, webhook.id)),
    }
    for verb, (target, act) in verbs.items():
        clock.advance(1)
        act()
        newest = audit_log.listing(farm, limit=1).items[0]
        assert (newest.verb, newest.target) == (verb, target)
        assert (newest.key_id, newest.source, newest.at_ms) == ("key_a", "192.0.2.7", clock())
    made = {audit_entry.verb for audit_entry in audit_log.listing(farm, limit=200).items}
    assert made >= {"key.create", "session.create", "webhook.create"}
    assert "s3cret" not in repr(audit_log.listing(farm, limit=200).items)
    (top_up,) = audit_log.listing(farm, kind="session.top_up").items
    assert top_up.data == {"gpu_ms": 500}


def test_what_an_operator_does_to_a_job_is_written_down(farm: Farm, clock: Clock) -> None:
    """Anybody's jobs and messages are an operator's to end; their owner leaves no line for it."""
    owner = account_id(farm)
    webhook = webhook_queue.create(farm, account_id=owner, url="https://hooks.example.com/")

    def act(scope: str | None) -> list[str]:
        before = {audit_entry.id for audit_entry in audit_log.listing(farm, limit=200).items}
        job = submit(farm)
        for verb in (jobs.pause, jobs.resume, jobs.cancel, deleting.delete):
            clock.advance(1)
            verb(farm, scope, job.id)
        message = webhook_queue.test(farm, scope, webhook.id)
        clock.advance(1)
        webhook_queue.replay(farm, scope, webhook.id, message.id)
        made = [
            audit_entry
            for audit_entry in audit_log.listing(farm, limit=200).items
            if audit_entry.id not in before
        ]
        assert {audit_entry.target for audit_entry in made} <= {job.id, webhook.id, message.id}
        assert {audit_entry.account_id for audit_entry in made} <= {owner}
        return sorted(audit_entry.verb for audit_entry in made)

    assert act(owner) == []
    assert act(None) == [
        *("job.cancel", "job.delete", "job.pause", "job.resume"),
        *("webhook.replay", "webhook.test"),
    ]


def test_what_was_not_done_is_not_written_down(farm: Farm) -> None:
    """A refused action, a repeated one and one that changes nothing leave no line."""
    owner = account_id(farm)
    key, _ = keys.create(farm, account_id=owner, kind=KeyKind.USER, name="k")
    keys.revoke(farm, None, key.id)
    before = audit_log.listing(farm, limit=200).items
    keys.revoke(farm, None, key.id)
    with pytest.raises(Conflict):
        sessions.create(farm, account_id=owner, name="default", budget_gpu_ms=1)
    assert audit_log.listing(farm, limit=200).items == before


def test_the_farms_own_keys_are_written_down(farm: Farm) -> None:
    """A start makes keys for itself, and its log says so."""
    token = opening.replace_key(
        farm, account_id=account_id(farm), kind=KeyKind.SIGNIN, name="browser"
    )
    assert audit_log.listing(farm).items[0].source == "farm"
    keys.redeem_signin(farm, token)
    assert audit_log.listing(farm).items[0].verb == "account.sign_in"
    assert token not in repr(audit_log.listing(farm, limit=200).items)


@pytest.mark.parametrize("change", ["UPDATE audit_log SET verb = 'x'", "DELETE FROM audit_log"])
def test_a_deed_cannot_be_changed(store: Store, farm: Farm, change: str) -> None:
    """A trigger refuses to change or delete what the log says."""
    assert audit_log.listing(farm).items
    with pytest.raises(DBAPIError, match="never changed"), store.engine.begin() as connection:
        connection.execute(text(change))


def test_a_closed_session_takes_no_jobs(farm: Farm) -> None:
    """A closed session refuses a new job, and closing again changes nothing."""
    session = sessions.create(farm, account_id=account_id(farm), name="s", budget_gpu_ms=10**6)
    closed = sessions.close(farm, None, session.id)
    assert sessions.close(farm, None, session.id) == closed
    with pytest.raises(Conflict):
        submit(farm, session="s")
