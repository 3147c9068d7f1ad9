"""API keys, worker keys, join tokens and sign-in links: shown once, kept hashed.

A token carries 160 bits of chance, so a plain SHA-256 is a sound hash of it (argon2 is for
passwords, which have less) and the look-up by hash leaks no timing of its characters.
"""

import hashlib
import secrets
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from orchestrator import device_classes
from orchestrator.errors import BadRequest, Conflict, NotAllowed, NotFound, Unauthorized
from orchestrator.farm.books import session_limits
from orchestrator.farm.jobs import sharing
from orchestrator.farm.kernel import Farm, Idempotency, audit_log
from orchestrator.farm.kernel.idempotency import answered, remember
from orchestrator.farm.kernel.owned import named_session
from orchestrator.farm.kernel.ports import Transaction
from orchestrator.farm.kernel.where import KeyWhere
from orchestrator.model import Account, Allowance, Key
from orchestrator.remedies import CreateKey, GetLink, Listing, LookAt, Say
from orchestrator.settings import MAKE_ONE, is_guessable
from orchestrator.states import KeyKind, Scope

CLIENTS = frozenset({KeyKind.USER, KeyKind.READ, KeyKind.SUBMIT, KeyKind.PAY, KeyKind.CONFIGURE})
"""Kinds whose keys an account handles without an operator."""

ROTATED = CLIENTS | {KeyKind.ADMIN}
"""Kinds that people carry somewhere by hand, and replace now and then."""

BOUNDED = frozenset({KeyKind.USER, KeyKind.SUBMIT})
"""Kinds that spend, so that a key of theirs may be bound to a session and to an allowance."""

MOST_GPU_MS = 10**12
"""Thirty years of one device: more is a slip of the pen."""

FAR_MS = 10**15

USED_RESOLUTION_MS = 60_000
"""`used_at_ms` is written at most this often, so that reading stays reading."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """Bounds of a new key: the only session it spends from, and how much in all; None: any."""

    session: str | None = None
    """By name or id."""
    gpu_ms: int | None = None


UNBOUND = Bounds()


@dataclass(frozen=True, slots=True, kw_only=True)
class Enrolling:
    """Workers that a join token lets in; a worker's own key has the one class it enrolled as."""

    device_classes: tuple[str, ...] | None = None
    """Classes they may name; None: any."""
    uses: int | None = None
    """Number of them; None: any."""


ANYBODY: Final = Enrolling()


def enrolling(kind: KeyKind, products: Sequence[str] | None, uses: int | None) -> Enrolling:
    """Return what a new key of this kind lets in.

    `products`: devices by class or product name, or `any`; of join tokens alone, which need it.

    Raises:
        BadRequest: a join token without them, another key with them, or a name that is none.
    """
    if kind is not KeyKind.JOIN:
        if products is not None or uses is not None:
            raise BadRequest(
                f"A key of kind {kind.value} enrols no workers.",
                Say("Leave device classes and uses out, or make a join key."),
            )
        return ANYBODY
    if not products:
        raise BadRequest(
            "A join key names the device classes that may enrol by it: they have different prices.",
            Say("Name them as the devices are called, as cpu or NVIDIA L4; any is every class."),
            errors=[{"field": "device_classes", "fault": "is missing"}],
        )
    try:
        return Enrolling(device_classes=device_classes.named(products), uses=uses)
    except ValueError as error:
        raise BadRequest(
            f"device_classes: {error}.", errors=[{"field": "device_classes", "fault": str(error)}]
        ) from None


def digest(token: str) -> str:
    """Return what is kept of a token."""
    return hashlib.sha256(token.encode()).hexdigest()


def issue(
    farm: Farm,
    tx: Transaction,
    *,
    kind: KeyKind,
    name: str,
    account_id: str | None = None,
    worker_id: str | None = None,
    ttl_seconds: float | None = None,
    bounds: Bounds = UNBOUND,
    instead_of: Key | None = None,
    enrols: Enrolling = ANYBODY,
    attempt_sha256: str | None = None,
) -> tuple[Key, str]:
    """Make a key within an open transaction; the token is known only to the caller.

    One made `instead_of` another has that one's bounds, and goes on with its allowance.

    Raises:
        BadRequest: a key of this kind spends nothing, or the allowance is not possible.
        NotFound: the account has no such session.
    """
    now = farm.clock()
    key_id = farm.new_id("key", now)
    token = f"farm_{kind}_{key_id.removeprefix('key_')}_{secrets.token_hex(20)}"
    if instead_of is None:
        session_id, allowance_id = _bound(tx, key_id, kind, account_id, bounds)
    else:
        session_id, allowance_id = instead_of.session_id, instead_of.allowance_id
    key = Key(
        id=key_id,
        account_id=account_id,
        worker_id=worker_id,
        kind=kind,
        name=name,
        secret_sha256=digest(token),
        created_at_ms=now,
        expires_at_ms=None if ttl_seconds is None else now + round(ttl_seconds * 1000),
        first_id=instead_of.first_id if instead_of else key_id,
        session_id=session_id,
        allowance_id=allowance_id,
        device_classes=enrols.device_classes,
        uses=enrols.uses,
        attempt_sha256=attempt_sha256,
    )
    tx.add(key)
    _note_made(farm, tx, key, gpu_ms=bounds.gpu_ms)
    return key, token


