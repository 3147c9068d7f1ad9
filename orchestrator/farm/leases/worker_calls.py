"""The worker protocol's verbs: hello, claim, heartbeat, release, and who may touch which file.

`complete` is in `orchestrator.farm.leases.results`.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from orchestrator.errors import BadRequest, NotFound, StaleLease
from orchestrator.farm.accounts import keys
from orchestrator.farm.books import shifts
from orchestrator.farm.jobs import extensions
from orchestrator.farm.kernel import Farm, facts
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.leases import grants, orders
from orchestrator.farm.leases.orders import VideoOrdered
from orchestrator.farm.leases.results import complete, give_back
from orchestrator.model import Job, Key, Lease, Pace, Unit, Worker
from orchestrator.remedies import Say
from orchestrator.scheduling import scheduler
from orchestrator.states import (
    Intent,
    KeyKind,
    LeaseState,
    UnitKind,
    UnitState,
    Verdict,
    WorkerState,
)
from orchestrator.wire import (
    FILES,
    PROTOCOL,
    HeartbeatAnswer,
    HeartbeatRequest,
    HelloAnswer,
    HelloRequest,
    LeaseUse,
    LeaseVerdict,
    Order,
    PaceReport,
    ReleaseAnswer,
    ReleaseRequest,
)

SEEN_RESOLUTION_MS: Final = 5_000
"""`seen_at_ms` of an idle worker is written at most this often."""
AROUND_MS: Final = 1_800_000
"""Time of a lease beside its limit of device time: a worker waits 15 minutes for a model to
load, and fetching, writing and sending may take as long again."""
MOST_SIZES: Final = 8
"""Paces of one worker and model that are kept, the newest."""
OVER_SHARE: Final = 0.1
OVER_MS: Final = 1_000
"""Beyond its limit, so much is a last step or decode that was slower than all before it."""

__all__ = [
    "claim",
    "complete",
    "heartbeat",
    "hello",
    "may_read",
    "place",
    "release",
    "unit_of",
    "upload_key",
    "video_ordered",
]


def hello(farm: Farm, key: Key, request: HelloRequest) -> HelloAnswer:
    """Enrol a worker that shows a join token, or welcome one back that shows its own key.

    A worker that says hello has just started: what it was leased before is given back.

    Raises:
        BadRequest: it speaks another protocol.
        NotAllowed: the token is used up or is not for devices of this class, or the worker enrolled
            as another.
    """
    if request.protocol != PROTOCOL:
        raise BadRequest(
            f"This farm speaks worker protocol {PROTOCOL}, the worker {request.protocol}.",
            Say("Install the same version of Framefarm on both."),
        )
    now = farm.clock()
    token = None
    with farm.store.write() as tx:
        known = tx.get(Worker, key.worker_id, lock=True) if key.worker_id else None
        enrols = known is None
        if enrols:
            key, id_before = keys.let_in(farm, tx, key, request.device_class, request.attempt)
            known = tx.get(Worker, id_before, lock=True) if id_before else None
        keys.bind(key, request.device_class)
        worker = _described(farm, known, request, now)
        if known:
            tx.save(known, replace(worker, since_ms=shifts.begin(farm, tx, known, now).since_ms))
            for lease in tx.find(Lease, worker_id=worker.id, state=LeaseState.OPEN):
                give_back(farm, tx, lease, now, lapsed=True)
        else:
            tx.add(worker)
        if enrols:
            token = _own_key(farm, tx, key, worker, request.attempt)
        epoch = facts.epoch(tx)
    return HelloAnswer(
        worker_id=worker.id,
        worker_key=token,
        epoch=epoch,
        heartbeat_seconds=farm.terms.heartbeat_seconds,
        lease_seconds=farm.terms.lease_seconds,
        queues=scheduler.queues_of(worker.kinds, worker.models),
    )


def claim(farm: Farm, worker_id: str, hint: str | None) -> tuple[Order, ...]:
    """Return the worker's next order, chosen by the farm; empty when there is nothing for it."""
    now = farm.clock()
    with farm.store.read() as tx:  # most claims of an idle worker end here, without a write
        worker = _worker(tx, worker_id)
        idle = not tx.find(Lease, worker_id=worker_id, state=LeaseState.OPEN)
        seen_lately = now - worker.seen_at_ms < SEEN_RESOLUTION_MS
        if idle and seen_lately:
            waiting = grants.waiting_for(farm, tx, worker, hint, now)
            if next(waiting, None) is None:
                return ()
    with farm.store.write() as tx:
        worker = _seen(farm, tx, worker_id, now)
        again = grants.redeliver(farm, tx, worker, now)
        return grants.grant(farm, tx, worker, hint, now) if again is None else again


