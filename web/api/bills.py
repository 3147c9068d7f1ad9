"""The ledger and its audits as JSON."""

from orchestrator.model import Entry, Json
from orchestrator.money import ledger
from web.api.views import in_seconds, seconds, when


def entry(row: Entry) -> Json:
    """Return one movement of the ledger, of GPU-seconds and, where it has a price, of money."""
    moved = ledger.money(row)
    return {
        "id": row.id,
        "at": when(row.at_ms),
        "kind": row.kind.value,
        "session_id": row.session_id,
        "job_id": row.job_id,
        "lease_id": row.lease_id,
        "month_id": row.month_id,
        "gpu_seconds": seconds(row.gpu_ms),
        "debit": row.debit,
        "credit": row.credit,
        "note": row.note,
        "price_microusd": row.price_microusd,
        "money_debit": moved.debit if moved else None,
        "money_credit": moved.credit if moved else None,
        "rates": row.rates or None,
        "receipt_sha256": row.receipt_sha256 or None,
        "number": row.number,
        "previous_sha256": row.previous_sha256,
        "sha256": row.sha256,
    }


def audit(row: Json) -> Json:
    """Return what the audit of a receipt found."""
    shown: Json = in_seconds(row)
    return shown | {"object": "audit"}
