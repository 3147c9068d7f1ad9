"""The dispatcher: rings idle devices, takes back what lost workers hold, sends webhooks.

`python -m orchestrator.dispatcher`, or `farm dispatcher`. The database is the truth and a
message only a hint: it carries a unit's id, may be lost, doubled or late, and is rung again.
One dispatcher at a time leads; others wait for its lock to run out.
"""

import os
import signal
import socket
import threading
from typing import Final

import structlog
from celery import Celery
from kombu.exceptions import OperationalError

from orchestrator import logs, private_files
from orchestrator.farm import Farm
from orchestrator.farm.accounts import references
from orchestrator.farm.jobs import expiry
from orchestrator.farm.leases import reconcile
from orchestrator.settings import Settings, settings
from orchestrator.stored_files import StoredFiles
from orchestrator.webhooks.safe_http import Door
from orchestrator.webhooks.sender import Courier
from orchestrator.wire import ENCODE_QUEUE, PARSE_QUEUE
from orchestrator.wiring import farm_from, webhook_rules

log = structlog.get_logger()

TICK_SECONDS: Final = 0.1
"""Time that a ready unit may wait before an idle device hears of it."""
LOCK_SECONDS: Final = 5.0
CHECK_SECONDS: Final = 300.0
"""Between two looks at the invariants of the whole store."""
FORGET_SECONDS: Final = 3600.0
REMOVE_SECONDS: Final = 15.0
"""Between two rounds in which the files of expired jobs are removed."""
EXPIRE_SECONDS: Final = 60.0
"""Between two looks for files and characters that have expired."""


def celery_app(broker_url: str) -> Celery:
    """Return a Celery application that only publishes, and never blocks for long."""
    app = Celery("framefarm", broker=broker_url)
    app.conf.update(
        task_ignore_result=True,
        task_serializer="json",
        accept_content=["json"],
        broker_connection_timeout=2,
        broker_transport_options={
            "socket_timeout": 2,
            "socket_connect_timeout": 2,
            "retry_on_timeout": False,
            "max_retries": 1,
        },
    )
    return app


class Dispatcher:
    """One loop: lead, ring, reconcile."""

    def __init__(self, farm: Farm, app: Celery, config: Settings) -> None:
        self.farm, self.app, self.config = farm, app, config
        self.holder = f"{socket.gethostname()}:{os.getpid()}"
        self.stopped = threading.Event()
        self.files = StoredFiles(config.artifacts_root)
        self._due: dict[str, int] = {}
        self._leads = False
        door = Door(rules=webhook_rules(config), timeout_seconds=config.webhook_timeout_seconds)
        self.courier = Courier(farm, door, leads=lambda: self._leads, stopped=self.stopped)

    def run(self) -> None:
        """Work until `stopped` is set. An error is logged and the loop goes on."""
        log.info("dispatcher started", holder=self.holder)
        self.courier.start()
        threading.Thread(target=self.clean, name="cleaner", daemon=True).start()
        while not self.stopped.wait(TICK_SECONDS):
            try:
                self.tick()
            except OperationalError as error:
                log.warning("broker not reached", error=str(error))
                self.stopped.wait(1.0)
            except Exception:
                log.exception("dispatcher tick failed")
                self.stopped.wait(1.0)
        log.info("dispatcher stopped", holder=self.holder)

    def tick(self) -> None:
        """Do what is due now."""
        if self._is_due("lead", LOCK_SECONDS / 3):
            self._leads = reconcile.lead(self.farm, self.holder, LOCK_SECONDS)
        if not self._leads:
            return
        if self._is_due("reconcile", self.config.reconcile_seconds):
            reconcile.turn_plans(self.farm)
            reconcile.turn_month(self.farm)
            lapsed = reconcile.reconcile(self.farm)
            if lapsed:
                log.warning("leases lapsed", count=lapsed)
        if self._is_due("check", CHECK_SECONDS):
            for violation in reconcile.look(self.farm):
                log.error("invariant broken", violation=violation)
        if self._is_due("forget", FORGET_SECONDS):
            reconcile.forget(self.farm)
        if self._is_due("expire", EXPIRE_SECONDS):
            for gone in references.expire(self.farm, self._remove_picture):
                log.info(
                    "expired, deleted",
                    kind=gone.kind,
                    id=gone.id,
                    name=gone.name,
                    account=gone.account_id,
                    bytes=gone.bytes,
                )
        for queue, unit_id in reconcile.to_ring(self.farm):
            self.ring(queue, unit_id)

    def clean(self) -> None:
        """Remove expired files while this one leads: beside the loop, since a store may be slow."""
        while not self.stopped.wait(REMOVE_SECONDS):
            try:
                if self._leads:
                    self.clean_once()
            except Exception:
                log.exception("expired files not removed")

    def clean_once(self) -> None:
        """Remove what is due now, round after round until one is not full."""
        if not self.files.is_there:  # else jobs would say that files are gone which are not
            if self._is_due("no files", FORGET_SECONDS):
                log.warning("artifacts not found, no file expires", root=self.files.root)
            return
        rest = True
        while rest and not self.stopped.is_set():
            seen = [
                self._told(each) for each in expiry.remove_expired(self.farm, self.files.delete)
            ]
            rest = len(seen) == expiry.AT_ONCE

    def _told(self, looked: expiry.Removed) -> str:
        if looked.needed_by:
            log.info("files kept for now", job=looked.job_id, needed_by=looked.needed_by)
        else:
            log.info("files expired", job=looked.job_id, files=looked.files)
        return looked.job_id

    def ring(self, queue: str, unit_id: str) -> None:
        """Publish a unit id to a queue."""
        name = queue if queue in (PARSE_QUEUE, ENCODE_QUEUE) else "render"
        self.app.send_task(
            f"framefarm.{name}", args=[unit_id], queue=queue, retry=False, ignore_result=True
        )
        log.debug("device rung", queue=queue, unit=unit_id)

    def _remove_picture(self, key: str) -> None:
        """Remove a picture; where the artifacts are web's alone, say so."""
        if not self.files.exists(key):
            log.warning(
                "picture not found",
                key=key,
                help="the dispatcher needs the artifacts that web has: FARM_ARTIFACTS_URL",
            )
        self.files.remove(key)

    def _is_due(self, name: str, every_seconds: float) -> bool:
        now = self.farm.clock()
        if now < self._due.get(name, 0):
            return False
        self._due[name] = now + round(every_seconds * 1000)
        return True


def main() -> None:
    """Run the dispatcher until SIGTERM or SIGINT."""
    config = settings()
    private_files.keep_private()
    logs.configure(config)
    broker_url = config.broker_url.get_secret_value()
    if not broker_url:
        raise SystemExit("FARM_BROKER_URL is not set.")
    dispatcher = Dispatcher(farm_from(config), celery_app(broker_url), config)

    def stop(*_: object) -> None:
        dispatcher.stopped.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    dispatcher.run()


if __name__ == "__main__":
    main()
