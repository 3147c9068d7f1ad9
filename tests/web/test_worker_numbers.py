"""Every number of the worker protocol has its bounds: beyond them is a 422 that names the field."""

import json
import math
from collections.abc import Iterator
from inspect import getmembers, isclass
from itertools import pairwise
from typing import Any, Final

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator import wire
from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.model import Entry, Json, Pace
from orchestrator.receipt import Message
from orchestrator.states import EntryKind, KeyKind, UnitKind
from tests.factories import Clock, Hand, account_id, brief, submit

Path = tuple[str | int, ...]

RECEIPT: Final[Json] = {
    "gpu_ms": 3,
    "by_stage": {"decode": 3},
    "host_ms": {"fetch": 1},
    "artifacts": [{"name": "video.mp4", "sha256": "ab" * 32, "bytes": 9}],
}
LEASE: Final[Json] = {"lease_id": "les_1", "fence": 1}
PACE: Final[Json] = {
    "model": "fake",
    "model_version": "1",
    "width": 64,
    "height": 64,
    "micro_batch": 4,
    "step_ms": 80.5,
    "decode_ms": 2,
}
BODIES: Final[dict[str, Json]] = {
    "hello": {
        "name": "w",
        "host": "h",
        "device": "cpu",
        "device_class": "cpu",
        "memory_mb": 1,
        "kinds": ["render"],
        "models": ["fake"],
        "fingerprint": "f",
        "versions": {"torch": "2"},
    },
    "claim": {},
    "heartbeat": {"leases": [{**LEASE, "sequence": 1, "gpu_ms": 1}], "paces": [PACE]},
    "complete": {**LEASE, "outcome": "done", "receipt": RECEIPT, "claim_next": False},
    "release": LEASE,
}
"""A good body of each call."""
REQUESTS: Final = {
    name.removesuffix("Request").lower(): kind
    for name, kind in getmembers(wire, isclass)
    if issubclass(kind, Message) and name.endswith("Request")
}


def numbers(schema: Json, root: Json, at: Path = ()) -> Iterator[Path]:
    """Yield the place of each number of a message; the plan's are all those of the quoted one."""
    schema = root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    if at[-1:] == ("render_plan",):
        return
    for choice in schema.get("anyOf", ()):
        yield from numbers(choice, root, at)
    if schema.get("type") in ("integer", "number"):
        yield at
    for name, part in schema.get("properties", {}).items():
        yield from numbers(part, root, (*at, name))
    if isinstance(items := schema.get("items"), dict):
        yield from numbers(items, root, (*at, 0))
    if isinstance(values := schema.get("additionalProperties"), dict):
        yield from numbers(values, root, (*at, "fetch"))


NUMBERS: Final = [
    (call, at)
    for call, kind in REQUESTS.items()
    for at in numbers(kind.model_json_schema(), kind.model_json_schema())
]
ABSURD: Final[tuple[object, ...]] = (
    -1, -(10**30), 10**13 * 10**3, 2**63, 10**30, 10**400, -0.5, 1e300,
    float("nan"), float("inf"), float("-inf"), True, False, "1", "0.5", [1],
)  # fmt: skip


def changed(call: str, at: Path, number: object) -> str:
    """Return the body of a call with another number at a place, as JSON."""
    body = json.loads(json.dumps(BODIES[call]))
    place: Any = body
    for step, after in pairwise(at):
        place = place[step] if isinstance(step, int) else place.setdefault(step, {})
        assert isinstance(place, list if isinstance(after, int) else dict)
    place[at[-1]] = number
    return json.dumps(body)


@pytest.fixture
def worker(app: Flask, web_farm: Farm, clock: Clock) -> FlaskClient:
    """A client with a worker's own key."""
    hand = Hand(web_farm, clock)
    _, token = keys.create(
        web_farm, account_id=None, kind=KeyKind.WORKER, name="w", worker_id=hand.id
    )
    client = app.test_client()
    client.environ_base["HTTP_AUTHORIZATION"] = f"Bearer {token}"
    return client


def test_every_call_is_looked_at() -> None:
    """A new request comes with a good body here, and the walk finds numbers in each."""
    assert set(REQUESTS) == set(BODIES) == {call for call, _ in NUMBERS}
    assert ("complete", ("receipt", "by_stage", "fetch")) in NUMBERS
    assert ("complete", ("receipt", "artifacts", 0, "bytes")) in NUMBERS
    assert ("heartbeat", ("paces", 0, "step_ms")) in NUMBERS
    assert len(NUMBERS) >= 20


