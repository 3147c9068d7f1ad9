"""The worker protocol, as the worker speaks it: HTTP with a timeout on everything.

Every call may be sent twice: claims are redelivered, usage is cumulative, a completed lease
answers `stale_lease`. So a lost answer is asked for again, with back-off, for as long as the
caller allows.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic
from typing import Final, TypeVar
from urllib.parse import quote

import httpx
import stamina
from pydantic import ValidationError

from orchestrator.errors import (
    BadRequest,
    Conflict,
    DiskFull,
    FarmError,
    NotAllowed,
    NotFound,
    StaleLease,
    Unauthorized,
    Unavailable,
)
from orchestrator.receipt import Message
from orchestrator.remedies import Say, from_json
from orchestrator.wire import (
    PREFIX,
    ClaimAnswer,
    ClaimRequest,
    CompleteAnswer,
    CompleteRequest,
    HeartbeatAnswer,
    HeartbeatRequest,
    HelloAnswer,
    HelloRequest,
    Order,
    ReleaseAnswer,
    ReleaseRequest,
)

Answer = TypeVar("Answer", bound=Message)

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 10.0
TRANSFER_SECONDS: Final = 30.0
"""Longest silence inside an upload or download."""
REPORT: Final = "report"
"""Name in a report for the wait for a farm that did not take it."""
LONGEST_WAIT_SECONDS: Final = 3.0
"""Between two attempts."""
TRY_AGAIN: Final = frozenset({408, 429, 500, 502, 503, 504})
BODY_CHARS: Final = 300


class Refused(FarmError):
    """The farm does not take this worker."""

    code = "refused"
    remedies = (
        Say(
            "Give the worker a new FARM_JOIN_TOKEN (`farm keys create --kind join --device-class "
            "CLASS`, as `farm worker ls` and the refusal name it), and start it again."
        ),
    )


class TryAgain(Unavailable):
    """The farm cannot be reached, which may pass."""


_ERRORS: Final[dict[str, type[FarmError]]] = {
    error.code: error for error in (BadRequest, NotFound, Conflict, StaleLease, DiskFull)
}


class Client:
    """One worker's line to the farm. Threads may share it."""

    def __init__(self, server: str, key: str, *, read_seconds: float = READ_SECONDS) -> None:
        self._http = httpx.Client(
            base_url=server.rstrip("/") + PREFIX,
            headers={"Authorization": f"Bearer {key}"},
            timeout=httpx.Timeout(read_seconds, connect=CONNECT_SECONDS),
            trust_env=False,
        )
        self._read_seconds = read_seconds

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def hello(self, request: HelloRequest, *, within_seconds: float) -> HelloAnswer:
        """Enrol, or come back."""
        return self._call("hello", request, HelloAnswer, within_seconds)

    def claim(
        self, hint: str | None, *, wait_seconds: float = 0, within_seconds: float = 0
    ) -> tuple[Order, ...]:
        """Ask for work, waiting for it at the farm for up to `wait_seconds`."""
        request = ClaimRequest(hint=hint, wait_seconds=wait_seconds)
        return self._call("claim", request, ClaimAnswer, within_seconds, wait_seconds).orders

    def heartbeat(self, request: HeartbeatRequest, *, within_seconds: float = 0) -> HeartbeatAnswer:
        """Renew leases; asked once, for the next beat is the next attempt."""
        return self._call("heartbeat", request, HeartbeatAnswer, within_seconds)

    def complete(self, request: CompleteRequest, *, within_seconds: float) -> CompleteAnswer:
        """Report the end of a unit, and for how long the farm could not be told."""
        began = monotonic()

        def told() -> CompleteRequest:
            waited_ms = round(1000 * (monotonic() - began))
            host_ms = request.receipt.host_ms | ({REPORT: waited_ms} if waited_ms else {})
            receipt = request.receipt.model_copy(update={"host_ms": host_ms})
            return request.model_copy(update={"receipt": receipt})

        return self._call("complete", told, CompleteAnswer, within_seconds)

    def release(self, request: ReleaseRequest, *, within_seconds: float) -> ReleaseAnswer:
        """Hand a unit back."""
        return self._call("release", request, ReleaseAnswer, within_seconds)

    def upload(
        self, order: Order, name: str, file: Path, sha256: str, *, within_seconds: float
    ) -> str:
        """Put a file under the lease of `order` and return its key."""

        def send() -> str:
            with file.open("rb") as body:
                response = self._http.put(
                    f"/artifacts/{quote(order.lease_id, safe='')}/{quote(name, safe='')}",
                    params={"fence": order.fence, "sha256": sha256},
                    headers={"Content-Type": "application/octet-stream"},
                    content=body,
                    timeout=httpx.Timeout(TRANSFER_SECONDS, connect=CONNECT_SECONDS),
                )
            _raise_for(response)
            return str(response.json()["key"])

        return _patiently(send, within_seconds)

    @contextmanager
    def download(self, key: str) -> Iterator[Iterator[bytes]]:
        """Open an artifact; yields its bytes in pieces. Asked once."""
        timeout = httpx.Timeout(TRANSFER_SECONDS, connect=CONNECT_SECONDS)
        path = f"/artifacts/{quote(key)}"
        with _translated(), self._http.stream("GET", path, timeout=timeout) as response:
            if not response.is_success:
                response.read()
                _raise_for(response)
            yield response.iter_bytes()

    def _call(
        self,
        name: str,
        request: Message | Callable[[], Message],
        answer: type[Answer],
        within_seconds: float,
        wait_seconds: float = 0,
    ) -> Answer:
        timeout = httpx.Timeout(self._read_seconds + wait_seconds, connect=CONNECT_SECONDS)

        def send() -> Answer:
            message = request if isinstance(request, Message) else request()
            response = self._http.post(
                f"/{name}",
                content=message.model_dump_json().encode(),
                headers={"Content-Type": "application/json"},
                timeout=timeout,
            )
            _raise_for(response)
            try:
                return answer.model_validate_json(response.content)
            except ValidationError as error:
                raise Unavailable(
                    f"The farm's answer to {name} makes no sense: {error.error_count()} faults.",
                    Say("Check that FARM_SERVER is a farm of the same version."),
                ) from None

        return _patiently(send, within_seconds)


