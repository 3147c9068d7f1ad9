"""Health of the farm, for probes and for Prometheus: looked at once for all who ask meanwhile."""

import hmac
import ipaddress
import threading
import time
from collections.abc import Callable
from importlib.metadata import version
from typing import Final

from flask import Flask, Response, current_app, jsonify, request
from flask_openapi import APIBlueprint

from orchestrator.errors import Unauthorized
from orchestrator.farm import jobs
from orchestrator.farm.leases import fleet
from orchestrator.remedies import Say, UseKey
from orchestrator.settings import networks
from orchestrator.states import Scope
from web.api.described import REFUSALS, content, operation_id, tag
from web.api.responses import OPTIONAL, Health
from web.auth import needs
from web.context import farm, settings
from web.threads import in_thread

HEALTH_SECONDS: Final = 1.0
METRICS_SECONDS: Final = 2.0
"""Time for which one look serves all who ask: however many they are, they cost the farm no more."""
TOLD_BY_PROXIES: Final = ("Forwarded", "X-Forwarded-For", "X-Real-IP", "Via")
"""Headers of a request that somebody passed on."""

bp = APIBlueprint(
    "health",
    __name__,
    abp_responses=REFUSALS,
    abp_tags=[tag("health")],
    operation_id_callback=operation_id,
)


class SharedLook:
    """The newest look at something; who asks while one is taken waits for it."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._lock = threading.Lock()  # a greenlet's in gunicorn, as those who ask are
        self._until = 0.0
        self._seen = ""

    def __call__(self, look: Callable[[], str]) -> str:
        """Return what `look` gives, or gave a moment ago. One that fails is not kept."""
        with self._lock:
            if time.monotonic() >= self._until:
                self._seen = look()
                self._until = time.monotonic() + self.seconds
            return self._seen


def init_app(app: Flask) -> None:
    """Give an application its looks."""
    app.extensions["looks"] = {
        "healthz": SharedLook(HEALTH_SECONDS),
        "metrics": SharedLook(METRICS_SECONDS),
    }


@bp.get("/healthz", responses={200: Health})
def healthz() -> Response:
    """Say that the database answers, or did a second ago."""
    this_farm = farm()
    _seen("healthz", lambda: str(in_thread(jobs.last_event_id, this_farm)))
    return jsonify(status="ok", version=version("framefarm"))


@bp.get(
    "/metrics",
    responses={**content("text/plain", description="In Prometheus' text format."), **REFUSALS},
    security=OPTIONAL,
)
def metrics() -> Response:
    """Give the depth of each queue, and the devices idle beside it, to Prometheus.

    To the addresses of FARM_METRICS_FROM (this machine, where neither that nor a token is set), and
    to whoever sends FARM_METRICS_TOKEN or an `admin` key as a bearer.
    """
    _let_in()
    this_farm = farm()
    told = _seen("metrics", lambda: _told(in_thread(fleet.queues, this_farm)))
    return Response(told, mimetype="text/plain; version=0.0.4")


def _seen(name: str, look: Callable[[], str]) -> str:
    shared: SharedLook = current_app.extensions["looks"][name]
    return shared(look)


def _told(depths: list[fleet.QueueDepth]) -> str:
    lines = []
    for name in ("ready", "leased", "idle_workers"):
        lines += [f"# TYPE framefarm_{name} gauge"]
        lines += [
            f'framefarm_{name}{{queue="{depth.queue}"}} {getattr(depth, name)}' for depth in depths
        ]
    return "\n".join(lines) + "\n"


def _let_in() -> None:
    """Refuse who is neither at an address that may read the metrics nor shows what opens them.

    Raises:
        Unauthorized: there is no token or key, or none that is valid.
        NotAllowed: the key is no operator's.
    """
    if _is_near():
        return
    scheme, _, given = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        raise Unauthorized(
            "The metrics are not open to this address.",
            UseKey(),
            Say(
                "The operator opens them: to addresses by FARM_METRICS_FROM, to a bearer by "
                "FARM_METRICS_TOKEN; an admin key opens them, too."
            ),
        )
    token = settings().metrics_token.get_secret_value()
    if token and hmac.compare_digest(given.strip().encode(), token.encode()):
        return
    needs(Scope.ADMIN)


def _is_near() -> bool:
    """Tell whether the request came from one of the addresses that may read the metrics.

    What a proxy says it passed on came from anywhere, unless FARM_TRUSTED_PROXIES says whose word
    counts.
    """
    config = settings()
    if not config.trusted_proxies and any(name in request.headers for name in TOLD_BY_PROXIES):
        return False
    try:
        address = ipaddress.ip_address((request.remote_addr or "").partition("%")[0])
    except ValueError:  # a Unix socket's
        return False
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return any(address in network for network in networks(config.metrics_from))
