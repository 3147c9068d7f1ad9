"""`python -m workers.entry`: one worker, bound to one device, until it is told to go.

It enrols with a join token once and keeps its own key under its home. Then it waits for work,
behind Celery where it may see the broker, by long polling where it may not.
"""

import argparse
import json
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

from orchestrator import catalog, logs, private_files
from orchestrator.catalog import Catalog
from orchestrator.errors import BadRequest, FarmError, Unavailable
from orchestrator.remedies import Say
from orchestrator.settings import Settings, settings
from orchestrator.states import UnitKind
from orchestrator.wire import TAKEN_UP, HelloAnswer, HelloRequest
from workers import devices
from workers.agent import Agent
from workers.child import Child, Setup
from workers.client import READ_SECONDS, Client, Refused

log = structlog.get_logger(__name__)

KEY_FILE: Final = "key.json"
HELLO_SECONDS: Final = 60.0
"""Time that a worker waits for its farm at the start."""
POLL_SECONDS: Final = 3.0
"""Time that one claim waits at the farm, and that an idle poller takes to go."""
LONGEST_BACK_OFF_SECONDS: Final = 10.0
EXIT_SECONDS: Final = 15.0
"""After a signal: whoever is not gone by then is ended."""
IMPATIENT_SECONDS: Final = 1.0
"""A second signal this long after the first one ends the process at once."""
EXIT_CODES: Final[dict[type[FarmError], int]] = {BadRequest: 2, Refused: 5, Unavailable: 6}
"""As the CLI's: usage, not allowed, cannot reach the farm; anything else is 1."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a worker; returns its exit code."""
    options = _parser().parse_args(argv)
    config = settings()
    private_files.keep_private()
    logs.configure(config)
    try:
        return _work(options, config)
    except FarmError as error:
        print(f"{error.message} {error.advice}", file=sys.stderr)
        return next((c for kind, c in EXIT_CODES.items() if isinstance(error, kind)), 1)


def _work(options: argparse.Namespace, config: Settings) -> int:
    if not (options.poll or config.broker_url.get_secret_value()):
        raise BadRequest(
            "FARM_BROKER_URL is not set.",
            Say("Set it, or start the worker with --poll, which needs no broker."),
        )
    home: Path = options.home
    home.mkdir(parents=True, exist_ok=True)
    (home / TAKEN_UP).unlink(missing_ok=True)
    if (home / KEY_FILE).exists():  # ours, whatever mode somebody gave it since
        with suppress(OSError):
            home.chmod(private_files.FOLDER)
            (home / KEY_FILE).chmod(private_files.FILE)
    device = devices.discover(options.device)
    offered = _offered(config, options.models)
    threads = config.threads if options.engine_threads is None else options.engine_threads
    request = HelloRequest(
        name=options.name or config.worker_name or f"{socket.gethostname()}-{home.name}",
        host=socket.gethostname(),
        device=device.name,
        device_class=device.device_class,
        memory_mb=device.memory_mb,
        kinds=tuple(UnitKind),
        models=tuple(offered.cards),
        polls=options.poll,
        fingerprint=device.fingerprint(threads),
        versions=device.versions,
        attempt=secrets.token_hex(32),
    )
    key, terms = enrol(config, home, request)
    log.info("worker enrolled", worker=terms.worker_id, device=device.name, queues=terms.queues)
    client = Client(config.server, key, read_seconds=min(READ_SECONDS, terms.lease_seconds / 3))
    warm = next(iter(options.models or ()), offered.default.id if offered.cards else None)
    child = Child(Setup(device=device, threads=threads, catalog=offered, warm=warm))
    with Agent(client, child, home, terms, grace_seconds=config.grace_seconds) as agent:
        farewell = Farewell(agent)
        farewell.listen()
        agent.taking_up.wait()
        if not agent.leaving:
            (home / TAKEN_UP).touch()
        if options.poll:
            poll(agent)
        else:
            serve(agent, farewell, terms, config)
    client.close()
    if agent.refused:
        raise agent.refused
    log.info("worker gone", worker=terms.worker_id)
    return 0


# --- enrolment ----------------------------------------------------------------------------


def enrol(config: Settings, home: Path, request: HelloRequest) -> tuple[str, HelloAnswer]:
    """Say hello with the worker's own key, or the first time with a join token.

    Raises:
        BadRequest: there is neither, or no server is named.
        Refused: the farm takes neither.
        Unavailable: the farm did not answer for `HELLO_SECONDS`.
    """
    if not config.server.startswith(("http://", "https://")):
        raise BadRequest(
            "FARM_SERVER is not an http:// or https:// URL.",
            Say("Set it to the farm's URL, as `farm status` shows it."),
        )
    kept = _kept_key(home, config.server)
    token = config.join_token.get_secret_value()
    if kept:
        try:
            return kept, _hello(config.server, kept, request)
        except Refused as refused:
            if not token:
                raise
            again = "enrolling again with the join token"
            log.warning("own key refused", error=refused.message, next=again)
    if not token:
        raise BadRequest(
            "This worker is not enrolled.",
            Say(
                "Set FARM_JOIN_TOKEN (`farm keys create --kind join --device-class "
                f"{request.device_class}` makes one)."
            ),
        )
    terms = _hello(config.server, token, request)
    if not terms.worker_key:
        raise Refused("The farm gave no key for this join token.")
    _keep_key(home, config.server, terms.worker_id, terms.worker_key)
    return terms.worker_key, terms


