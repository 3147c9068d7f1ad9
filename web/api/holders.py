"""Who may do something, and who did: keys, people and deeds as JSON."""

from orchestrator.model import AuditEntry, Json, Key, Person
from orchestrator.states import SCOPES
from web.api.views import problem_data, when


def key(row: Key, token: str | None = None) -> Json:
    """Return a key; `token` only when it was just made: it is not kept."""
    shown = {
        "id": row.id,
        "object": "key",
        "kind": row.kind.value,
        "scopes": sorted(SCOPES[row.kind]),
        "name": row.name,
        "account_id": row.account_id,
        "successor_id": row.successor_id,
        "created_at": when(row.created_at_ms),
        "expires_at": when(row.expires_at_ms),
        "revoked_at": when(row.revoked_at_ms),
        "used_at": when(row.used_at_ms),
    }
    return shown | {"token": token} if token else shown


def person(row: Person) -> Json:
    """Return somebody who may sign in."""
    return {
        "id": row.id,
        "object": "person",
        "name": row.name,
        "account_id": row.account_id,
        "created_at": when(row.created_at_ms),
        "password_at": when(row.password_at_ms) if row.password_hash else None,
        "at_provider": row.subject is not None,
    }


def audit_entry(row: AuditEntry) -> Json:
    """Return a line of the audit log."""
    return {
        "id": row.id,
        "object": "deed",
        "at": when(row.at_ms),
        "verb": row.verb,
        "target": row.target,
        "account_id": row.account_id,
        "key_id": row.key_id,
        "source": row.source,
        "data": problem_data(row.data),
    }