def _bound(
    tx: Transaction, key_id: str, kind: KeyKind, account_id: str | None, bounds: Bounds
) -> tuple[str | None, str | None]:
    """Return the ids of what a new key is bound to; its allowance is written here."""
    if bounds == UNBOUND:
        return None, None
    if kind not in BOUNDED or account_id is None:
        raise BadRequest(
            f"A {kind} key spends nothing, so it is bound to no session and no allowance.",
            Say(f"Bind a key of one of these kinds: {', '.join(sorted(BOUNDED))}."),
        )
    session_id = allowance_id = None
    if bounds.session is not None:
        session = named_session(tx, account_id, bounds.session)
        session_limits.check_open(tx, session)
        session_id = session.id
    if bounds.gpu_ms is not None:
        check_allowance(bounds.gpu_ms)
        allowance_id = key_id
        tx.add(Allowance(id=key_id, account_id=account_id, limit_gpu_ms=bounds.gpu_ms))
    return session_id, allowance_id


def check_allowance(gpu_ms: int) -> None:
    """Refuse an allowance that no key can have.

    Raises:
        BadRequest: it is none.
    """
    if not 0 < gpu_ms <= MOST_GPU_MS:
        raise BadRequest(
            f"An allowance of {gpu_ms / 1000:.3f} GPU-seconds is not possible.",
            Say("Give more than 0 and at most 1,000,000,000 GPU-seconds."),
        )


def create(
    farm: Farm,
    *,
    account_id: str | None,
    kind: KeyKind,
    name: str,
    worker_id: str | None = None,
    ttl_seconds: float | None = None,
    bounds: Bounds = UNBOUND,
    enrols: Enrolling = ANYBODY,
) -> tuple[Key, str]:
    """Make a key and return it with its token."""
    with farm.store.write() as tx:
        return issue(
            farm,
            tx,
            kind=kind,
            name=name,
            account_id=account_id,
            worker_id=worker_id,
            ttl_seconds=ttl_seconds,
            bounds=bounds,
            enrols=enrols,
        )


def create_once(
    farm: Farm, idempotency: Idempotency | None, *, account_id: str, **facts: Any
) -> tuple[Key, str | None]:
    """Make a key like `create`; a repeated request finds it, but its token is not kept."""
    with farm.store.write() as tx:
        if tx.get(Account, account_id, lock=True) is None:  # an equal request waits here
            raise NotFound(
                f"There is no account {account_id[:80]!r}.",
                LookAt(Listing.ACCOUNTS, "See the accounts there are."),
            )
        if earlier := answered(tx, account_id, idempotency):
            key = tx.get(Key, earlier)
            assert key, "keys are never deleted"
            return key, None
        made = issue(farm, tx, account_id=account_id, **facts)
        remember(tx, account_id, idempotency, made[0].id, farm.clock())
    return made


def admit(farm: Farm, token: str, *, name: str, enrols: Enrolling = ANYBODY) -> None:
    """Accept a join token that the operator chose (a secret file); safe to repeat.

    What it lets in may be another each time; the workers that came by it before count.

    Raises:
        BadRequest: it can be guessed.
    """
    if is_guessable(token):
        raise BadRequest(f"{name} can be guessed.", Say(f"Instead, {MAKE_ONE}."))
    now = farm.clock()
    with farm.store.write() as tx:
        there = tx.find(Key, secret_sha256=digest(token), lock=True)
        if there and (enrols.device_classes, enrols.uses) != (
            there[0].device_classes,
            there[0].uses,
        ):
            terms = replace(there[0], device_classes=enrols.device_classes, uses=enrols.uses)
            tx.save(there[0], terms)
        elif not there:
            key_id = farm.new_id("key", now)
            key = Key(
                id=key_id,
                first_id=key_id,
                account_id=None,
                kind=KeyKind.JOIN,
                name=name,
                secret_sha256=digest(token),
                created_at_ms=now,
                device_classes=enrols.device_classes,
                uses=enrols.uses,
            )
            tx.add(key)
            _note_made(farm, tx, key)


