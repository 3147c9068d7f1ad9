"""No client makes the farm call its own network: not when it registers, not when it is called."""

import ipaddress
import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest
from flask.testing import FlaskClient

from orchestrator.farm import Farm, jobs, webhook_queue
from orchestrator.settings import networks
from orchestrator.states import DeliveryState
from orchestrator.webhooks.addresses import Rules
from orchestrator.webhooks.safe_http import Door, Refused
from orchestrator.webhooks.sender import Courier
from tests.factories import Clock, account_id, submit
from tests.receiver import Receiver, receiving
from tests.unit.test_addresses import EVIL_URLS, ODD_URLS

URLS = EVIL_URLS + ODD_URLS
MORE_ADDRESSES = [
    "127.0.0.53", "10.1.2.3", "172.20.0.1", "192.168.0.254", "169.254.170.2", "100.127.255.254",
    "198.19.255.255", "192.0.0.8", "192.0.0.170", "0.0.0.1", "225.0.0.1", "239.1.1.1",
    "250.1.1.1", "255.255.255.254", "168.63.129.16", "::2", "::ffff:10.0.0.1", "::ffff:8.8.8.8",
    "::8.8.8.8", "64:ff9b::10.0.0.1", "64:ff9b:1::1", "100:0:0:1::1", "2001:1::1", "2001:2::1",
    "2001:10::1", "2001:20::1", "2001:db8:ffff::1", "2002:c0a8:101::1",
    "2620:4f:8000::5efe:a00:1", "3fff:fff::1", "fc00::1", "fdff::1", "fe80::1", "febf::1",
    "fec0::1", "ff01::1", "ff05::2", "ffff::1", "5f00::1", "4000::1", "fe80::1%1",
    "2606:4700::1111%eth0", "2606:4700:0:0:0:5efe:7f00:1", "2606:4700:0:0:200:5efe:c0a8:101",
]  # fmt: skip


def addresses() -> list[str]:
    """Return every address that the corpus writes plainly, and more."""
    found = dict.fromkeys(MORE_ADDRESSES)
    for url in EVIL_URLS:
        try:
            host = urlsplit(url).hostname or ""
            found[str(ipaddress.ip_address(host))] = None
        except ValueError:
            continue
    return list(found)


ADDRESSES = addresses()
HERE = Rules(http=True, networks=networks("127.0.0.1/32"))


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A plain HTTP server."""
    with receiving() as server:
        yield server


def test_the_corpora_are_large() -> None:
    """There are more than a hundred and fifty URLs, and sixty addresses that a name can have."""
    assert len(set(URLS)) >= 150
    assert len(set(ADDRESSES)) >= 60


def test_no_evil_url_is_registered(api: FlaskClient, web_farm: Farm) -> None:
    """Neither as a webhook nor with a job; the answer is a 422, and nothing is written."""
    for url in URLS:
        for path, body in (
            ("/api/v1/webhooks", {"url": url}),
            ("/api/v1/jobs", {"prompt": "a cat", "webhook_url": url}),
        ):
            answer = api.post(path, json=body)
            assert answer.status_code == 422, (path, url, answer.text)
            assert answer.get_json()["next"]
        video = api.post("/v1/videos", json={"prompt": "a cat", "webhook_url": url})
        assert video.status_code == 400, (url, video.text)
    assert jobs.listing(web_farm, None).items == ()
    with web_farm.store.read() as tx:
        assert tx.find(webhook_queue.Webhook) == []


def test_no_evil_url_is_called(receiver: Receiver) -> None:
    """One that is in the database all the same is refused before its name is looked up."""
    asked: list[str] = []

    def resolver(host: str, _: int) -> list[str]:
        asked.append(host)
        return ["127.0.0.1"]

    door = Door(rules=Rules(), resolver=resolver)
    for url in URLS:
        with pytest.raises(Refused):
            door.post(url, b"{}", {})
    assert asked == []
    assert receiver.got == []


@pytest.mark.parametrize("beside", [[], ["8.8.8.8"], ["2606:4700::1111", "1.1.1.1"]])
def test_no_name_of_an_evil_address_is_called(beside: list[str]) -> None:
    """A name that has such an address, alone or behind public ones, is refused unconnected."""
    for address in ADDRESSES:
        door = Door(rules=Rules(), resolver=lambda *_, found=[*beside, address]: found)
        with pytest.raises(Refused, match="public"):
            door.post("https://hooks.example.com/", b"{}", {})


def test_a_webhook_that_is_moved_inside_is_not_called(
    web_farm: Farm, clock: Clock, receiver: Receiver
) -> None:
    """A name that was allowed at the first message and is not at the second gets none of it."""
    told = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.1", "169.254.169.254"]])
    door = Door(rules=HERE, resolver=lambda *_: next(told), timeout_seconds=20)
    courier = Courier(web_farm, door, leads=lambda: True, stopped=threading.Event())
    port = receiver.url.rpartition(":")[2]
    owner, url = account_id(web_farm), f"http://hooks.example.com:{port}/"
    webhook = webhook_queue.create(web_farm, account_id=owner, url=url, kinds=("job.queued",))
    for _ in range(3):
        submit(web_farm)
        clock.advance(1)
        for sender in courier.look():
            sender.join(30)
    assert len(receiver.got) == 1
    states = [sent.state for sent in webhook_queue.deliveries(web_farm, None, webhook.id).items]
    assert states.count(DeliveryState.DELIVERED) == 1
    errors = [
        note.error
        for sent in webhook_queue.deliveries(web_farm, None, webhook.id).items
        for note in sent.tries
        if note.error
    ]
    assert len(errors) == 2
    assert all("not a host of the public Internet" in error for error in errors)
