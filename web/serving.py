"""Configuration of gunicorn: `gunicorn "web.app:create_app()" --config python:web.serving`."""

from typing import Final

from web.connections import IDLE_SECONDS

worker_class: Final = "web.connections.Worker"
workers: Final = 1
worker_connections: Final = 4000
"""Above `web.streams.ALL_STREAMS`."""
keepalive: Final = IDLE_SECONDS
timeout: Final = 60
"""Seconds of silence after which the master ends a worker; no limit on a request."""
graceful_timeout: Final = 5
control_socket_disable: Final = True
forwarded_allow_ips: Final = ""
"""Which proxies to believe is FARM_TRUSTED_PROXIES."""