def named(problem: Json, field: str, number: object) -> bool:
    """Tell whether a refusal names the field; NaN and infinities are no JSON in the first place."""
    if isinstance(number, float) and not math.isfinite(number):
        return "is not JSON" in problem["detail"]
    return any(field in fault["field"] for fault in problem["errors"])


@pytest.mark.parametrize(("call", "at"), NUMBERS, ids=str)
def test_an_absurd_number_is_refused_by_its_name(worker: FlaskClient, call: str, at: Path) -> None:
    """422 with the field, never a 500: below nothing, beyond SQL, no number at all."""
    name = next(str(step) for step in reversed(at) if isinstance(step, str))
    for number in ABSURD:
        answer = worker.post(f"/worker/v1/{call}", data=changed(call, at, number))
        assert answer.status_code == 422, (number, answer.get_json())
        assert named(answer.get_json(), name, number), number


@pytest.mark.parametrize("number", [0, -0.0, 1e-9, 10**9, -5, math.nan, math.inf])
@pytest.mark.parametrize("field", ["step_ms", "decode_ms"])
def test_a_pace_that_no_device_has_is_refused(
    worker: FlaskClient, web_farm: Farm, field: str, number: object
) -> None:
    """422 by its name; no pace is kept, nothing is charged, and the worker's next beat is taken."""
    before = estimated(web_farm)
    at = ("paces", 0, field)
    answer = worker.post("/worker/v1/heartbeat", data=changed("heartbeat", at, number))
    assert answer.status_code == 422
    assert named(answer.get_json(), field, number)
    assert estimated(web_farm) == before
    with web_farm.store.read() as tx:
        assert tx.find(Pace) == []
        assert {entry.kind for entry in tx.find(Entry)} <= {EntryKind.GRANT}
    good = worker.post("/worker/v1/heartbeat", data=json.dumps(BODIES["heartbeat"]))
    assert good.status_code == 200
    assert estimated(web_farm) != before


def estimated(farm: Farm) -> tuple[int, str]:
    """Return a quote's p50 and its basis."""
    mine = account_id(farm)
    told = jobs.estimate(farm, account_id=mine, session_id=None, brief=brief()).quote
    return told.p50_gpu_ms, told.basis


@given(st.sampled_from(NUMBERS), st.one_of(st.integers(), st.floats(), st.integers(-9, 10**20)))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_no_number_breaks_the_farm(
    worker: FlaskClient, field: tuple[str, Path], number: float
) -> None:
    """Whatever number stands anywhere: taken, or refused with a code below 500."""
    call, at = field
    if at == ("wait_seconds",):
        number = min(number, 0) if number == number else number
    answer = worker.post(f"/worker/v1/{call}", data=changed(call, at, number))
    assert answer.status_code < 500, (call, at, number, answer.get_json())


@pytest.mark.parametrize("number", ABSURD)
def test_a_plan_of_other_numbers_is_not_the_quoted_one(
    worker: FlaskClient, web_farm: Farm, clock: Clock, number: object
) -> None:
    """Its digest says so of every number in it, those that are none too."""
    submit(web_farm)
    hand = Hand(web_farm, clock)
    order = hand.claim()
    assert order and order.work.kind is UnitKind.PARSE
    _, token = keys.create(
        web_farm, account_id=None, kind=KeyKind.WORKER, name="w", worker_id=hand.id
    )
    body = {
        "lease_id": order.lease_id,
        "fence": order.fence,
        "outcome": "done",
        "receipt": {"gpu_ms": 0},
        "render_plan": wire.CompleteRequest(
            lease_id="l",
            fence=0,
            outcome="done",
            receipt={"gpu_ms": 0},
            render_plan=hand.plan(order),
        ).model_dump(mode="json")["render_plan"],
    }
    for field in ("steps", "guidance_scale", "seed", "fps"):
        plan = body["render_plan"] | {field: number}
        answer = worker.post(
            "/worker/v1/complete",
            data=json.dumps(body | {"render_plan": plan}),
            headers={"Authorization": f"Bearer {token}"},
        )
        assert answer.status_code == 422, (field, answer.get_json())