def heartbeat(farm: Farm, worker_id: str, request: HeartbeatRequest) -> HeartbeatAnswer:
    """Renew leases and say, for each, whether to go on; keep the paces that come with it.

    A pace replaces what the worker measured of that model and size before; nobody is charged.
    """
    now = farm.clock()
    with farm.store.write() as tx:
        worker = _seen(farm, tx, worker_id, now)
        verdicts = tuple(_renew(farm, tx, worker_id, use, now) for use in request.leases)
        for pace in request.paces:
            _keep_pace(farm, tx, worker, pace, now)
    if request.paces:
        farm.fits.clear()  # the next quote is to know
    return HeartbeatAnswer(leases=verdicts)


def release(farm: Farm, worker_id: str, request: ReleaseRequest) -> ReleaseAnswer:
    """Take a unit back that its worker hands over unfinished; nothing is charged."""
    now = farm.clock()
    with farm.store.write() as tx:
        _seen(farm, tx, worker_id, now)
        lease = own_lease(tx, worker_id, request.lease_id, request.fence)
        lease = tx.save(lease, replace(lease, used_gpu_ms=max(lease.used_gpu_ms, request.gpu_ms)))
        give_back(farm, tx, lease, now, lapsed=False)
    return ReleaseAnswer()


def upload_key(farm: Farm, worker_id: str, lease_id: str, fence: int, name: str) -> str:
    """Return where a worker may put a file of its open lease.

    Raises:
        BadRequest: no unit has such a file.
        StaleLease: the lease is resolved or has expired.
    """
    if name not in FILES:
        raise BadRequest(
            "No unit has a file of that name.", Say(f"It is one of {', '.join(FILES)}.")
        )
    with farm.store.read() as tx:
        return _taking(farm, tx, worker_id, lease_id, fence).key(name)


def place(
    farm: Farm, worker_id: str, lease_id: str, fence: int, settle: Callable[[], None]
) -> None:
    """Put a file of an open lease in its place by `settle`, while no report of it is accepted.

    Raises:
        StaleLease: the lease is resolved or has expired; nothing is put there.
    """
    with farm.store.write() as tx:
        tx.get(Worker, worker_id, lock=True)  # a report of this worker's locks it first, too
        _taking(farm, tx, worker_id, lease_id, fence)
        settle()


def unit_of(farm: Farm, worker_id: str, lease_id: str) -> str:
    """Return the unit of a worker's lease, open or resolved.

    Raises:
        StaleLease: it is not this worker's.
    """
    with farm.store.read() as tx:
        lease = tx.get(Lease, lease_id)
    if lease is None or lease.worker_id != worker_id:
        raise StaleLease(lease_id=lease_id)
    return lease.unit_id


def video_ordered(farm: Farm, worker_id: str, lease_id: str) -> VideoOrdered | None:
    """Return what the video of a worker's open encode lease has to be; None of any other lease."""
    with farm.store.read() as tx:
        lease = tx.get(Lease, lease_id)
        if lease is None or lease.worker_id != worker_id or lease.state is not LeaseState.OPEN:
            return None
        job = tx.get(Job, lease.job_id)
        assert job, "rows are never deleted"
        return orders.video_ordered(tx, job) if lease.kind is UnitKind.ENCODE else None


