"""Open streams: they end with their job, with their key, and with their browser's sign-in."""

import contextvars
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
import psutil
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event
from werkzeug.test import TestResponse

from orchestrator.farm import Farm, jobs
from orchestrator.farm.accounts import keys
from orchestrator.farm.jobs import deleting
from orchestrator.farm.leases import fleet
from orchestrator.model import Job
from orchestrator.settings import Settings
from orchestrator.states import KeyKind
from tests.factories import Clock, Hand, account_id, submit
from tests.web.conftest import until
from web import streams
from web.app import create_app

ROOT = Path(__file__).parent.parent.parent


def watched(app: Flask, token: str, job: Job) -> tuple[TestResponse, Iterator[bytes]]:
    """Return a job page's stream, after its first message, in a browser that signed in by a key."""
    client = app.test_client()
    app.config["WTF_CSRF_ENABLED"] = False
    assert client.post("/sign-in", data={"token": token}).status_code == 303
    answer = client.get(f"/jobs/{job.id}/live")
    stream = answer.iter_encoded()
    assert next(stream).startswith(b"retry")
    return answer, stream


def test_a_revoked_keys_stream_ends(app: Flask, web_farm: Farm) -> None:
    """Nothing that happens after the revocation is told."""
    job = submit(web_farm)
    row, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.READ, name="r")
    headers = {"Authorization": f"Bearer {token}"}
    answer = app.test_client().get(f"/api/v1/jobs/{job.id}/events", headers=headers)
    stream = answer.iter_encoded()
    assert next(stream).startswith(b"retry")
    assert b'"queued"' in next(stream)
    keys.revoke(web_farm, None, row.id)
    jobs.cancel(web_farm, None, job.id)
    assert b"cancelled" not in b"".join(stream)
    answer.close()


def test_a_signed_out_browsers_stream_ends(app: Flask, web_farm: Farm) -> None:
    """A page that was opened with a key hears nothing after the key's end."""
    job = submit(web_farm)
    row, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.USER, name="u")
    answer, stream = watched(app, token, job)
    assert b"id: " in next(stream)
    keys.revoke(web_farm, None, row.id)
    jobs.cancel(web_farm, None, job.id)
    assert b"".join(stream) == b""
    answer.close()


def test_a_page_follows_its_jobs_place_in_line(app: Flask, web_farm: Farm, clock: Clock) -> None:
    """A queued job's page is drawn anew when another job makes way, though nothing befell it."""
    Hand(web_farm, clock)
    first, second = submit(web_farm), submit(web_farm)
    _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.USER, name="u")
    answer, stream = watched(app, token, second)
    assert b"1 job ahead" in next(stream)
    jobs.cancel(web_farm, None, first.id)
    assert b"it is next" in next(stream)
    answer.close()


def test_a_page_hears_that_the_farm_was_frozen_and_thawed(app: Flask, web_farm: Farm) -> None:
    """The reason of a wait changes without an event of its own, and the page says so at once."""
    job = submit(web_farm)
    _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.USER, name="u")
    answer, stream = watched(app, token, job)
    assert b"id: " in next(stream)
    sentence = b"The operator has stopped all spending"
    fleet.freeze(web_farm, frozen=True)
    assert sentence in next(stream)
    fleet.freeze(web_farm, frozen=False)
    thawed = next(stream)
    assert b"#meter" in thawed
    assert sentence not in thawed
    answer.close()


def test_a_deleted_jobs_stream_ends(api: FlaskClient, web_farm: Farm) -> None:
    """Without an error in it, whoever deleted the job."""
    job = submit(web_farm)
    answer = api.get(f"/api/v1/jobs/{job.id}/events")
    stream = answer.iter_encoded()
    assert next(stream).startswith(b"retry")
    assert b'"queued"' in next(stream)
    jobs.cancel(web_farm, None, job.id)
    deleting.delete(web_farm, None, job.id)
    assert b"".join(stream) == b""
    answer.close()


def test_a_stream_without_anything_to_come_is_a_204(
    api: FlaskClient, web_farm: Farm, clock: Clock
) -> None:
    """An EventSource that has heard the end would otherwise connect again for ever."""
    job = submit(web_farm)
    path = f"/api/v1/jobs/{job.id}/events"
    Hand(web_farm, clock).work_off()
    whole = api.get(path).text
    last = max(int(line[4:]) for line in whole.splitlines() if line.startswith("id: "))
    assert last == jobs.events(web_farm, (job.id,), after=0)[-1].id, "what comes with the end too"
    answer = api.get(path, headers={"Last-Event-ID": str(last)})
    assert (answer.status_code, answer.data) == (204, b"")


