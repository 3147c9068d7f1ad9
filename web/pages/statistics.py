"""The operator's books, and for everybody how good the quotes are: tables with bars, and CSV."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from flask import render_template, request
from flask_login import current_user, login_required
from werkzeug.wrappers import Response

from orchestrator.errors import NotAllowed
from orchestrator.farm.accounts import accounts
from orchestrator.farm.books import calibration, economics
from orchestrator.model import Json
from orchestrator.remedies import Say
from web.api import bills
from web.context import farm
from web.pages.blueprint import bp
from web.pages.views import Bar
from web.threads import in_thread

DAY_MS: Final = 86_400_000
SPANS: Final = {1: "a day", 7: "7 days", 30: "30 days", 90: "90 days", 365: "a year"}
"""Days -> what the link says."""
USUAL_DAYS: Final = 30
JOBS: Final = (50, 200, 1000)
"""Over how many of the newest ended jobs quotes are looked at."""
USUAL_JOBS: Final = 200
MOST_ROWS: Final = 100
"""A page shows so many, the dearest first; CSV has them all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """Which books: by what, and over how many days."""

    by: str
    days: int


@bp.get("/books")
@login_required
def books() -> str:
    """Show the operator what device time cost and brought in, and what stood idle."""
    asked = _asked()
    told = in_thread(_told, asked)
    ended = in_thread(calibration.calibration, farm(), USUAL_JOBS)
    rows = told["rows"]
    names = in_thread(_names, rows)
    return render_template(
        "books.html",
        asked=asked,
        told=told,
        rows=[_row(row, rows, names) for row in rows[:MOST_ROWS]],
        total=told["total"],
        devices=[{**each, "bar": device_bar(each)} for each in told["devices"]],
        over_quote=[each for each in told["quotes"] if each["over_quote_gpu_ms"]],
        more_rows=max(0, len(rows) - MOST_ROWS),
        since=f"{datetime.fromtimestamp(told['since_ms'] / 1000, UTC):%Y-%m-%d %H:%M} UTC",
        ways=economics.BY,
        spans=SPANS,
        ended=ended,
    )


@bp.get("/books.csv")
@login_required
def books_csv() -> Response:
    """Send the same books as a table."""
    return bills.economics_csv(bills.economics(in_thread(_told, _asked())))


@bp.get("/calibration")
@login_required
def quote_accuracy() -> str:
    """Show how many of the newest ended jobs, of all accounts, came in under their p90."""
    newest = _newest()
    told = in_thread(calibration.calibration, farm(), newest)
    return render_template("calibration.html", told=told, newest=newest, choices=JOBS)


@bp.get("/calibration.csv")
@login_required
def quote_accuracy_csv() -> Response:
    """Send its rows as a table."""
    told = in_thread(calibration.calibration, farm(), _newest())
    return bills.csv_answer("calibration", bills.CALIBRATION, told["rows"])


def money_bars(row: Json, rows: list[Json]) -> tuple[float, float]:
    """Return (revenue, cost) of a row as shares of 100 of the most that any row has."""
    amounts = [each[name] for each in rows for name in ("revenue_microusd", "cost_microusd")]
    most = max([*amounts, 1])
    revenue, cost = (
        max(0.0, min(100.0, 100 * row[name] / most))
        for name in ("revenue_microusd", "cost_microusd")
    )
    return revenue, cost


def device_bar(fleet: Json) -> Bar:
    """Return how a class of devices spent its time: for somebody, lost, and the rest idle."""
    whole = max(fleet["present_ms"], fleet["busy_ms"], 1)
    lost = min(fleet["lost_gpu_ms"], fleet["busy_ms"])
    used = fleet["busy_ms"] - lost
    return Bar(spent=100 * used / whole, held=100 * lost / whole, asked=0.0)


# --- inside -------------------------------------------------------------------------------


def _asked() -> Asked:
    """Return which books are asked for; who does not operate the farm is refused.

    Raises:
        NotAllowed: this browser is not the operator's.
    """
    if not current_user.operates:
        raise NotAllowed(
            "The books of this farm are its operator's.",
            Say("Sign in by the operator's link or with an admin key."),
        )
    by, days = request.args.get("by", ""), request.args.get("days", USUAL_DAYS, type=int)
    return Asked(
        by=by if by in economics.BY else economics.BY[0],
        days=days if days in SPANS else USUAL_DAYS,
    )


def _newest() -> int:
    newest = request.args.get("jobs", USUAL_JOBS, type=int)
    return newest if newest in JOBS else USUAL_JOBS


def _told(asked: Asked) -> Json:
    this_farm = farm()
    return economics.economics(this_farm, asked.by, this_farm.clock() - asked.days * DAY_MS)


def _names(rows: list[Json]) -> dict[str, str]:
    """Return account id -> name, of rows that are an account's. Blocking: SQL."""
    this_farm = farm()
    ids = [row["key"] for row in rows[:MOST_ROWS] if row["key"].startswith("acc_")]
    return {each: accounts.get(this_farm, each).name for each in ids}


def _row(row: Json, rows: list[Json], names: dict[str, str]) -> Json:
    revenue, cost = money_bars(row, rows)
    return {**row, "name": names.get(row["key"], ""), "revenue_bar": revenue, "cost_bar": cost}
