"""The web process as it is run: gunicorn with gevent, streams and all."""

import threading
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.web import evil
from tests.web.conftest import until

STREAMS = 30


@pytest.mark.slow
def test_open_streams_keep_nobody_waiting(served: tuple[str, str, str]) -> None:
    """With thirty event streams open, the farm still answers and takes jobs."""
    url, token, job_id = served
    headers = {"Authorization": f"Bearer {token}"}

    def first_event(_: int) -> str:
        path = f"{url}/api/v1/jobs/{job_id}/events"
        with httpx.stream("GET", path, headers=headers, timeout=30) as stream:
            for line in stream.iter_lines():
                if line.startswith("event:"):
                    opened.append(line)
                    looked.wait(60)  # held open until the test has looked
                    return line
        return ""

    opened: list[str] = []
    looked = threading.Event()
    with ThreadPoolExecutor(STREAMS) as people:
        streams = [people.submit(first_event, n) for n in range(STREAMS)]
        try:
            until(lambda: len(opened) == STREAMS)
            health = httpx.get(f"{url}/healthz", timeout=30)
            body = {"prompt": "a cat", "model": "fake"}
            accepted = httpx.post(f"{url}/api/v1/jobs", json=body, headers=headers, timeout=30)
        finally:
            looked.set()
        assert [s.result(30) for s in streams] == ["event: state"] * STREAMS
    assert health.is_success
    assert accepted.status_code == 202


@pytest.mark.slow
def test_pictures_are_decoded_beside_the_server(served: tuple[str, str, str]) -> None:
    """Uploads at once are cleaned in children of the real web process; bad ones refused."""
    url, token, _ = served

    def upload(data: bytes) -> int:
        headers = {"Authorization": f"Bearer {token}"}
        files = {"file": ("a.png", data)}
        sent = {"purpose": "vision"}
        address = f"{url}/v1/files"
        return httpx.post(address, files=files, data=sent, headers=headers, timeout=60).status_code

    good, bad = evil.picture("JPEG", (1500, 1000)), evil.moving("WEBP")
    with ThreadPoolExecutor(4) as people:  # as many of one account may stand in line
        assert list(people.map(upload, [good, bad] * 3)) == [200, 400] * 3
