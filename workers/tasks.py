"""Celery as a doorbell: three tasks, one for each kind of unit, that take a hint to the agent.

A message is lost, doubled or late without harm: it carries a unit's id, and the claim decides.
"""

from collections.abc import Callable
from typing import Final

from celery import Celery

from orchestrator.states import UnitKind

SOCKET_SECONDS: Final = 5.0
CONNECT_SECONDS: Final = 5.0

Ring = Callable[[str], None]
"""Told the unit id that was rung for."""


def make_app(broker_url: str, ring: Ring) -> Celery:
    """Return the worker's Celery application; `ring` runs in its main thread."""
    app = Celery("framefarm", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        # SQL alone delivers again: a message is gone from the broker as soon as it is read.
        task_acks_late=False,
        worker_prefetch_multiplier=1,
        worker_enable_remote_control=False,
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_connection_timeout=CONNECT_SECONDS,
        broker_transport_options={
            "ack_emulation": False,
            "socket_timeout": SOCKET_SECONDS,
            "socket_connect_timeout": CONNECT_SECONDS,
            "socket_keepalive": True,
            "health_check_interval": 10,
        },
    )

    for kind in UnitKind:
        app.task(name=f"framefarm.{kind}")(ring)
    return app
