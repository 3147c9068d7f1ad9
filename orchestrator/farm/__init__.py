"""The verbs of the farm, each one a transaction on the store it is given (`complete` may be two).

`leases` serves workers, `jobs` the owners of videos, `accounts` who pays and signs in, `books`
tells what was spent, `check` holds all of it against the invariants; `kernel` is under them.
"""

from orchestrator.farm.kernel import (
    DEFAULT_SESSION,
    Actor,
    Farm,
    Idempotency,
    Page,
    Promise,
    Repeat,
    Terms,
)

__all__ = [
    "DEFAULT_SESSION",
    "Actor",
    "Farm",
    "Idempotency",
    "Page",
    "Promise",
    "Repeat",
    "Terms",
]
