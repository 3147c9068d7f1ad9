"""Webhooks as rows: what is written when, and what comes of each try."""

import json
from itertools import pairwise

import pytest

from orchestrator.errors import BadRequest, BudgetExceeded, Conflict, NotFound
from orchestrator.farm import Farm, jobs, webhook_queue
from orchestrator.farm.accounts import sessions
from orchestrator.farm.leases import reconcile
from orchestrator.model import Account, Delivery, Handling, Webhook
from orchestrator.states import Cause, DeliveryState, Outcome, WebhookState
from tests.factories import Clock, Hand, account_id, brief, submit

URL = "https://hooks.example.com/farm"


def make(farm: Farm, *kinds: str, operator: bool = False) -> Webhook:
    """Register an endpoint of the home account."""
    asked = kinds or ("*",)
    return webhook_queue.create(
        farm, account_id=account_id(farm), url=URL, kinds=asked, operator=operator
    )


def sent(farm: Farm, webhook: Webhook) -> list[Delivery]:
    """Return an endpoint's messages, oldest first."""
    return list(reversed(webhook_queue.deliveries(farm, None, webhook.id, limit=200).items))


def fail(farm: Farm, message: Delivery, status: int | None = 500) -> Delivery:
    """Note a try that was answered so."""
    after = webhook_queue.tried(farm, message.id, status=status, error="", milliseconds=1)
    assert after
    return after


def test_a_jobs_life_is_told_in_order(farm: Farm, clock: Clock) -> None:
    """Each state of a job is one message, with the job as it was then."""
    webhook = make(farm)
    job = submit(farm)
    Hand(farm, clock).work_off()
    messages = sent(farm, webhook)
    assert [m.kind for m in messages] == [
        f"job.{state}" for state in ("queued", "parsing", "rendering", "encoding", "succeeded")
    ]
    last = json.loads(messages[-1].body)
    assert (last["type"], last["data"]["id"]) == ("job.succeeded", job.id)
    assert last["data"]["usage"]["gpu_seconds"] > 0
    assert last["timestamp"].endswith("+00:00")


def test_an_endpoint_hears_what_it_asked_for_of_its_own_account(farm: Farm, clock: Clock) -> None:
    """Kinds choose, and another account's endpoint hears nothing."""
    with farm.store.write() as tx:
        tx.add(
            Account(
                id="acc_other",
                name="o",
                plan="free",
                default_session_id="ses_none",
                created_at_ms=0,
            )
        )
    other = webhook_queue.create(farm, account_id="acc_other", url=URL)
    some = make(farm, "job.succeeded", "job.failed")
    group = make(farm, "job.*")
    none = make(farm, "budget.threshold")
    submit(farm)
    Hand(farm, clock).work_off()
    assert [m.kind for m in sent(farm, some)] == ["job.succeeded"]
    assert len(sent(farm, group)) == 5
    assert sent(farm, none) == sent(farm, other) == []
    with pytest.raises(NotFound):
        webhook_queue.deliveries(farm, "acc_other", some.id)


def test_what_did_not_happen_is_not_told(farm: Farm) -> None:
    """A transaction that fails writes no message either."""
    webhook = make(farm)
    sessions.create(farm, account_id=account_id(farm), name="poor", budget_gpu_ms=1)
    with pytest.raises(BudgetExceeded):
        submit(farm, session="poor")
    assert sent(farm, webhook) == []


def test_a_jobs_own_url_hears_of_that_job_alone(farm: Farm, clock: Clock) -> None:
    """`webhook_url` makes an endpoint once, and other jobs do not reach it."""
    asked = {"account_id": account_id(farm), "session_id": None, "brief": brief()}
    first = jobs.submit(farm, **asked, handling=Handling(webhook_url=URL))
    again = jobs.submit(farm, **asked, handling=Handling(webhook_url=URL))
    plain = jobs.submit(farm, **asked)
    assert first.webhook_secret
    assert again.webhook_secret is None
    assert first.job.webhook_id == again.job.webhook_id
    assert first.job.webhook_id
    Hand(farm, clock).work_off()
    told = [
        json.loads(m.body)["data"]["id"]
        for m in sent(farm, webhook_queue.get(farm, None, first.job.webhook_id))
    ]
    assert set(told) == {first.job.id, again.job.id}
    assert plain.job.webhook_id is None


def test_trouble_with_workers_is_told_to_operators(farm: Farm, clock: Clock) -> None:
    """A worker that is quarantined or gone is told to endpoints that an operator made."""
    operator, owner = make(farm, "worker.*", operator=True), make(farm, "worker.*")
    hand = Hand(farm, clock)
    for number in range(3):
        name = f"s{number}"
        sessions.create(farm, account_id=account_id(farm), name=name, budget_gpu_ms=100_000)
        submit(farm, session=name)
    while order := hand.claim():
        hand.complete(order, Outcome.FAILED, cause=Cause.WORKER)
    Hand(farm, clock, "silent")
    clock.advance(100)
    reconcile.reconcile(farm)
    assert [m.kind for m in sent(farm, operator)] == ["worker.quarantined", "worker.gone"]
    assert sent(farm, owner) == []


