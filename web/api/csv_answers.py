"""Answers as CSV, for whoever asks by `?format=csv` or `Accept: text/csv`."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal

from flask import Response, request
from pydantic import BaseModel

from orchestrator.csv_export import sheet
from orchestrator.model import Json

ENTRY: Final = (
    "number", "at", "kind", "gpu_seconds", "debit", "credit", "price_microusd", "money_debit",
    "money_credit", "rates", "note", "session_id", "job_id", "lease_id", "month_id", "id",
    "receipt_sha256", "previous_sha256", "sha256",
)  # fmt: skip
LINE: Final = (
    "kind", "first_frame", "frames", "attempt", "worker", "device", "device_class", "outcome",
    "gpu_seconds", "by_stage", "price_microusd", "energy_mj", "lost_gpu_seconds", "not_charged",
    "message", "unit_id", "lease_id",
)  # fmt: skip
USAGE: Final = ("key", "units", "gpu_seconds", "lost_gpu_seconds")
BOOKS: Final = (
    "key", "users", "units", "gpu_seconds", "lost_gpu_seconds", "revenue_microusd",
    "rate_card_microusd", "cost_microusd", "margin_microusd", "cost_per_user_microusd", "cap_hits",
)  # fmt: skip
JUDGED: Final = (
    "model", "device_class", "basis", "jobs", "under_p50", "under_p90", "under_p90_percent",
)  # fmt: skip


class FormatQuery(BaseModel):
    """As what to answer."""

    format: Literal["json", "csv"] | None = None


def wanted() -> bool:
    """Tell whether this request asks for CSV."""
    if asked := request.args.get("format"):
        return asked == "csv"
    best = request.accept_mimetypes.best_match(["application/json", "text/csv"])
    return best == "text/csv"


def answer(
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


def books(told: Json) -> Response:
    """Return the operator's books as CSV: the rows and the total."""
    rows = [*told["rows"], {"key": "total", **told["total"]}]
    return answer("economics", BOOKS, rows, key=told["by"])


def _plain(value: object) -> object:
    """Return what was not charged, or the time of each stage, as one cell."""
    if isinstance(value, dict):
        return "; ".join(f"{stage}: {seconds:g}" for stage, seconds in value.items())
    if isinstance(value, list):
        return "; ".join(f"{lost['why']}: {lost['gpu_seconds']:g}" for lost in value)
    return value
