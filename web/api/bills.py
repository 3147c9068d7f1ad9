"""Amounts used and what they cost, as JSON and as CSV: the ledger, receipts, usage, economics.

CSV is for whoever asks by `?format=csv` or `Accept: text/csv`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from flask import Response, request

from orchestrator.csv_export import sheet
from orchestrator.model import Entry, Json
from orchestrator.money import ledger
from orchestrator.money.rates import RateCard
from web.api import views

ENTRY: Final = (
    "number", "at", "kind", "gpu_seconds", "debit", "credit", "price_microusd", "money_debit",
    "money_credit", "rates", "note", "session_id", "job_id", "lease_id", "month_id", "id",
    "receipt_sha256", "previous_sha256", "sha256",
)  # fmt: skip
RECEIPT: Final = (
    "kind", "first_frame", "frames", "attempt", "worker", "device", "device_class", "outcome",
    "gpu_seconds", "by_stage", "price_microusd", "energy_mj", "lost_gpu_seconds", "not_charged",
    "message", "unit_id", "lease_id", "tags", "metadata",
)  # fmt: skip
USAGE: Final = ("key", "units", "gpu_seconds", "lost_gpu_seconds")
ECONOMICS: Final = (
    "key", "users", "units", "gpu_seconds", "lost_gpu_seconds", "revenue_microusd",
    "rate_card_microusd", "cost_microusd", "margin_microusd", "cost_per_user_microusd", "cap_hits",
)  # fmt: skip
CALIBRATION: Final = (
    "model", "device_class", "basis", "jobs", "under_p50", "under_p90", "under_p90_percent",
)  # fmt: skip


def entry(row: Entry) -> Json:
    """Return one movement of the ledger, of GPU-seconds and, where it has a price, of money."""
    moved = ledger.money(row)
    return {
        "id": row.id,
        "at": views.when(row.at_ms),
        "kind": row.kind.value,
        "session_id": row.session_id,
        "job_id": row.job_id,
        "lease_id": row.lease_id,
        "month_id": row.month_id,
        "gpu_seconds": views.seconds(row.gpu_ms),
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
    shown: Json = views.in_seconds(row)
    return shown | {"object": "audit"}


def receipt(row: Json) -> Json:
    """Return a receipt with every GPU-ms as seconds."""
    beside = ("price_microusd", "metadata")
    amounts = {name: value for name, value in row.items() if name not in beside}
    shown: Json = views.in_seconds(amounts)
    return shown | {
        "object": "receipt",
        "metadata": row["metadata"],  # names in it are its owner's, whatever they end in
        "price": views.price(row["price_microusd"]),
    }


def usage(row: Json) -> Json:
    """Return one line of usage."""
    shown: Json = views.in_seconds(row)
    return shown


def economics(row: Json) -> Json:
    """Return cost, revenue and margin; device time in seconds."""
    shown: Json = views.in_seconds(row)
    for name in ("since", "cap_hits_since"):
        shown[name] = views.when(shown.pop(f"{name}_ms"))
    shown["devices"] = [
        {name.replace("_ms", "_seconds"): each[name] / 1000 for name in each if name[-3:] == "_ms"}
        | {name: each[name] for name in each if name[-3:] != "_ms"}
        for each in shown["devices"]
    ]
    return shown


def rate_card(card: RateCard, *, holds: bool) -> Json:
    """Return what device time is sold for; what it costs the operator is the operator's."""
    return {
        "object": "rate_card",
        "version": card.version,
        "from": views.when(card.from_ms),
        "holds": holds,
        "microusd_per_gpu_second": dict(card.price),
    }


def csv_wanted() -> bool:
    """Tell whether this request asks for CSV."""
    if asked := request.args.get("format"):
        return asked == "csv"
    best = request.accept_mimetypes.best_match(["application/json", "text/csv"])
    return best == "text/csv"


def csv_answer(
    name: str, columns: Sequence[str], rows: Iterable[Json], *, key: str | None = None
) -> Response:
    """Return rows as a CSV file; `key`: what the column `key` is called in its header."""
    header = [key if key and column == "key" else column for column in columns]
    text = sheet(header, ([_plain(row.get(column)) for column in columns] for row in rows))
    return Response(
        text,
        mimetype="text/csv",
        headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
    )


def economics_csv(told: Json) -> Response:
    """Return cost and revenue as CSV: the rows and the total."""
    rows = [*told["rows"], {"key": "total", **told["total"]}]
    return csv_answer("economics", ECONOMICS, rows, key=told["by"])


def pairs(metadata: Mapping[str, str]) -> str:
    """Return metadata as one cell: JSON, since its values may hold any separator."""
    return json.dumps(metadata, ensure_ascii=False) if metadata else ""


def _plain(value: object) -> object:
    """Return what was not charged, or the time of each stage, as one cell."""
    if isinstance(value, dict):
        return "; ".join(f"{stage}: {seconds:g}" for stage, seconds in value.items())
    if isinstance(value, list):
        return "; ".join(f"{lost['why']}: {lost['gpu_seconds']:g}" for lost in value)
    return value