def _hello(server: str, key: str, request: HelloRequest) -> HelloAnswer:
    client = Client(server, key)
    try:
        return client.hello(request, within_seconds=HELLO_SECONDS)
    finally:
        client.close()


def _kept_key(home: Path, server: str) -> str | None:
    """Return the key this worker got from this farm; a key of another one is not sent there."""
    try:
        kept = json.loads((home / KEY_FILE).read_text(encoding="utf-8"))
        return str(kept["key"]) if kept.get("server", server) == server else None
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, AttributeError):
        log.warning("key file unreadable", file=str(home / KEY_FILE))
        return None


def _keep_key(home: Path, server: str, worker_id: str, key: str) -> None:
    """Write the key so that nobody else can read it, not even for a moment."""
    part = home / f"{KEY_FILE}.part"
    part.unlink(missing_ok=True)
    facts = {"worker_id": worker_id, "key": key, "server": server}
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123 - a mode from the first byte on
        json.dump(facts, file)
    part.replace(home / KEY_FILE)


# --- waiting for work ---------------------------------------------------------------------


def poll(agent: Agent) -> None:
    """Claim by long polling until the agent leaves; back off while the farm is away."""
    back_off = 0.5
    while not agent.leaving:
        try:
            agent.run(wait_seconds=POLL_SECONDS)
            back_off = 0.5
        except Unavailable as error:
            log.warning("farm not reached", error=error.message)
            agent.wait_to_leave(back_off)
            back_off = min(2 * back_off, LONGEST_BACK_OFF_SECONDS)
        except Refused:
            return


def serve(agent: Agent, farewell: "Farewell", terms: HelloAnswer, config: Settings) -> None:
    """Be a Celery worker on the queues the farm named until the agent leaves."""
    from celery import signals
    from celery.worker import state

    from workers.tasks import make_app

    def ring(unit_id: str) -> None:
        try:
            agent.run(unit_id)
        except Unavailable as error:
            log.warning("farm not reached", unit=unit_id, error=error.message)
        except Refused:
            state.should_stop = 0

    def shutting_down(**_: object) -> None:
        farewell()

    signals.worker_shutting_down.connect(shutting_down)
    worker = make_app(config.broker_url.get_secret_value(), ring).Worker(
        hostname=f"{terms.worker_id}@{socket.gethostname()}",
        pool="solo",
        concurrency=1,
        queues=list(terms.queues),
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        quiet=True,
        loglevel="WARNING",
    )
    agent.on_refused = lambda: setattr(state, "should_stop", 0)
    if not agent.leaving:
        worker.start()


class Farewell:
    """Handle a signal: hand back and go; go at once when it is repeated or takes too long."""

    def __init__(self, agent: Agent) -> None:
        self._agent = agent
        self._since: float | None = None

    def listen(self) -> None:
        """Answer SIGTERM and SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self)

    def __call__(self, *_: object) -> None:
        """Take a signal."""
        now = time.monotonic()
        if self._since is None:
            self._since = now
            self._agent.leave()
            timer = threading.Timer(EXIT_SECONDS, os._exit, [1])
            timer.daemon = True
            timer.start()
        elif now - self._since > IMPATIENT_SECONDS:
            os._exit(1)  # the engine dies with its parent


def _offered(config: Settings, models: Sequence[str] | None) -> Catalog:
    """Return the models this worker takes orders for: all it finds, or those that were named."""
    folders = [catalog.bundled_models()]
    if config.models_path:
        folders.append(config.models_path)
    found = catalog.load(*folders, fake=config.fake_model)
    if models is None:
        return found
    return Catalog({model: found.card(model) for model in models})


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="farm worker run", description=__doc__)
    parser.add_argument("--home", type=Path, required=True, help="folder for its key and scratch")
    parser.add_argument("--device", default="", help="cpu, cuda:0 …; default: the first GPU or cpu")
    parser.add_argument("--poll", action="store_true", help="long-poll; no broker is needed")
    parser.add_argument("--models", type=lambda text: text.split(","), help="default: all")
    parser.add_argument("--name", default="", help="default: host and home")
    parser.add_argument("--engine-threads", type=int, help="default: FARM_THREADS, 0 is all cores")
    return parser


if __name__ == "__main__":
    sys.exit(main())
