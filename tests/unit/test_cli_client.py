"""The CLI's HTTP client against a small real server."""

import json
import threading
from collections.abc import Iterator
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from orchestrator.cli import destination
from orchestrator.cli.client import Client
from orchestrator.cli.output import Problem, exit_code, problem
from orchestrator.cli.remedies import said
from orchestrator.errors import Unavailable
from orchestrator.remedies import Say, TopUp, UseKey

VIDEO = b"not really a video" * 1000


NEXT = {
    "code": "top_up",
    "text": "Top up.",
    "data": {"session_id": "ses_1", "session": "mine", "gpu_seconds": 2.5},
    "call": None,
}
ALSO = {"code": "of_a_newer_farm", "text": "Or pray.", "data": {"how": "often"}, "call": None}


class Farm(BaseHTTPRequestHandler):
    """Answers a few calls as the farm does."""

    promises: list[str]

    def do_GET(self) -> None:
        """A job with an ETag, a list of two pages, a file, refusals."""
        path, _, query = self.path.partition("?")
        if path == "/api/v1/jobs/one":
            unchanged = self.headers.get("If-None-Match") == '"one-1"'
            self._send(304 if unchanged else 200, {"id": "one"}, etag='"one-1"')
        elif path == "/api/v1/jobs":
            last = "after=x" in query
            page = {"data": [{"n": 2 if last else 1}], "next_cursor": None if last else "x"}
            self._send(200, page)
        elif path == "/video":
            self._send(200, VIDEO)
        elif path == "/api/v1/broken":
            told = {"code": "farm_error", "detail": "Something broke.", "next": NEXT}
            self._send(500, told, request_id="req_broken")
        elif path == "/api/v1/proxy":
            self._send(502, b"<html>bad gateway", request_id="req_proxy")
        elif path == "/api/v1/page":
            self._send(200, b"<html>")
        else:
            self._send(
                401, {"code": "unauthorized", "detail": "No key.", "next": "of an older farm"}
            )

    def do_POST(self) -> None:
        """Remember the promise, refuse for the budget."""
        type(self).promises.append(self.headers["Idempotency-Key"])
        self.rfile.read(int(self.headers["Content-Length"]))
        told = {"code": "budget_exceeded", "detail": "Too dear.", "next": NEXT, "also": [ALSO]}
        self._send(402, told | {"needed_gpu_seconds": 2.5})

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _send(self, status: int, body: object, etag: str = "", request_id: str = "") -> None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        if request_id:
            self.send_header("X-Request-Id", request_id)
        if etag:
            self.send_header("ETag", etag)
        self.send_header("Content-Length", str(0 if status == 304 else len(content)))
        self.end_headers()
        if status != 304:
            self.wfile.write(content)


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    """Serve the small farm."""
    Farm.promises = []
    with ThreadingHTTPServer(("127.0.0.1", 0), Farm) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


@pytest.fixture
def client(url: str) -> Iterator[Client]:
    """Connect to it."""
    made = Client(url, "farm_user_1_x")
    yield made
    made.close()


def test_an_unchanged_job_is_not_sent_again(client: Client) -> None:
    """A job comes with its ETag; the same ETag brings nothing."""
    job, etag = client.job_if_changed("one", "")
    assert job == {"id": "one"}
    assert client.job_if_changed("one", etag) == (None, etag)


def test_lists_are_read_to_their_end(client: Client) -> None:
    """Every page of a list is fetched, up to the limit asked for."""
    assert client.every("jobs") == [{"n": 1}, {"n": 2}]
    assert client.every("jobs", limit=1) == [{"n": 1}]


def test_a_refusal_keeps_its_code_and_data(client: Client) -> None:
    """A problem's code, message, next step and numbers arrive; the POST had a promise."""
    with pytest.raises(Problem) as refused:
        client.post("jobs", {"prompt": "x"}, promise="once")
    assert exit_code(refused.value) == 3
    assert refused.value.remedies == (TopUp("ses_1", "mine", 2500), Say("Or pray."))
    assert refused.value.data == {"needed_gpu_seconds": 2.5}
    assert Farm.promises[-1] == "once"


def test_a_refused_key_names_the_switch(client: Client) -> None:
    """Without a valid key the next step names FARM_API_KEY."""
    with pytest.raises(Problem) as refused:
        client.get("models")
    assert exit_code(refused.value) == 5
    assert refused.value.remedies == (UseKey(),)
    assert "FARM_API_KEY" in said(refused.value.remedies[0])


@pytest.mark.parametrize(
    ("path", "named"), [("broken", "req_broken"), ("proxy", "req_proxy"), ("models", None)]
)
def test_what_broke_is_told_with_its_request(
    client: Client, capsys: pytest.CaptureFixture[str], path: str, named: str | None
) -> None:
    """An operator finds the request in the log by its id; a plain refusal needs none."""
    with pytest.raises(Problem) as refused:
        client.get(path)
    problem(refused.value, as_json=False)
    told = capsys.readouterr().err
    assert (f"Request {named} in the farm's log." in told) is (named is not None)
    assert ("Request " in told) is (named is not None)
    problem(refused.value, as_json=True)
    shown = json.loads(capsys.readouterr().out)["error"]
    assert shown.get("request_id") == named


def test_what_is_no_farm_is_said(client: Client) -> None:
    """A page instead of JSON is a farm that cannot be reached."""
    with pytest.raises(Unavailable, match="not a farm"):
        client.get("page")


def test_a_file_appears_whole(client: Client, tmp_path: Path) -> None:
    """A download replaces the file at once and leaves no part behind."""
    target = tmp_path / "video.mp4"
    target.write_bytes(b"old")
    place = destination.checked(str(target))
    place.save(lambda file: client.fetch("/video", file, sha256(VIDEO).hexdigest()))
    assert target.read_bytes() == VIDEO
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize(("path", "digest"), [("/video", "00" * 32), ("/nothing", None)])
def test_a_bad_file_never_appears(
    client: Client, tmp_path: Path, path: str, digest: str | None
) -> None:
    """Other bytes than promised, or a refusal, leave the folder as it was."""
    place = destination.checked(str(tmp_path / "video.mp4"))
    with pytest.raises((Unavailable, Problem)):
        place.save(lambda file: client.fetch(path, file, digest))
    assert not list(tmp_path.iterdir())