def let_in(
    farm: Farm, tx: Transaction, key: Key, device_class: str, attempt: str | None
) -> tuple[Key, str | None]:
    """Take one use of a join token within an open transaction: of two at once, one waits here.

    A repeat of an attempt that succeeded takes none: the id of its worker is returned besides, and
    that worker's key, which nobody heard of, ends.

    Raises:
        NotAllowed: it is no join token, has ended, as many workers came by it as may, or it is a
            repeat as another class.
    """
    fresh = tx.get(Key, key.id, lock=True)
    if fresh is None or fresh.kind is not KeyKind.JOIN or not _live(fresh, farm.clock()):
        raise NotAllowed(
            "hello takes a join token or a worker's own key.", CreateKey("join", device_class)
        )
    if attempt and (
        before := tx.find(Key, attempt_sha256=attempt_of(fresh, attempt), revoked_at_ms=None)
    ):
        bind(before[0], device_class)
        return fresh, end(farm, tx, before[0]).worker_id
    if fresh.uses is not None and fresh.times_used >= fresh.uses:
        workers = "1 worker" if fresh.uses == 1 else f"{fresh.uses} workers"
        raise NotAllowed(
            f"This join token is used up: it lets in {workers}, and each gets a key of its own.",
            CreateKey("join", device_class),
        )
    return tx.save(fresh, replace(fresh, times_used=fresh.times_used + 1)), None


def attempt_of(key: Key, attempt: str) -> str:
    """Return what is kept of an attempt to enrol by a join token."""
    return digest(f"{key.id} {attempt}")


def bind(key: Key, device_class: str) -> None:
    """Hold a worker to the device classes of its key.

    Raises:
        NotAllowed: it names another; says which it may.
    """
    allowed = key.device_classes
    if allowed is not None and device_class not in allowed:
        whose = "join token lets in" if key.kind is KeyKind.JOIN else "worker's key is for"
        raise NotAllowed(
            f"This {whose} devices of class {', '.join(allowed)}; the worker says "
            f"{device_class!r}. Nothing was enrolled.",
            CreateKey("join", device_class),
        )


def resolve(farm: Farm, token: str) -> Key:
    """Return the live key that this token is.

    Raises:
        Unauthorized: no such key, or it is expired or revoked.
    """
    now = farm.clock()
    with farm.store.read() as tx:
        found = tx.find(Key, secret_sha256=digest(token))
    if not found or not _live(found[0], now):
        raise Unauthorized("This key is not valid, has expired or was revoked.")
    key = found[0]
    if now - (key.used_at_ms or 0) > USED_RESOLUTION_MS:
        with farm.store.write() as tx:
            fresh = tx.get(Key, key.id, lock=True)
            if fresh is None or not _live(fresh, now):
                raise Unauthorized("This key has just been revoked.")
            key = tx.save(fresh, replace(fresh, used_at_ms=now))
    return key


def redeem_signin(farm: Farm, token: str) -> Key:
    """Use up a sign-in link and return it; the browser is signed in until the link is revoked.

    Raises:
        Unauthorized: the link was used, is too old, or never was one.
    """
    now = farm.clock()
    with farm.store.write() as tx:
        found = tx.find(Key, secret_sha256=digest(token), kind=KeyKind.SIGNIN, lock=True)
        if not found or not _live(found[0], now) or found[0].used_at_ms is not None:
            raise Unauthorized(
                "This sign-in link was used already or is too old.",
                GetLink(),
            )
        link = tx.save(found[0], replace(found[0], used_at_ms=now))
        assert link.account_id, "a sign-in link names an account"
        audit_log.note(farm, tx, "account.sign_in", link.account_id, link.account_id, link=link.id)
        return link


def own_key(tx: Transaction, account_id: str | None, key_id: str) -> Key:
    """Return a key, locked: any one, or one of that account that is not an operator's.

    Raises:
        NotFound: there is none.
    """
    key = tx.get(Key, key_id, lock=True)
    own = key and key.account_id == account_id and key.kind in CLIENTS
    if key is None or (account_id is not None and not own):
        raise NotFound(
            f"There is no key {key_id}.", LookAt(Listing.KEYS, "See the keys there are.")
        )
    return key