def test_a_budget_that_is_used_up_is_told(farm: Farm, clock: Clock) -> None:
    """Each threshold that a budget passes is one message, in seconds, with its per cent."""
    webhook = make(farm, "budget.*")
    limit = submit(farm).held_gpu_ms + 1
    sessions.create(farm, account_id=account_id(farm), name="small", budget_gpu_ms=limit)
    submit(farm, session="small")
    hand = Hand(farm, clock)
    while order := hand.claim():
        hand.done(order, gpu_ms=10**6, seconds=20)
    told = [json.loads(m.body)["data"] for m in sent(farm, webhook)]
    assert told
    assert {m.kind for m in sent(farm, webhook)} == {"budget.threshold"}
    assert [t["percent"] for t in told] == sorted({t["percent"] for t in told})
    assert told[-1]["limit_gpu_seconds"] == limit / 1000


def test_ten_tries_over_three_days(farm: Farm, clock: Clock) -> None:
    """A message that is never taken is tried ten times, over 75 hours give or take a tenth."""
    webhook = make(farm, "job.queued")
    submit(farm)
    (message,) = sent(farm, webhook)
    began, times = clock.now_ms, []
    while message.state is DeliveryState.PENDING:
        clock.now_ms = message.next_at_ms
        assert [m.id for _, m in webhook_queue.due(farm, {}, 10)] == [message.id]
        times.append(clock.now_ms)
        message = fail(farm, message)
    waits = [b - a for a, b in pairwise(times)]
    assert len(times) == 10
    assert all(
        0.9 <= wait / (1000 * plain) <= 1.1
        for wait, plain in zip(waits, webhook_queue.WAITS_SECONDS, strict=True)
    )
    assert 0.9 * 75 <= (times[-1] - began) / 3_600_000 <= 1.1 * 76
    assert (
        len({wait / plain for wait, plain in zip(waits, webhook_queue.WAITS_SECONDS, strict=True)})
        == 9
    )
    assert message.state is DeliveryState.FAILED
    assert [t.status for t in message.tries] == [500] * 10
    assert webhook_queue.due(farm, {}, 10) == []


def test_gone_disables_the_endpoint(farm: Farm) -> None:
    """A 410 ends the message, the endpoint and what was waiting, until it is enabled again."""
    webhook = make(farm, "job.queued")
    submit(farm)
    submit(farm)
    first, second = sent(farm, webhook)
    assert fail(farm, first, 410).state is DeliveryState.FAILED
    disabled = webhook_queue.get(farm, None, webhook.id)
    assert (disabled.state, bool(disabled.why)) == (WebhookState.DISABLED, True)
    assert webhook_queue.due(farm, {}, 10) == []
    submit(farm)
    assert len(sent(farm, webhook)) == 2
    with pytest.raises(Conflict):
        webhook_queue.replay(farm, None, webhook.id, second.id)
    webhook_queue.enable(farm, None, webhook.id)
    webhook_queue.replay(farm, None, webhook.id, second.id)
    assert [m.id for _, m in webhook_queue.due(farm, {}, 10)] == [second.id]


def test_a_replay_keeps_id_and_bytes(farm: Farm) -> None:
    """A delivered message is sent again as it was, and its log goes on."""
    webhook = make(farm, "job.queued")
    submit(farm)
    (message,) = sent(farm, webhook)
    done = fail(farm, message, 200)
    assert done.state is DeliveryState.DELIVERED
    again = webhook_queue.replay(farm, None, webhook.id, message.id)
    assert (again.id, again.body, again.state) == (message.id, message.body, "pending")
    assert [t.status for t in fail(farm, again, 204).tries] == [200, 204]


def test_a_slow_endpoint_keeps_only_itself_waiting(farm: Farm) -> None:
    """One message of each endpoint is due at once, the oldest first; busy ones wait."""
    slow, quick = make(farm, "job.queued"), make(farm, "job.queued")
    for _ in range(3):
        submit(farm)
    found = webhook_queue.due(farm, {}, 10)
    assert {webhook.id: message.id for webhook, message in found} == {
        slow.id: sent(farm, slow)[0].id,
        quick.id: sent(farm, quick)[0].id,
    }
    assert [
        webhook.id for webhook, _ in webhook_queue.due(farm, {slow.id: slow.account_id}, 10)
    ] == [quick.id]


def test_two_secrets_sign_for_a_day_after_a_rotation(farm: Farm, clock: Clock) -> None:
    """A receiver has a day to learn the new secret."""
    webhook = make(farm)
    rotated = webhook_queue.rotate(farm, None, webhook.id)
    assert webhook_queue.signing_secrets(rotated, clock()) == (rotated.secret, webhook.secret)
    clock.advance(24 * 3600)
    assert webhook_queue.signing_secrets(rotated, clock()) == (rotated.secret,)
    assert webhook.secret not in repr(webhook)


