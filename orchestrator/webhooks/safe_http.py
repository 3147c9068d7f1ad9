"""Requests to URLs that clients chose: one look-up, one checked address, one bounded answer.

The name is resolved once, every address of the answer must be allowed, and the connection goes
to the one that was checked: a second look-up could say something else (DNS rebinding). Host
header, SNI and the certificate check still use the name. No redirect is followed, no proxy and
no cookie used.
"""

import ipaddress
import socket
import ssl
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Final

import httpcore

from orchestrator.errors import FarmError
from orchestrator.webhooks.addresses import PORTS, Address, Destination, Rules, allowed, parse

Resolver = Callable[[str, int], list[str]]

ANSWER_BYTES: Final = 64 << 10
"""Of an answer's body; more is not read, and makes it a failure."""

_BROKEN: Final = (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException)


class Refused(FarmError):
    """The address may not be called."""

    code = "not_allowed"


class Unreachable(FarmError):
    """The other side did not answer properly in time."""

    code = "unavailable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """The answer: its status, and how long it took."""

    status: int
    milliseconds: int


@cache
def _authorities() -> ssl.SSLContext:
    return httpcore.default_ssl_context()


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a name."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found))


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """The only way out to a client's URL."""

    rules: Rules
    timeout_seconds: float = 15.0
    """For all of it: look-up, connection, request and answer."""
    resolver: Resolver = resolve
    ssl_context: ssl.SSLContext | None = None

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a body and return the status of the answer.

        Raises:
            Refused: the URL or an address behind it may not be called.
            Unreachable: no connection, no valid certificate, too slow or too much.
        """
        began = time.monotonic()
        try:
            destination = parse(url, self.rules)
        except FarmError as error:
            raise Refused(error.message) from None
        backend = _Backend(self, began + self.timeout_seconds)
        sent = {"Host": _authority(destination), "User-Agent": "framefarm", **headers}
        target = httpcore.URL(
            scheme=destination.scheme.encode(),
            host=destination.host.encode(),
            port=destination.port,
            target=destination.target.encode(),
        )
        context = self.ssl_context or _authorities()
        timeouts = dict.fromkeys(("connect", "read", "write", "pool"), self.timeout_seconds)
        try:
            with (
                httpcore.ConnectionPool(network_backend=backend, ssl_context=context) as pool,
                pool.stream(
                    "POST",
                    target,
                    headers=list(sent.items()),
                    content=body,
                    extensions={"timeout": timeouts},
                ) as answer,
            ):
                _drain(answer.iter_stream())
                status = int(answer.status)
        except (*_BROKEN, OSError) as error:
            raise Unreachable(f"{type(error).__name__}: {error}"[:300]) from None
        return Answer(status=status, milliseconds=round((time.monotonic() - began) * 1000))


def checked(door: Door, host: str, port: int) -> list[str]:
    """Return the addresses of a name, once every one of them is allowed.

    Raises:
        Refused: one of them is not, or there is none.
    """
    try:
        addresses: list[Address] = [
            ipaddress.ip_address(text) for text in door.resolver(host, port)
        ]
    except (OSError, UnicodeError, ValueError) as error:
        raise Unreachable(f"{host} could not be resolved: {error}") from None
    if not addresses or not all(allowed(address, door.rules) for address in addresses):
        raise Refused(f"{host} is not a host of the public Internet.")
    return [str(address) for address in addresses]


class _Backend(httpcore.NetworkBackend):
    """Connects to an address that was checked, and gives it until the deadline."""

    def __init__(self, door: Door, deadline: float) -> None:
        self._door, self._deadline = door, deadline
        self._real = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[object] | None = None,
    ) -> httpcore.NetworkStream:
        addresses = checked(self._door, host, port)
        for address in addresses[:-1]:
            try:
                return self._connect(address, port)
            except httpcore.NetworkError:
                continue
        return self._connect(addresses[-1], port)

    def _connect(self, address: str, port: int) -> httpcore.NetworkStream:
        stream = self._real.connect_tcp(address, port, timeout=_left(self._deadline))
        return _Stream(stream, self._deadline)


class _Stream(httpcore.NetworkStream):
    """A connection whose every wait ends at one deadline, however little comes at a time."""

    def __init__(self, stream: httpcore.NetworkStream, deadline: float) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _left(self._deadline))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _left(self._deadline))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,
    ) -> httpcore.NetworkStream:
        inner = self._stream.start_tls(ssl_context, server_hostname, _left(self._deadline))
        return _Stream(inner, self._deadline)

    def get_extra_info(self, info: str) -> object:
        return self._stream.get_extra_info(info)


def _left(deadline: float) -> float:
    left = deadline - time.monotonic()
    if left <= 0:
        raise httpcore.ReadTimeout("the time is up")
    return left


def _drain(pieces: Iterable[bytes]) -> None:
    size = 0
    for piece in pieces:
        size += len(piece)
        if size > ANSWER_BYTES:
            raise Unreachable(f"The answer is longer than {ANSWER_BYTES} bytes.")


def _authority(destination: Destination) -> str:
    host = f"[{destination.host}]" if ":" in destination.host else destination.host
    return host if destination.port == PORTS[destination.scheme] else f"{host}:{destination.port}"