@contextmanager
def counted(web_farm: Farm) -> Iterator[list[str]]:
    """Yield the statements that this thread sends to the database."""
    seen: list[str] = []
    own, engine = threading.get_ident(), web_farm.store.engine  # type: ignore[attr-defined]

    def note(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if threading.get_ident() == own:
            seen.append(statement)

    event.listen(engine, "before_cursor_execute", note)
    try:
        yield seen
    finally:
        event.remove(engine, "before_cursor_execute", note)


def opened(app: Flask, jobs_: list[Job], web_farm: Farm, count: int) -> list[streams.Stream]:
    """Return so many streams of these jobs in turn, each with a key of its own."""
    room: streams.Streams = app.extensions["streams"]
    found = []
    for number in range(count):
        key, _ = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.READ, name="r")
        job = jobs_[number % len(jobs_)]
        who, waits = key.id, "" if number % 2 else None
        found.append(room.open(job.id, 0, account=f"{number}", who=who, waits=waits))
    return found


def test_a_look_asks_the_same_for_any_number_of_streams(app: Flask, web_farm: Farm) -> None:
    """Events, waits and who may still read are one look of a few statements, not one a stream."""
    watched, asked = [submit(web_farm) for _ in range(3)], []
    room: streams.Streams = app.extensions["streams"]
    for count in (6, 60):
        own = streams.Streams(app, most=100)
        own._looker = threading.current_thread()  # nobody else looks
        app.extensions["streams"] = own
        many = opened(app, watched, web_farm, count)
        with app.app_context(), counted(web_farm) as seen:
            own.look()
        told = [each.wait() for each in many]
        assert all(news and news.events for news in told)
        asked.append(len(seen))
        for each in many:
            each.close()
        assert own.count() == 0
    app.extensions["streams"] = room
    assert asked[0] == asked[1], asked
    assert asked[1] < 30


