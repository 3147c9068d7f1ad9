"""`farm account`: who pays, on which plan, and what is left of the month."""

import rich_click as click

from orchestrator.cli import alerts, output
from orchestrator.cli.client import Json, connected, part, server

ACCOUNT = click.argument("account_id", metavar="ACCOUNT")


@click.group()
def account() -> None:
    """Accounts pay; their plan bounds what all their sessions use together in a month."""


@account.command()
@server
@output.as_json
def ls(server: str | None, as_json: bool) -> None:
    """List accounts, their plans and their months."""
    with connected(server) as client:
        rows = client.every("accounts")
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("ACCOUNT", "NAME", "PLAN", "MONTH", "#LIMIT", "#HELD", "#SPENT", "#AVAILABLE"),
        (
            (
                row["id"],
                row["name"],
                row["plan"] or "none",
                row["month"]["name"],
                *(
                    _seconds(row["month"][f"{name}_gpu_seconds"])
                    for name in ("limit", "held", "spent", "available")
                ),
            )
            for row in rows
        ),
        empty="No accounts. Next: farm up",
    )


@account.command()
@click.argument("account_id", metavar="[ACCOUNT]", required=False)
@server
@output.as_json
def show(account_id: str | None, server: str | None, as_json: bool) -> None:
    """Show an account, your own where none is named."""
    with connected(server) as client:
        row = client.get(f"accounts/{part(account_id)}" if account_id is not None else "account")
    _print(row, as_json=as_json)


@account.command()
@click.argument("name")
@click.option("--plan", default="creator", show_default=True, help="See `farm account plans`.")
@server
@output.as_json
def create(name: str, plan: str, server: str | None, as_json: bool) -> None:
    """Open an account; `farm keys create --account ID` then makes a key for it."""
    with connected(server) as client:
        row = client.post("accounts", {"name": name, "plan": plan})
    _print(row, as_json=as_json)


@account.command("set-plan")
@ACCOUNT
@click.argument("plan")
@server
@output.as_json
def set_plan(account_id: str, plan: str, server: str | None, as_json: bool) -> None:
    """Give ACCOUNT another PLAN, or `none`. It counts from the next lease on."""
    with connected(server) as client:
        row = client.put(f"accounts/{part(account_id)}/plan", {"plan": plan})
    _print(row, as_json=as_json)


@account.command("alerts")
@ACCOUNT
@alerts.wanted
@server
@output.as_json
def set_alerts(account_id: str, wanted: Json | None, server: str | None, as_json: bool) -> None:
    """Show ACCOUNT's alerts, or give its months others: `50 80=pause_new 100=pause_all`.

    `plan`: those of its plan; `none`: no alert.
    """
    path = f"accounts/{part(account_id)}"
    with connected(server) as client:
        row = client.put(f"{path}/alerts", wanted) if wanted else client.get(path)
    _print(row, as_json=as_json)


@account.command()
@server
@output.as_json
def plans(server: str | None, as_json: bool) -> None:
    """List the plans an account can have."""
    with connected(server) as client:
        rows = client.get("plans")["data"]
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("PLAN", "#MONTH", "#SESSION", "#JOBS", "#MPIX", "#SECONDS", "#STEPS", "MODELS", "#WEIGHT"),
        (
            (
                row["name"],
                _seconds(row["month_gpu_seconds"]),
                _seconds(row["most_session_gpu_seconds"]),
                _most(row["open_jobs"]),
                _most(row["megapixels"]),
                _most(row["seconds"]),
                _most(row["steps"]),
                ", ".join(row["models"]),
                str(row["weight"]),
            )
            for row in rows
        ),
        empty="No plans: see FARM_PLANS.",
    )


def _print(row: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(row)
        return
    month = row["month"]
    output.facts(
        {
            "account": row["id"],
            "name": row["name"],
            "plan": row["plan"] or "none: nothing may run",
            "month": month["name"],
            **{
                name: f"{_seconds(month[f'{name}_gpu_seconds'])} GPU-s"
                for name in ("limit", "held", "spent", "available")
            },
            "alerts": alerts.line(row),
        }
    )


def _seconds(value: float | None) -> str:
    return "no limit" if value is None else output.seconds(value)


def _most(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"
