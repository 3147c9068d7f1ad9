"""A farm of sixty lines: it speaks the worker protocol over HTTP and remembers what it heard."""

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from hashlib import sha256

from werkzeug.serving import make_server
from werkzeug.wrappers import Request, Response

from orchestrator import wire
from orchestrator.states import Verdict

JOIN, KEY = "farm_join_1", "farm_worker_1"


class FakeFarm:
    """Hands out the orders it was given; its knobs make it go away, refuse or change its mind."""

    def __init__(self, *, heartbeat_seconds: float = 0.1, lease_seconds: float = 3.0) -> None:
        self.ready: deque[wire.Order] = deque()
        self.calls: list[str] = []
        self.beats: list[wire.HeartbeatRequest] = []
        self.completed: list[wire.CompleteRequest] = []
        self.released: list[wire.ReleaseRequest] = []
        self.files: dict[str, bytes] = {}
        self.verdict = Verdict.GO
        self.away: set[str] = set()
        self.stale: set[str] = set()
        self.bad: set[str] = set()
        self.refuses = False
        self.heartbeat_seconds, self.lease_seconds = heartbeat_seconds, lease_seconds
        self.url = ""

    def terms(self) -> wire.HelloAnswer:
        """Return what hello says."""
        return wire.HelloAnswer(
            worker_id="w1",
            worker_key=None,
            epoch=1,
            heartbeat_seconds=self.heartbeat_seconds,
            lease_seconds=self.lease_seconds,
            queues=("parse", "encode", "render.fake"),
        )

    def __call__(self, environ, start_response):  # type: ignore[no-untyped-def]
        """Answer a request."""
        request = Request(environ)
        name = request.path.removeprefix(wire.PREFIX + "/").partition("/")[0]
        self.calls.append(name)
        return self.answer(name, request)(environ, start_response)

    def answer(self, name: str, request: Request) -> Response:
        """Return the response to one call."""
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if self.refuses or key not in (JOIN, KEY):
            return _problem(401, "unauthorized", "There is no valid key with this request.")
        if name in self.away:
            return _problem(503, "unavailable", "The farm is away.")
        if name in self.stale:
            return _problem(409, "stale_lease", "The lease is no longer this worker's.")
        if name in self.bad:
            return _problem(422, "bad_request", "That is larger than allowed.")
        if name == "artifacts":
            return self._artifact(request)
        answer = getattr(self, f"_{name}")(request.get_data(), key)
        return Response(answer.model_dump_json(), content_type="application/json")

    def _hello(self, body: bytes, key: str) -> wire.Message:
        wire.HelloRequest.model_validate_json(body)
        return self.terms().model_copy(update={"worker_key": KEY if key == JOIN else None})

    def _claim(self, body: bytes, key: str) -> wire.Message:
        until = time.monotonic() + wire.ClaimRequest.model_validate_json(body).wait_seconds
        while not self.ready and time.monotonic() < until:
            time.sleep(0.02)
        return wire.ClaimAnswer(orders=self._next())

    def _heartbeat(self, body: bytes, key: str) -> wire.Message:
        beat = wire.HeartbeatRequest.model_validate_json(body)
        self.beats.append(beat)
        left_ms = round(self.lease_seconds * 1000)
        return wire.HeartbeatAnswer(
            leases=tuple(
                wire.LeaseVerdict(lease_id=u.lease_id, verdict=self.verdict, expires_in_ms=left_ms)
                for u in beat.leases
            )
        )

    def _complete(self, body: bytes, key: str) -> wire.Message:
        request = wire.CompleteRequest.model_validate_json(body)
        self.completed.append(request)
        return wire.CompleteAnswer(
            settled_gpu_ms=request.receipt.gpu_ms,
            lost_gpu_ms=request.receipt.wasted_gpu_ms,
            orders=self._next() if request.claim_next else (),
        )

    def _release(self, body: bytes, key: str) -> wire.Message:
        self.released.append(wire.ReleaseRequest.model_validate_json(body))
        return wire.ReleaseAnswer()

    def _next(self) -> tuple[wire.Order, ...]:
        return (self.ready.popleft(),) if self.ready else ()

    def _artifact(self, request: Request) -> Response:
        key = request.path.removeprefix(f"{wire.PREFIX}/artifacts/")
        if request.method == "GET":
            if key not in self.files:
                return _problem(404, "not_found", f"There is no {key}.")
            return Response(self.files[key], content_type="application/octet-stream")
        body = request.get_data()
        assert request.args["sha256"] == sha256(body).hexdigest()
        self.files[key] = body
        return Response(f'{{"key": "{key}"}}', status=201, content_type="application/json")


def _problem(status: int, code: str, title: str) -> Response:
    body = f'{{"code": "{code}", "title": "{title}", "next": {{}}}}'
    return Response(body, status=status, content_type="application/problem+json")


@contextmanager
def serving(farm: FakeFarm) -> Iterator[FakeFarm]:
    """Serve the farm on a free port until the block ends."""
    server = make_server("127.0.0.1", 0, farm, threaded=True)
    farm.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield farm
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def when(condition: Callable[[], object], act: Callable[[], None]) -> threading.Thread:
    """Do `act` on a thread of its own as soon as `condition` holds."""

    def watch() -> None:
        until = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < until, "it never came to that"
            time.sleep(0.01)
        act()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


def busy(farm: FakeFarm) -> Callable[[], bool]:
    """Tell whether the farm has heard of device time."""
    return lambda: any(use.gpu_ms for beat in farm.beats for use in beat.leases)