def test_who_comes_during_a_look_hears_what_was_before(app: Flask, web_farm: Farm) -> None:
    """The next look begins behind what every stream has heard, not behind what was told."""
    job = submit(web_farm)
    room = app.extensions["streams"] = streams.Streams(app, most=100)
    room._looker = threading.current_thread()  # nobody else looks
    (first,) = opened(app, [job], web_farm, 1)
    late: list[streams.Stream] = []
    engine = web_farm.store.engine  # type: ignore[attr-defined]

    def come(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "events" in statement and not late:
            late.append(room.open(job.id, 0, account="late", who=first.who))

    event.listen(engine, "after_cursor_execute", come)
    try:
        with app.app_context():
            room.look()
            room.look()
    finally:
        event.remove(engine, "after_cursor_execute", come)
    assert late[0].after == first.after > 0
    for each in (first, *late):
        each.close()


def test_a_page_is_drawn_once_for_all_its_browsers(app: Flask, web_farm: Farm) -> None:
    """The second browser's message costs no statement, and has that browser's own token in it."""
    job = submit(web_farm)
    _, token = keys.create(web_farm, account_id=account_id(web_farm), kind=KeyKind.USER, name="u")
    browsers = [contextvars.Context() for _ in range(2)]  # as each greenlet has one of its own
    pages = [browser.run(watched, app, token, job) for browser in browsers]
    said, asked, tokens = [], [], []
    for browser, (answer, stream) in zip(browsers, pages, strict=True):
        with counted(web_farm) as seen:
            said.append(browser.run(next, stream).decode())
        asked.append(len(seen))
        tokens.append(set(re.findall(r'name="csrf_token" value="([^"]+)"', said[-1])))
        browser.run(answer.close)
    assert asked[0] > 0 == asked[1]
    assert len(tokens[0]) == len(tokens[1]) == 1
    assert tokens[0].isdisjoint(tokens[1]), "each browser's own"
    assert "\0" not in said[0] + said[1]


def test_an_account_has_so_many_streams_and_no_more(web_farm: Farm, tmp_path: Path) -> None:
    """One too many is a 429 that says when to come back, whichever key of the account asks."""
    config = Settings(home=tmp_path / "home", min_free_disk_mb=1, max_streams=3)
    app, job = create_app(web_farm, config, {"TESTING": True}), submit(web_farm)
    with ExitStack() as stack:
        for number in range(4):
            _, token = keys.create(
                web_farm, account_id=account_id(web_farm), kind=KeyKind.READ, name="r"
            )
            path = f"/api/v1/jobs/{job.id}/events"
            headers = {"Authorization": f"Bearer {token}"}
            browser = contextvars.Context()
            answer = browser.run(app.test_client().get, path, headers=headers)
            stack.callback(browser.run, answer.close)
            assert answer.status_code == (200 if number < 3 else 429)
        assert int(answer.headers["Retry-After"]) > 0
        assert answer.get_json()["code"] == "too_many_requests"
    assert app.extensions["streams"].count() == 0
    again = app.test_client().get(path, headers=headers)
    assert again.status_code == 200, "closed ones count no more"
    again.close()


def test_who_hangs_up_while_waiting_for_an_end_is_let_go_at_once(
    served: tuple[str, str, str],
) -> None:
    """As many as may wait, hang up one after the other: none is counted against the next."""
    url, token, job_id = served
    at = ("127.0.0.1", int(url.rpartition(":")[2]))
    asked = f"GET /api/v1/jobs/{job_id} HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"
    asked += "Host: localhost\r\nPrefer: wait=60\r\n\r\n"
    most = Settings().max_streams

    def status() -> int:
        headers = {"Authorization": f"Bearer {token}", "Prefer": "wait=1"}
        return httpx.get(f"{url}/api/v1/jobs/{job_id}", headers=headers, timeout=30).status_code

    with ExitStack() as stack:
        for _ in range(most):
            stack.enter_context(socket.create_connection(at)).sendall(asked.encode())
        until(lambda: status() == 429, seconds=30)
    until(lambda: status() == 200, seconds=30)


def test_a_client_that_hangs_up_is_let_go_at_once(served: tuple[str, str, str]) -> None:
    """Its descriptor is closed before a word was written to it that would have told."""
    url, token, job_id = served
    port = int(url.rpartition(":")[2])
    (web,) = [
        each
        for each in psutil.Process().children(recursive=True)
        if each.ppid() != psutil.Process().pid
        and any(c.laddr.port == port for c in each.net_connections("tcp"))
    ]
    before = web.num_fds()
    clients = [socket.create_connection(("127.0.0.1", port)) for _ in range(20)]
    for client in clients:
        asked = f"GET /api/v1/jobs/{job_id}/events HTTP/1.1\r\nAuthorization: Bearer {token}\r\n"
        client.sendall(f"{asked}Host: localhost\r\n\r\n".encode())
        client.settimeout(60)
        said = b""
        while b"event: state" not in said:
            said += client.recv(1 << 16)
    assert web.num_fds() >= before + len(clients)
    for client in clients:
        client.close()
    assert streams.COMMENT_SECONDS > 10, "nothing is written sooner"
    until(lambda: web.num_fds() <= before, seconds=10)


LANES = """
from gevent import monkey; monkey.patch_all()
import gevent
from orchestrator.farm.accounts import opening
from orchestrator.settings import Settings
from orchestrator.wiring import farm_from
from web import threads
from web.app import create_app
wait = monkey.get_original("threading", "Event")()
config = Settings()
farm = farm_from(config)
opening.open_home(farm)
app = create_app(farm, config)
def page():
    with app.test_request_context("/"):
        return threads.in_thread(lambda: wait.wait(60))
pages = [gevent.spawn(page) for _ in range(100)]
gevent.sleep(0.2)
with app.test_request_context("/worker/v1/heartbeat"):
    threads.serve_workers()
    store = app.extensions["farm"].store
    def beat():
        with store.write() as tx:
            return tx.fact("epoch", int)
    print("epoch", threads.in_thread(beat), sum(each.ready() for each in pages))
wait.set()
gevent.joinall(pages)
"""


def test_a_workers_call_does_not_wait_behind_pages(tmp_path: Path) -> None:
    """It is served while every thread of the pages is busy and a hundred stand in line."""
    done = subprocess.run(
        [sys.executable, "-c", LANES],
        cwd=ROOT,
        env={"FARM_HOME": str(tmp_path / "home"), "PATH": ""},
        capture_output=True,
        text=True,
        check=True,
        timeout=45,
    )
    assert done.stdout.split() == ["epoch", "1", "0"], done.stderr
