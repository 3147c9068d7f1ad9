"""The ground of every verb: the farm, the ports of its store, ids, idempotency, paging.

Nothing here knows HTTP, SQL, Celery or the wall clock: the store, the catalogue and the
clock come in with `Farm`.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from orchestrator.catalog import Catalog
from orchestrator.farm.kernel.ids import new_id
from orchestrator.farm.kernel.ports import Store
from orchestrator.money import plans
from orchestrator.money.plans import Plans
from orchestrator.money.pricing import CostModel
from orchestrator.money.rates import Rates, shipped
from orchestrator.scheduling.forecast import Left
from orchestrator.scheduling.positions import PositionCache

T = TypeVar("T")

DEFAULT_SESSION: Final = "default"


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """The numbers the farm keeps to; see `orchestrator.settings` for what each means."""

    lease_seconds: float = 30.0
    grace_seconds: float = 10.0
    heartbeat_seconds: float = 2.0
    max_attempts: int = 3
    lease_margin: float = 1.5
    lease_margin_unmeasured: float = 5.0
    runaway: float = 4.0
    worker_gone_seconds: float = 60.0
    ring_again_seconds: float = 3.0
    age_seconds: float = 300.0
    affinity_seconds: float = 30.0
    look_seconds: float = 2.0
    default_session_gpu_seconds: int = 3600
    max_prompt_chars: int = 10_000
    max_job_megapixel_steps: int = 100_000
    webhook_log_days: float = 30.0
    judges_prompts: bool = False
    """The operator's policy is asked about every prompt."""
    judges_frames: bool = False
    """And about every video's frames."""

    @property
    def lease_ms(self) -> int:
        """Time a lease lasts without a heartbeat."""
        return round(self.lease_seconds * 1000)

    @property
    def age_ms(self) -> int:
        """Time without service after which a session has waited too long."""
        return round(self.age_seconds * 1000)

    @property
    def affinity_ms(self) -> int:
        """Time that others may wait while a worker stays with its model."""
        return round(self.affinity_seconds * 1000)

    @property
    def look_ms(self) -> int:
        """Time for which one look at the line, or at the receipts, is good enough."""
        return round(self.look_seconds * 1000)

    @property
    def grace_ms(self) -> int:
        """Time between expiry and lapse."""
        return round(self.grace_seconds * 1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """The user of the farm, as the audit log names them."""

    key_id: str | None = None
    """The key that asked; None: a browser, or a process of the farm."""
    source: str = "farm"
    """From where: a network address, or `farm`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Farm:
    """Everything a verb needs: the truth, the models, the time and the house's numbers."""

    store: Store
    catalog: Catalog
    clock: Callable[[], int]
    """Milliseconds since 1970."""
    terms: Terms = field(default_factory=Terms)
    rates: Rates = field(default_factory=shipped)
    plans: Plans = field(default_factory=plans.shipped)
    new_id: Callable[[str, int], str] = new_id
    """(prefix, now_ms) -> an id that sorts by time."""
    board: PositionCache = field(default_factory=PositionCache, compare=False, repr=False)
    """The newest look at the waiting jobs; every process looks for itself."""
    fits: dict[str, tuple[int, CostModel]] = field(default_factory=dict, compare=False, repr=False)
    """By model: when its costs were last fitted to receipts, and how; likewise."""
    told: dict[str, Left] = field(default_factory=dict, compare=False, repr=False)
    """By job: the time left that was told of it last; likewise."""
    actor: Actor = Actor()
    """On whose behalf the verbs are called; a front end replaces it for each request."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """Part of a list, and where the next part begins (None: there is none)."""

    items: tuple[T, ...]
    next_cursor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Idempotency:
    """A client's promise that the same key is the same request."""

    key: str
    body_sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Repeat:
    """Which try of a client this request is, for clients that repeat without a key.

    `orchestrator.farm.kernel.repeats` says which job a try means.
    """

    request_sha256: str
    """Of what is asked, and of the key that asks."""
    tries_before: int
    """As the client counts: 0 is the first."""
    arrived_at_ms: int
    window_ms: int
    """Time since the first try, at most."""


Promise = Idempotency | Repeat
"""The signs by which a repeated request is known."""
