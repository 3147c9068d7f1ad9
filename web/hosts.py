"""Names by which the farm is asked, and the address that its links begin with.

`Host` is what a client wrote. A link made of it would lead wherever somebody else wants, and a page
of another site whose name was made to point here would be taken for one of ours (DNS rebinding). So
only names that cannot be another's are taken: those of FARM_PUBLIC_URL and this machine's own. Of
literal addresses these are loopback ones, that which the farm listens on, and that which the
connection came in at.
"""

import ipaddress
import re
import socket
from typing import Any, Final
from urllib.parse import urlsplit

from flask import Flask, current_app, request
from flask.globals import request_ctx

from orchestrator.errors import UnknownHost
from orchestrator.settings import Settings

LABEL: Final = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
HOST: Final = re.compile(
    rf"(\[[0-9a-f:.]+\]|{LABEL}(?:\.{LABEL})*\.?)(?::([0-9]{{1,5}}))?", re.IGNORECASE
)
MOST_PORT: Final = 65_535
PORTS: Final = {"http": 80, "https": 443}

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Hosts:
    """The names of one farm."""

    def __init__(self, config: Settings) -> None:
        self._public = {_name_and_port(url): url for url in config.public_urls}
        own = socket.gethostname().lower()
        short = own.partition(".")[0]
        self._names = {name for name, _ in self._public}
        self._names |= {own, short, f"{short}.local"}
        bound = _address(_bare(config.host))
        if bound is None or not bound.is_unspecified:  # which is every address, and no name
            self._names.add(_bare(config.host))

    def knows(self, host: str, local: str) -> bool:
        """Tell whether a Host header names this farm; `local`: where the connection came in."""
        match = HOST.fullmatch(host)
        if match is None or not 1 <= int(match[2] or 1) <= MOST_PORT:
            return False
        name = _bare(match[1])
        if name in self._names or name == "localhost" or name.endswith(".localhost"):
            return True
        address = _address(name)
        return address is not None and (address.is_loopback or address == _address(local))

    def base(self, asked_by: str) -> str:
        """Return the URL that links begin with, without a slash at its end.

        `asked_by`: the URL of the request's host, which is one that the farm knows. Where public
        URLs are set it is one of them: the one that was asked by, or the first.
        """
        if not self._public:
            return asked_by.rstrip("/")
        return self._public.get(_name_and_port(asked_by), next(iter(self._public.values())))


def init_app(app: Flask, config: Settings) -> None:
    """Refuse what is asked by another name, before anything else of a request is read."""
    app.extensions["hosts"] = Hosts(config)
    app.before_request(_refuse_unknown)


def base() -> str:
    """Return the URL that this request's links begin with."""
    return str(_hosts().base(request.host_url))


def _refuse_unknown() -> None:
    environ = request.environ
    host = environ.get("HTTP_HOST", "")
    if not host and environ.get("SERVER_PROTOCOL") == "HTTP/1.0":
        return  # which has no such header
    if not _hosts().knows(host, _local(environ.get("gunicorn.socket"))):
        if request_ctx.url_adapter is None:  # what cannot be a name is refused on a page, too
            request_ctx.url_adapter = current_app.url_map.bind("localhost")
        raise UnknownHost


def _hosts() -> Hosts:
    found: Hosts = current_app.extensions["hosts"]
    return found


def _local(connection: Any) -> str:
    """Return this machine's address of a connection."""
    there = connection.getsockname() if connection is not None else ""
    return str(there[0]).partition("%")[0] if isinstance(there, tuple) else ""


def _bare(name: str) -> str:
    return name.lower().strip("[]").removesuffix(".")


def _address(name: str) -> Address | None:
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address  # of a socket for both kinds


def _name_and_port(url: str) -> tuple[str, int | None]:
    parts = urlsplit(url)
    return _bare(parts.hostname or ""), parts.port or PORTS.get(parts.scheme)