def revoke(farm: Farm, account_id: str | None, key_id: str) -> Key:
    """End a key at once. `account_id` None: any key; else a user key of that account."""
    with farm.store.write() as tx:
        key = own_key(tx, account_id, key_id)
        if key.revoked_at_ms is not None:
            return key
        return end(farm, tx, key)


def rotate(
    farm: Farm,
    account_id: str | None,
    key_id: str,
    *,
    keep_seconds: float,
    within: frozenset[Scope] | None = None,
) -> tuple[Key, str]:
    """Make a key that takes another one's place; both live until the old one ends.

    Of a line of keys at most two live: the one before the old one ends now. They have one
    allowance together. `account_id` None: any key; else a key of that account that is not an
    operator's.
    `within`: the scopes of who asks and is shown the new one.

    Raises:
        Conflict: the key has ended, or has a successor already.
        NotAllowed: the key may do what who asks may not.
    """
    now = farm.clock()
    with farm.store.write() as tx:
        old = own_key(tx, account_id, key_id)
        if within is not None and not old.scopes <= within:
            more = ", ".join(sorted(old.scopes - within))
            raise NotAllowed(f"That key may do more than the one that asks: {more}.")
        if old.kind not in ROTATED or not _live(old, now):
            raise Conflict("This key has ended or is used once.", CreateKey(old.kind.value))
        if old.successor_id:
            raise Conflict("This key has a successor already.", Say("Rotate that one."))
        for earlier in tx.find(Key, successor_id=old.id, revoked_at_ms=None):
            end(farm, tx, earlier)
        lifetime = old.expires_at_ms and (old.expires_at_ms - old.created_at_ms) / 1000
        new, token = issue(
            farm,
            tx,
            kind=old.kind,
            name=old.name,
            account_id=old.account_id,
            ttl_seconds=lifetime,
            instead_of=old,
        )
        until = min(old.expires_at_ms or now + FAR_MS, now + round(keep_seconds * 1000))
        tx.save(old, replace(old, successor_id=new.id, expires_at_ms=until))
        sharing.end_with_key(farm, tx, old.id, at_ms=until)
        audit_log.note(farm, tx, "key.rotate", old.id, old.account_id, successor=new.id)
        return new, token


def is_live(farm: Farm, key_id: str) -> bool:
    """Tell whether a key still opens anything."""
    with farm.store.read() as tx:
        key = tx.get(Key, key_id)
    return key is not None and _live(key, farm.clock())


def live_among(farm: Farm, key_ids: Collection[str]) -> frozenset[str]:
    """Return those of these keys that still open anything."""
    now = farm.clock()
    with farm.store.read() as tx:
        found = tx.find(Key, id=tuple(key_ids))
    return frozenset(key.id for key in found if _live(key, now))


def keeps_signed_in(key: Key, now_ms: int) -> bool:
    """Tell whether a browser that came by this key, or this one-time link, is still signed in."""
    return key.revoked_at_ms is None if key.kind is KeyKind.SIGNIN else _live(key, now_ms)


def end(farm: Farm, tx: Transaction, key: Key) -> Key:
    """Revoke a key within an open transaction, and the share links that end with it."""
    audit_log.note(
        farm, tx, "key.revoke", key.id, key.account_id, kind=key.kind.value, name=key.name
    )
    sharing.end_with_key(farm, tx, key.id)
    return tx.save(key, replace(key, revoked_at_ms=farm.clock()))


def listing(farm: Farm, account_id: str | None) -> list[Key]:
    """Return the keys of an account (None: all), newest first; never their secrets."""
    where: KeyWhere = {"order": "-id"}
    if account_id is not None:
        where["account_id"] = account_id
    with farm.store.read() as tx:
        return tx.find(Key, **where)


def _note_made(farm: Farm, tx: Transaction, key: Key, *, gpu_ms: int | None = None) -> None:
    told: dict[str, object] = {"kind": key.kind.value, "name": key.name}
    told |= {"session_id": key.session_id, "gpu_ms": gpu_ms}
    if key.kind is KeyKind.JOIN:
        classes = device_classes.ANY if key.device_classes is None else list(key.device_classes)
        told |= {"device_classes": classes, "uses": key.uses or device_classes.ANY}
    audit_log.note(farm, tx, "key.create", key.id, key.account_id, **told)


def _live(key: Key, now_ms: int) -> bool:
    expired = key.expires_at_ms is not None and key.expires_at_ms <= now_ms
    return key.revoked_at_ms is None and not expired