def may_read(farm: Farm, worker_id: str, key: str) -> None:
    """Let a worker read the files that its open leases name: inputs, segments, checkpoints.

    Raises:
        NotFound: it holds no lease that names this file.
    """
    with farm.store.read() as tx:
        for lease in tx.find(Lease, worker_id=worker_id, state=LeaseState.OPEN):
            job = tx.get(Job, lease.job_id)
            own = tx.get(Unit, lease.unit_id)
            goes_on = own.checkpoint if own else None
            if key in (job and job.brief.image, goes_on and goes_on.key):
                return
            if job and (lead := extensions.lead(tx, job)) and key == lead.key:
                return
            parts = key.split("/")
            if len(parts) == 4 and parts[0] == "units":
                unit = tx.get(Unit, parts[1])
                if unit and unit.job_id == lease.job_id and unit.state is UnitState.DONE:
                    return
    raise NotFound(f"No open lease of this worker names {key}.", Say("Drop the work."))


def _taking(farm: Farm, tx: Transaction, worker_id: str, lease_id: str, fence: int) -> Lease:
    """Return an open lease of this worker whose files are still taken."""
    lease = own_lease(tx, worker_id, lease_id, fence)
    if lease.expires_at_ms + farm.terms.grace_ms < farm.clock():
        raise StaleLease
    return lease


def own_lease(tx: Transaction, worker_id: str, lease_id: str, fence: int) -> Lease:
    """Return an open lease of this worker.

    Raises:
        StaleLease: it is another's, resolved, or of an older fence or epoch.
    """
    lease = tx.get(Lease, lease_id)
    if (
        lease is None
        or lease.worker_id != worker_id
        or lease.fence != fence
        or lease.state is not LeaseState.OPEN
        or lease.epoch != facts.epoch(tx)
    ):
        raise StaleLease(lease_id=lease_id)
    return lease


def _renew(farm: Farm, tx: Transaction, worker_id: str, use: LeaseUse, now_ms: int) -> LeaseVerdict:
    try:
        lease = own_lease(tx, worker_id, use.lease_id, use.fence)
    except StaleLease:
        return LeaseVerdict(lease_id=use.lease_id, verdict=Verdict.GONE, expires_in_ms=0)
    if now_ms > lease.expires_at_ms + farm.terms.grace_ms:  # as for its report: too late
        return LeaseVerdict(lease_id=use.lease_id, verdict=Verdict.GONE, expires_in_ms=0)
    unit = tx.get(Unit, lease.unit_id)
    assert unit, "rows are never deleted"
    limit_ms = lease.gpu_ms_limit + unit.prepaid_gpu_ms  # as its order says
    oldest_ms = lease.granted_at_ms + limit_ms + AROUND_MS
    if use.sequence > lease.sequence:  # an older message that comes late changes nothing
        progressed = (
            use.frames_done > lease.frames_done
            or use.steps_done > lease.steps_done
            or use.gpu_ms > lease.used_gpu_ms
        )
        lease = tx.save(
            lease,
            replace(
                lease,
                sequence=use.sequence,
                used_gpu_ms=max(lease.used_gpu_ms, use.gpu_ms),
                frames_done=max(lease.frames_done, use.frames_done),
                steps_done=max(lease.steps_done, use.steps_done),
                worked_ms=max(lease.worked_ms, min(use.worked_ms, now_ms - lease.granted_at_ms)),
                expires_at_ms=max(
                    lease.expires_at_ms, min(now_ms + farm.terms.lease_ms, oldest_ms)
                ),
            ),
        )
        if progressed:
            data = {
                "unit_id": lease.unit_id,
                "stage": lease.kind.value,
                "unit_frames_done": lease.frames_done,
                "unit_steps_done": lease.steps_done,
                "unit_gpu_ms": lease.used_gpu_ms,
            }
            tx.deliveries.tell(lease.job_id, [("progress", data)], now_ms)
    over = lease.used_gpu_ms > limit_ms * (1 + OVER_SHARE) + OVER_MS or now_ms > oldest_ms
    return LeaseVerdict(
        lease_id=lease.id,
        verdict=Verdict.PAUSE if facts.is_frozen(tx) else _verdict(tx, lease, over=over),
        expires_in_ms=max(0, lease.expires_at_ms - now_ms),
    )