def test_a_deleted_endpoint_is_gone(farm: Farm) -> None:
    """Nothing more is sent to it, and its secret is forgotten."""
    webhook = make(farm)
    submit(farm)
    webhook_queue.delete(farm, None, webhook.id)
    assert webhook_queue.due(farm, {}, 10) == []
    assert webhook_queue.listing(farm, None).items == ()
    for verb in (
        webhook_queue.get,
        webhook_queue.rotate,
        webhook_queue.enable,
        webhook_queue.test,
        webhook_queue.deliveries,
    ):
        with pytest.raises(NotFound):
            verb(farm, None, webhook.id)
    with farm.store.read() as tx:
        left = tx.get(Webhook, webhook.id)
    assert left
    assert left.secret == ""


def test_an_account_has_so_many_endpoints(farm: Farm) -> None:
    """The twenty-first is refused, and so is an event that there is none of."""
    for _ in range(webhook_queue.MOST_HOOKS):
        make(farm)
    with pytest.raises(Conflict):
        make(farm)
    with pytest.raises(BadRequest):
        make(farm, "job.exploded")


def test_the_log_is_forgotten_in_time(farm: Farm, clock: Clock) -> None:
    """Ended messages leave the log after a month, Idempotency-Keys after a week; others stay."""
    webhook = make(farm, "job.queued")
    submit(farm, key="k")
    submit(farm)
    first, second = sent(farm, webhook)
    fail(farm, first, 200)
    clock.advance(6.9 * 86_400)
    assert reconcile.forget(farm) == 0
    clock.advance(0.2 * 86_400)
    assert reconcile.forget(farm) == 1
    assert submit(farm, key="k").id not in (first.id, second.id)
    clock.advance(31 * 86_400)
    assert reconcile.forget(farm) == 2
    assert second.id in [m.id for m in sent(farm, webhook)]
    assert first.id not in [m.id for m in sent(farm, webhook)]


def test_one_accounts_endpoints_leave_room_for_the_others(farm: Farm, clock: Clock) -> None:
    """However many wait for one account, and however long, another one's message goes too."""
    with farm.store.write() as tx:
        tx.add(
            Account(
                id="acc_other",
                name="o",
                plan="free",
                default_session_id="ses_none",
                created_at_ms=0,
            )
        )
    crowd = [make(farm) for _ in range(webhook_queue.MOST_HOOKS)]
    submit(farm)
    clock.advance(3600)
    single = webhook_queue.create(farm, account_id="acc_other", url=URL)
    webhook_queue.test(farm, None, single.id)
    found = [webhook for webhook, _ in webhook_queue.due(farm, {}, webhook_queue.SHARE + 1)]
    assert single in found
    assert len(found) == webhook_queue.SHARE + 1
    owner = account_id(farm)
    busy = {webhook.id: owner for webhook in crowd[: webhook_queue.SHARE - 1]}
    assert len(webhook_queue.due(farm, busy, 9)) == 2, "one more of the crowd's, and the single one"
    busy |= {crowd[-1].id: owner}
    assert [webhook for webhook, _ in webhook_queue.due(farm, busy, 9)] == [single]


def test_a_job_chooses_what_its_url_is_told(farm: Farm, clock: Clock) -> None:
    """Of two jobs with one URL each has its own events; the payload has the job's labels."""
    asked = {"account_id": account_id(farm), "session_id": None, "brief": brief()}
    words = {"gpu_ms": "7", "shop": "north"}
    some = Handling(
        webhook_url=URL, webhook_events=("job.succeeded",), tags=("red",), metadata=words
    )
    quiet = jobs.submit(farm, **asked, handling=some).job
    loud = jobs.submit(farm, **asked, handling=Handling(webhook_url=URL)).job
    assert quiet.webhook_id == loud.webhook_id
    assert quiet.webhook_id
    Hand(farm, clock).work_off()
    told = [json.loads(m.body) for m in sent(farm, webhook_queue.get(farm, None, quiet.webhook_id))]
    of_quiet = [each for each in told if each["data"]["id"] == quiet.id]
    assert [each["type"] for each in of_quiet] == ["job.succeeded"]
    assert len(told) == 1 + 5
    assert of_quiet[0]["data"]["metadata"] == words, "a name of its owner's is no amount"
    assert of_quiet[0]["data"]["tags"] == ["red"]


@pytest.mark.parametrize("kind", ["job.exploded", "budget.threshold", "worker.*", "*", ""])
def test_a_job_is_refused_events_that_it_has_not(farm: Farm, kind: str) -> None:
    """The refusal names the field and lists the events there are; nothing is held."""
    handling = Handling(webhook_url=URL, webhook_events=("job.failed", kind))
    asked = {"account_id": account_id(farm), "session_id": None, "brief": brief()}
    with pytest.raises(BadRequest, match=r"webhook_events: .* job\.queued .* job\.\*"):
        jobs.submit(farm, **asked, handling=handling)
    assert jobs.listing(farm, None).items == ()
