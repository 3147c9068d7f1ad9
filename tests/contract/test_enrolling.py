"""Join tokens let in the devices and the number of workers they were made for."""

from hashlib import sha256

import pytest

from orchestrator.errors import BadRequest, NotAllowed, Unauthorized
from orchestrator.farm import Farm
from orchestrator.farm.accounts import keys
from orchestrator.farm.accounts.keys import Enrolling
from orchestrator.farm.kernel import audit_log
from orchestrator.farm.leases import fleet
from orchestrator.farm.leases import worker_calls as verbs
from orchestrator.model import Key
from orchestrator.remedies import CreateKey
from orchestrator.states import KeyKind
from orchestrator.wire import HelloAnswer, HelloRequest
from tests.contract.test_contention import _at_once as at_once
from tests.factories import Clock

SECRET = sha256(b"a standing token").hexdigest()


def hello(device_class: str = "cpu", name: str = "w") -> HelloRequest:
    """Return what a worker on such a device says."""
    return HelloRequest(
        name=name,
        host="h",
        device="d",
        device_class=device_class,
        memory_mb=1,
        kinds=(),
        models=(),
        fingerprint="f",
    )


def token(farm: Farm, *products: str, uses: int | None = 1, ttl: float | None = None) -> Key:
    """Make a join token and return its key."""
    terms = keys.enrolling(KeyKind.JOIN, products, uses)
    key, _ = keys.create(
        farm, account_id=None, kind=KeyKind.JOIN, name="j", ttl_seconds=ttl, enrols=terms
    )
    return key


def own(farm: Farm, answer: HelloAnswer) -> Key:
    """Return the key that a worker was given."""
    assert answer.worker_key
    return keys.resolve(farm, answer.worker_key)


def test_a_token_lets_in_its_device_classes_alone(farm: Farm) -> None:
    """Another class is refused with those allowed and what helps; it costs no use."""
    key = token(farm, "cpu", "NVIDIA L4")
    with pytest.raises(NotAllowed, match="cpu, nvidia-l4") as refused:
        verbs.hello(farm, key, hello("nvidia-h200"))
    assert refused.value.remedies == (CreateKey("join", "nvidia-h200"),)
    assert fleet.workers(farm) == []
    verbs.hello(farm, key, hello("nvidia-l4"))
    assert [worker.device_class for worker in fleet.workers(farm)] == ["nvidia-l4"]


@pytest.mark.parametrize("products", [("cpu",), ("cpu", "NVIDIA H200"), ("any",)])
def test_a_workers_key_is_bound_to_its_class(farm: Farm, products: tuple[str, ...]) -> None:
    """It comes back as what it is, and not as something dearer, whatever its token lets in."""
    key = own(farm, verbs.hello(farm, token(farm, *products), hello()))
    assert key.device_classes == ("cpu",)
    with pytest.raises(NotAllowed, match="class cpu"):
        verbs.hello(farm, key, hello("nvidia-h200"))
    assert verbs.hello(farm, key, hello()).worker_key is None
    assert [worker.device_class for worker in fleet.workers(farm)] == ["cpu"]


def test_a_token_is_used_once_unless_it_says_more(farm: Farm) -> None:
    """One, three, or any number; who came by it counts, and comes back without it."""
    once, thrice, often = (
        token(farm, "cpu"),
        token(farm, "cpu", uses=3),
        token(farm, "any", uses=None),
    )
    first = own(farm, verbs.hello(farm, once, hello()))
    with pytest.raises(NotAllowed, match="used up: it lets in 1 worker,"):
        verbs.hello(farm, once, hello())
    verbs.hello(farm, first, hello())
    for _ in range(3):
        verbs.hello(farm, thrice, hello())
    with pytest.raises(NotAllowed, match="3 workers"):
        verbs.hello(farm, thrice, hello())
    for device in ("cpu", "nvidia-h200", "abacus", "nvidia-l4"):
        verbs.hello(farm, often, hello(device))
    assert len(fleet.workers(farm)) == 1 + 3 + 4


def test_of_many_at_once_as_many_enrol_as_may(farm: Farm) -> None:
    """Eight workers with a token for two, at one moment: two get in, and two are there."""
    key = token(farm, "cpu", uses=2)
    found = at_once(*(lambda n=n: verbs.hello(farm, key, hello(name=f"w{n}")) for n in range(8)))
    assert sum(isinstance(each, HelloAnswer) for each in found) == 2, found
    assert sum(isinstance(each, NotAllowed) for each in found) == 6, found
    assert len(fleet.workers(farm)) == 2


