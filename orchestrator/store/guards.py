"""The triggers that keep the ledger and the audit log append-only: are they there?"""

from typing import Final

from sqlalchemy import Connection, text

TRIGGERS: Final = {
    "sqlite": tuple(
        f"{table}_no_{verb}"
        for table in ("entries", "audit_log", "plan_periods")
        for verb in ("update", "delete", "replace")
    ),
    "postgresql": ("entries_unchanged", "audit_log_unchanged", "plan_periods_unchanged"),
}
"""By database, as its migration makes them."""

_THERE: Final = {
    "sqlite": text("SELECT name FROM sqlite_master WHERE type = 'trigger'"),
    "postgresql": text(
        "SELECT tgname FROM pg_trigger WHERE tgenabled IN ('O', 'A') "
        "AND tgrelid IN ('entries'::regclass, 'audit_log'::regclass, 'plan_periods'::regclass)"
    ),
}
"""A trigger of Postgres may be there and be turned off."""


def missing_triggers(connection: Connection) -> list[str]:
    """Return the triggers that should refuse a change of the past, and are gone or off."""
    database = connection.dialect.name
    there = set(connection.scalars(_THERE[database]))
    return [name for name in TRIGGERS[database] if name not in there]