def _keep_pace(
    farm: Farm, tx: Transaction, worker: Worker, report: PaceReport, now_ms: int
) -> None:
    """Keep the pace of a model that this farm has, in the version that it has."""
    card = farm.catalog.cards.get(report.model)
    if card is None or card.version != report.model_version:
        return
    pace = Pace(
        id=farm.new_id("pac", now_ms),
        worker_id=worker.id,
        model=card.id,
        device_class=worker.device_class,
        megapixels=report.micro_batch * report.width * report.height / 1e6,
        step_gpu_ms=report.step_ms,
        decode_gpu_ms=report.decode_ms,
        load_gpu_ms=report.load_ms,
        at_ms=now_ms,
    )
    before = tx.find(Pace, worker_id=worker.id, model=card.id)
    alike = [each for each in before if each.megapixels == pace.megapixels]
    if not alike and len(before) >= MOST_SIZES:
        alike = [min(before, key=lambda each: (each.at_ms, each.id))]
    if alike:
        tx.save(alike[0], replace(pace, id=alike[0].id))
    else:
        tx.add(pace)


def _verdict(tx: Transaction, lease: Lease, *, over: bool) -> Verdict:
    job = tx.get(Job, lease.job_id)
    assert job, "rows are never deleted"
    wished = {Intent.PAUSE: Verdict.PAUSE, Intent.CANCEL: Verdict.CANCEL}
    if job.intent:
        return wished[job.intent]
    return Verdict.PAUSE if over else Verdict.GO


def _worker(tx: Transaction, worker_id: str) -> Worker:
    worker = tx.get(Worker, worker_id)
    if worker is None:
        raise NotFound(f"There is no worker {worker_id}.", Say("Say hello first."))
    return worker


def _seen(farm: Farm, tx: Transaction, worker_id: str, now_ms: int) -> Worker:
    worker = tx.get(Worker, worker_id, lock=True) or _worker(tx, worker_id)
    return tx.save(worker, shifts.seen(farm, tx, worker, now_ms))


def _own_key(farm: Farm, tx: Transaction, join: Key, worker: Worker, attempt: str | None) -> str:
    """Make the key of a worker that has enrolled, bound to its class, and return its token."""
    _, token = keys.issue(
        farm,
        tx,
        kind=KeyKind.WORKER,
        name=worker.name,
        worker_id=worker.id,
        enrols=keys.Enrolling(device_classes=(worker.device_class,)),
        attempt_sha256=keys.attempt_of(join, attempt) if attempt else None,
    )
    return token


def _described(farm: Farm, known: Worker | None, request: HelloRequest, now_ms: int) -> Worker:
    described = {
        **request.model_dump(include={"name", "host", "device", "device_class", "memory_mb"}),
        "kinds": tuple(kind.value for kind in request.kinds),
        "models": request.models,
        "polls": request.polls,
        "fingerprint": request.fingerprint,
        "versions": request.versions,
        "seen_at_ms": now_ms,
    }
    if known:
        back = known.state is WorkerState.QUARANTINED
        state = WorkerState.QUARANTINED if back else WorkerState.ACTIVE
        return replace(known, **described, state=state)
    return Worker(id=farm.new_id("wrk", now_ms), created_at_ms=now_ms, since_ms=now_ms, **described)