def test_a_lost_answer_uses_no_token_twice(farm: Farm) -> None:
    """The same attempt is the same worker with a new key; what the lost one brought is no key."""
    key = token(farm, "cpu")
    asked = hello().model_copy(update={"attempt": "ab" * 32})
    lost, heard = verbs.hello(farm, key, asked), verbs.hello(farm, key, asked)
    assert heard.worker_id == lost.worker_id
    assert len(fleet.workers(farm)) == 1
    assert own(farm, heard).device_classes == ("cpu",)
    assert lost.worker_key
    with pytest.raises(Unauthorized):
        keys.resolve(farm, lost.worker_key)
    for other in (hello(), asked.model_copy(update={"attempt": "cd" * 32})):
        with pytest.raises(NotAllowed, match="used up"):
            verbs.hello(farm, key, other)
    both = token(farm, "cpu", "NVIDIA H200")
    cheap = verbs.hello(farm, both, asked)
    with pytest.raises(NotAllowed, match="class cpu"):
        verbs.hello(farm, both, asked.model_copy(update={"device_class": "nvidia-h200"}))
    assert own(farm, cheap).device_classes == ("cpu",), "a refused repeat ends no key"
    elsewhere = verbs.hello(farm, token(farm, "cpu"), asked)
    assert elsewhere.worker_id != heard.worker_id, "an attempt is one by its own token"


def test_one_attempt_at_once_is_one_worker(farm: Farm) -> None:
    """Eight repeats at one moment: one worker, and one of its keys lives."""
    key = token(farm, "cpu")
    asked = hello().model_copy(update={"attempt": "ab" * 32})
    found = at_once(*(lambda: verbs.hello(farm, key, asked) for _ in range(8)))
    assert all(isinstance(each, HelloAnswer) for each in found), found
    assert len(fleet.workers(farm)) == 1
    assert sum(k.revoked_at_ms is None for k in keys.listing(farm, None) if k.worker_id) == 1


def test_a_token_ends_even_while_it_is_used(farm: Farm, clock: Clock) -> None:
    """Its end counts where the worker is made, not only where the token is looked up."""
    key = token(farm, "cpu", uses=None, ttl=60)
    verbs.hello(farm, key, hello())
    clock.advance(61)
    with pytest.raises(NotAllowed):
        verbs.hello(farm, key, hello())
    other = token(farm, "cpu")
    keys.revoke(farm, None, other.id)
    with pytest.raises(NotAllowed):
        verbs.hello(farm, other, hello())


def test_a_standing_token_is_what_the_settings_say_now(farm: Farm) -> None:
    """Said again it keeps who came by it, and takes other classes and another number."""
    keys.admit(farm, SECRET, name="T", enrols=Enrolling(device_classes=("cpu",), uses=1))
    verbs.hello(farm, keys.resolve(farm, SECRET), hello())
    wider = Enrolling(device_classes=("cpu", "nvidia-l4"), uses=2)
    for _ in range(2):
        keys.admit(farm, SECRET, name="T", enrols=wider)
    verbs.hello(farm, keys.resolve(farm, SECRET), hello("nvidia-l4"))
    with pytest.raises(NotAllowed, match="used up"):
        verbs.hello(farm, keys.resolve(farm, SECRET), hello())


@pytest.mark.parametrize(
    ("kind", "products", "uses", "fault"),
    [
        (KeyKind.JOIN, None, 1, "names the device classes"),
        (KeyKind.JOIN, (), 1, "names the device classes"),
        (KeyKind.JOIN, ("cpu", " - "), 1, "must name a device class"),
        (KeyKind.USER, ("cpu",), None, "enrols no workers"),
        (KeyKind.ADMIN, None, 3, "enrols no workers"),
    ],
)
def test_terms_that_are_none_are_refused(
    kind: KeyKind, products: tuple[str, ...] | None, uses: int | None, fault: str
) -> None:
    """A join token without classes is none, and other keys have neither."""
    with pytest.raises(BadRequest, match=fault):
        keys.enrolling(kind, products, uses)


def test_the_audit_log_says_what_a_token_lets_in(farm: Farm) -> None:
    """Whoever looks sees the classes and the number."""
    token(farm, "NVIDIA L4", uses=None)
    newest = audit_log.listing(farm, limit=1).items[0]
    assert (newest.data["device_classes"], newest.data["uses"]) == (["nvidia-l4"], "any")


def test_no_other_key_enrols(farm: Farm) -> None:
    """A worker's key whose worker is not there is none, nor is a token nobody made."""
    key, _ = keys.create(farm, account_id=None, kind=KeyKind.WORKER, name="w")
    with pytest.raises(NotAllowed):
        verbs.hello(farm, key, hello())
    with pytest.raises(Unauthorized):
        keys.resolve(farm, SECRET)
