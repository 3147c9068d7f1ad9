"""Claim, run, report: the parent's loop around one unit after another.

Nothing here is trusted to last: the farm may be away, the child may hang, the lease may end.
Whatever happens, at most one of complete, release and silence ends a lease, and silence is
always safe, for the farm takes back what it does not hear of.
"""

import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Final

import structlog

from orchestrator.errors import FarmError, StaleLease, Unavailable
from orchestrator.receipt import Artifact, Receipt
from orchestrator.states import Cause, Outcome
from orchestrator.wire import (
    CompleteRequest,
    EncodeWork,
    HelloAnswer,
    Order,
    ReleaseRequest,
    RenderWork,
)
from workers.artifacts import Artifacts
from workers.child import Assignment, Child, ChildDied
from workers.client import Client, Refused
from workers.heartbeat import Heartbeats, HeldOrder
from workers.host_time import HostTime
from workers.result import Result, cause_of, message_of
from workers.watch import Leaving, TakingUp, Watch

log = structlog.get_logger(__name__)

RELEASE_SECONDS: Final = 3.0
PASSING: Final = (Unavailable, StaleLease, Refused)
"""Errors of a call that end the work without a report: there is nobody to take it."""
MESSAGE_CHARS: Final = 2000


class Agent:
    """One worker's loop. `run` is called by one thread; `leave` from signal handlers."""

    def __init__(
        self, client: Client, child: Child, home: Path, terms: HelloAnswer, *, grace_seconds: float
    ) -> None:
        self.client, self.child = client, child
        self.refused: Refused | None = None
        self.on_refused: Callable[[], None] = lambda: None
        self._grace_seconds, self._lease_seconds = grace_seconds, terms.lease_seconds
        self._artifacts = Artifacts(client, home / "cache")
        self._scratch = home / "scratch"
        shutil.rmtree(self._scratch, ignore_errors=True)  # of a process that was killed
        self._heart = Heartbeats(client, terms.heartbeat_seconds, self._refuse)
        self._leaving = threading.Event()
        self.taking_up = TakingUp(client, child, self._leaving, self._refuse)
        self._watch = Watch(child, terms.lease_seconds, grace_seconds, self._leaving)

    def __enter__(self) -> "Agent":
        self.child.start()
        self._heart.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._heart.stop()
        self.child.kill()
        shutil.rmtree(self._scratch, ignore_errors=True)

    @property
    def leaving(self) -> bool:
        """It was told to go: it hands back what it has and claims nothing more."""
        return self._leaving.is_set()

    def leave(self) -> None:
        """Hand back the unit in hand and let `run` return. Safe in a signal handler."""
        self._leaving.set()

    def wait_to_leave(self, seconds: float) -> None:
        """Sleep, but no longer than until it is told to leave."""
        self._leaving.wait(seconds)

    def run(self, hint: str | None = None, *, wait_seconds: float = 0) -> int:
        """Do units until the farm has none for this worker; return how many were done.

        Raises:
            Unavailable: the farm does not answer a claim.
            Refused: it does not take this worker.
        """
        asked_at = monotonic()
        if self.leaving:
            return 0
        waiting = deque(self._hold(self.client.claim(hint, wait_seconds=wait_seconds), asked_at))
        done = 0
        while waiting:
            held = waiting.popleft()
            if self.leaving:
                self._release(held)
                continue
            waiting.extend(self._one(held, claim_next=not waiting))
            done += 1
            self.taking_up.tell()
        self._artifacts.trim()
        if self.refused:
            raise self.refused
        return done

    # --- one unit ---

    def _one(self, held: HeldOrder, *, claim_next: bool) -> list[HeldOrder]:
        """Do one unit from its inputs to its report; return the leases that the answer brought."""
        order = held.order
        folder = self._scratch / order.lease_id
        told = log.bind(unit=order.unit_id, lease=order.lease_id, fence=order.fence)
        told.info("unit started", kind=order.work.kind, job=order.job_id)
        host = HostTime()
        host.add("queue", monotonic() - held.since)
        try:
            result = self._result(held, folder, host)
            if result is None:
                return []
            return self._complete(held, result, host, claim_next=claim_next)
        except StaleLease:
            told.info("unit dropped", why="the lease is no longer ours")
        except Unavailable as error:
            told.warning("unit dropped", why=error.message)
        except Refused as refused:
            self._refuse(refused)
        except FarmError as error:
            told.error("report refused", error=error.message)
        finally:
            self._heart.drop(held)
            shutil.rmtree(folder, ignore_errors=True)
        return []

    def _result(self, held: HeldOrder, folder: Path, host: HostTime) -> Result | None:
        """Fetch, run and watch; None where there is nothing left to report."""
        try:
            folder.mkdir(parents=True)
            with host.span("fetch"):
                inputs = self._fetch(held)
        except PASSING:
            raise
        except (FarmError, OSError) as error:
            return _not_the_requests(error)
        held.begun = monotonic()
        self.child.begin(
            Assignment(order=held.order, inputs=inputs, folder=folder, sent_at=held.begun)
        )
        try:
            return self._watch.result(held)
        except Leaving:
            self._release(held)
            return None
        except ChildDied as died:
            log.error("engine died", unit=held.order.unit_id, error=str(died))  # noqa: TRY400 - no trace needed
            return _failed(Cause.WORKER, str(died), held.taken_ms)

    def _fetch(self, held: HeldOrder) -> dict[str, Path]:
        """Return local copies of what the order names, by key."""
        work = held.order.work
        wanted: dict[str, str | None] = {}
        if isinstance(work, RenderWork):
            if work.image:
                wanted[work.image] = None
            if work.checkpoint:
                wanted[work.checkpoint.key] = work.checkpoint.sha256
        elif isinstance(work, EncodeWork):
            wanted = {segment.key: segment.sha256 for segment in work.inputs}
        return {
            key: self._artifacts.fetch(key, digest, within_seconds=self._remaining(held))
            for key, digest in wanted.items()
        }

    # --- the end of a lease ---

    def _complete(
        self, held: HeldOrder, result: Result, host: HostTime, *, claim_next: bool
    ) -> list[HeldOrder]:
        order = held.order
        uploaded: tuple[Artifact, ...] = ()
        try:
            with host.span("upload"):
                uploaded = self._artifacts.upload(
                    order, result.files, within_seconds=self._remaining(held)
                )
        except PASSING:
            raise
        except (FarmError, OSError) as error:
            measured = result.receipt
            used_ms = measured.gpu_ms + measured.wasted_gpu_ms + measured.load_gpu_ms
            result = _not_the_requests(error, used_ms)
        request = CompleteRequest(
            lease_id=order.lease_id,
            fence=order.fence,
            outcome=result.outcome,
            cause=result.cause,
            message=result.message[:MESSAGE_CHARS],
            receipt=result.receipt.model_copy(
                update={"artifacts": uploaded, "host_ms": result.receipt.host_ms | host.ms}
            ),
            render_plan=result.render_plan,
            claim_next=claim_next and not self.leaving,
        )
        asked_at = monotonic()
        answer = self.client.complete(request, within_seconds=self._remaining(held))
        log.info(
            "unit completed",
            unit=order.unit_id,
            lease=order.lease_id,
            outcome=result.outcome,
            settled_gpu_ms=answer.settled_gpu_ms,
            lost_gpu_ms=answer.lost_gpu_ms,
        )
        return self._hold(answer.orders, asked_at)

    def _release(self, held: HeldOrder) -> None:
        order = held.order
        self._heart.drop(held)
        request = ReleaseRequest(lease_id=order.lease_id, fence=order.fence, gpu_ms=held.taken_ms)
        with suppress(FarmError):  # it lapses, then
            self.client.release(request, within_seconds=RELEASE_SECONDS)
            log.info("unit handed back", unit=order.unit_id, lease=order.lease_id)

    def _hold(self, orders: Sequence[Order], asked_at: float) -> list[HeldOrder]:
        held = [self._heart.hold(order, asked_at) for order in orders]
        for each in held:  # one whose first answer was lost is as old as it has less time left
            each.since -= max(0.0, self._lease_seconds - each.order.expires_in_ms / 1000)
        return held

    def _remaining(self, held: HeldOrder) -> float:
        """Return the seconds for which reporting still makes sense; the lease may be renewed."""
        return max(1.0, held.deadline + self._grace_seconds - monotonic())

    def _refuse(self, refused: Refused) -> None:
        self.refused = refused
        self._leaving.set()
        self.on_refused()


def _not_the_requests(error: Exception, lost_ms: int = 0) -> Result:
    """Return the failure of a unit whose files could not be moved: the machine's, or ours."""
    cause = Cause.WORKER if cause_of(error) is Cause.WORKER else Cause.FARM
    return _failed(cause, message_of(error), lost_ms)


def _failed(cause: Cause, message: str, lost_ms: int) -> Result:
    """Return the failure of a unit without a result; the device time it took is lost."""
    lost = {"lost": lost_ms} if lost_ms else {}
    receipt = Receipt(gpu_ms=0, wasted_gpu_ms=lost_ms, by_stage=lost, load_gpu_ms=0, frames_done=0)
    return Result(outcome=Outcome.FAILED, cause=cause, message=message, receipt=receipt)
