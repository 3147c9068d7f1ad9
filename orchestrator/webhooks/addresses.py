"""Addresses that the farm may send to when a client asks it to: pure rules, no look-up.

A client names a URL and the farm, inside the operator's network, calls it. So a URL has one
plain reading here or is refused, and every address its name resolves to must be on the public
Internet (`orchestrator.webhooks.safe_http` looks it up and connects to what was checked).
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from orchestrator.errors import BadRequest
from orchestrator.remedies import Say

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARS: Final = 2048
PORTS: Final = {"https": 443, "http": 80}
LOWEST_OTHER_PORT: Final = 1024
"""Below it live mail, DNS and other services that do not speak HTTP."""

_LABEL: Final = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")
_NUMERIC: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")
"""A last label of this shape makes resolvers read the whole name as an IPv4 address."""
_LOCAL_NAMES: Final = ("localhost", "local", "internal", "intranet", "lan", "home", "corp", "arpa")

_NOT_PUBLIC_4: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",  # shared by a carrier's customers, and by some clouds' services
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's host, public by its number only
        "169.254.0.0/16",  # link-local: the metadata services of most clouds
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.88.99.0/24",  # 6to4 relays
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
"""https://www.iana.org/assignments/iana-ipv4-special-registry, multicast, and two clouds' own."""
_PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
_NOT_PUBLIC_6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in (
        "2001::/23",  # Teredo, benchmarks, ORCHID
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address in disguise
        "3fff::/20",
    )
)
_ISATAP: Final = frozenset({0x00005EFE, 0x02005EFE})
"""Upper half of an interface id that carries an IPv4 address in its lower half (RFC 5214)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """Allowances of the operator beyond https to public addresses."""

    http: bool = False
    networks: tuple[Network, ...] = ()
    """Addresses that are allowed although they are not public."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Destination:
    """A URL with one reading."""

    scheme: str
    host: str
    """A lower-case name, or an address without brackets."""
    port: int
    target: str
    """Path and query."""


def parse(url: str, rules: Rules) -> Destination:
    """Return what a URL names.

    Raises:
        BadRequest: it has more than one reading, or may not be called.
    """
    if not url.isascii() or not url.isprintable() or set(url) & set(' \\"<>^`{|}'):
        raise _refused("has characters that a URL does not have; write a name as xn--…")
    if len(url) > MAX_URL_CHARS:
        raise _refused(f"is longer than {MAX_URL_CHARS} characters")
    try:
        parts = urlsplit(url)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError:
        raise _refused("is no URL") from None
    schemes = ("https", "http") if rules.http else ("https",)
    if parts.scheme not in schemes:
        raise _refused(f"does not begin with {' or '.join(f'{name}://' for name in schemes)}")
    if "@" in parts.netloc or "#" in url:
        raise _refused("has a user name or a fragment")
    if port is None:
        port = PORTS[parts.scheme]
    if port not in PORTS.values() and port < LOWEST_OTHER_PORT:
        raise _refused(f"names port {port}; 443, 80 and those from {LOWEST_OTHER_PORT} are allowed")
    _check_host(host, rules)
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(scheme=parts.scheme, host=host, port=port, target=target)


def allowed(address: Address, rules: Rules) -> bool:
    """Tell whether the farm may connect to this address."""
    if any(address in network for network in rules.networks):
        return True
    return is_public(address)


def is_public(address: Address) -> bool:
    """Tell whether an address is a unicast address of the public Internet, and nothing hidden.

    Of IPv6 only what IANA has given out as global unicast passes, so that forms with an IPv4
    address inside (mapped, compatible, NAT64, 6to4, Teredo, ISATAP) do not.
    """
    if isinstance(address, ipaddress.IPv4Address):
        return not any(address in network for network in _NOT_PUBLIC_4)
    if address not in _PUBLIC_6 or any(address in network for network in _NOT_PUBLIC_6):
        return False
    return (int(address) >> 32) & 0xFFFFFFFF not in _ISATAP and address.scope_id is None


def _check_host(host: str, rules: Rules) -> None:
    address = _address(host)
    if address is not None:
        if not allowed(address, rules):
            raise _refused("names an address that is not on the public Internet")
        return
    labels = host.split(".")
    if len(host) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise _refused("has no host name")
    if _NUMERIC.fullmatch(labels[-1]):
        raise _refused("has an address in a form other than the plain one, as 203.0.113.7")
    if (len(labels) == 1 or labels[-1] in _LOCAL_NAMES) and not rules.networks:
        raise _refused("names a host of a private network")


def _address(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _refused(why: str) -> BadRequest:
    return BadRequest(
        f"The webhook URL {why}.",
        Say(
            "Give an https:// URL of a public host; the operator may allow others with "
            "FARM_WEBHOOK_HTTP and FARM_WEBHOOK_NETWORKS."
        ),
    )