T = TypeVar("T")


def _patiently(send: Callable[[], T], within_seconds: float) -> T:
    """Return what `send` returns, trying again for `within_seconds` while the farm is away.

    Raises:
        Unavailable: it stayed away.
    """
    attempts = stamina.retry_context(
        on=TryAgain,
        attempts=None if within_seconds > 0 else 1,
        timeout=within_seconds or None,
        wait_initial=0.1,
        wait_max=LONGEST_WAIT_SECONDS,
        wait_jitter=0.2,
    )
    for attempt in attempts:
        with attempt, _translated():
            return send()
    raise AssertionError("stamina ends with a value or an error")


@contextmanager
def _translated() -> Iterator[None]:
    """Turn errors of the transport into one that says what it means."""
    try:
        yield
    except httpx.TransportError as error:
        reason = str(error) or type(error).__name__
        raise TryAgain(f"The farm cannot be reached: {reason}.") from error


def _raise_for(response: httpx.Response) -> None:
    """Raise what a refusal means; pass on success."""
    if response.is_success:
        return
    problem = _problem(response)
    said = problem.get("detail") or problem.get("title")
    said = str(said or f"The farm answered {response.status_code}.")
    if response.status_code in TRY_AGAIN:
        raise TryAgain(said)
    if response.status_code in (401, 403) or problem.get("code") in (
        Unauthorized.code,
        NotAllowed.code,
    ):
        raise Refused(said)
    error = _ERRORS.get(str(problem.get("code")))
    if error is None:
        error = {404: NotFound, 409: StaleLease}.get(response.status_code, BadRequest)
    told = problem.get("next")
    raise error(said, *([from_json(told)] if isinstance(told, dict) else []))


def _problem(response: httpx.Response) -> dict[str, object]:
    try:
        problem = response.json()
    except ValueError:
        return {"title": response.text[:BODY_CHARS]}
    return problem if isinstance(problem, dict) else {}
