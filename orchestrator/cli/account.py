"""`farm account`: who pays, on which plan, and what is left of the month."""

import rich_click as click

from orchestrator.cli import alerts, output
from orchestrator.cli.client import connected, part, server
from orchestrator.model import Json

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
                _standing(row),
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
    with connected(server) as client:
        row = (
            client.put(f"accounts/{part(account_id)}/alerts", wanted)
            if wanted
            else client.get(f"accounts/{part(account_id)}")
        )
    _print(row, as_json=as_json)


@account.command()
@click.argument("name", metavar="[PLAN]", required=False)
@server
@output.as_json
def plans(name: str | None, server: str | None, as_json: bool) -> None:
    """List the plans an account can have, or show all of one PLAN."""
    with connected(server) as client:
        rows = client.get("plans")["data"]
    if name is not None:
        rows = [row for row in rows if row["name"] == name]
        if not rows:
            raise click.UsageError(f"There is no plan {name!r}; `farm account plans` lists them.")
    if as_json:
        output.document({"data": rows})
    elif name is not None:
        output.facts(_plan(rows[0]))
    else:
        _list_plans(rows)


def _list_plans(rows: list[Json]) -> None:
    output.table(
        (
            *("PLAN", "#USD A MONTH", "#MONTH", "#SESSION", "#JOBS", "#MPIX", "#SECONDS"),
            *("#STEPS", "MODELS", "#WEIGHT", "WATERMARK"),
        ),
        (
            (
                row["name"],
                _price(row),
                _seconds(row["month_gpu_seconds"]),
                _seconds(row["most_session_gpu_seconds"]),
                _most(row["open_jobs"]),
                _most(row["megapixels"]),
                _most(row["seconds"]),
                _most(row["steps"]),
                ", ".join(row["models"]),
                str(row["weight"]),
                row["watermark"],
            )
            for row in rows
        ),
        empty="No plans: see FARM_PLANS.",
    )
    if rows:
        output.say("MONTH and SESSION are GPU-seconds. `farm account plans PLAN` shows all of one.")


def _plan(row: Json) -> dict[str, str]:
    """Return everything that a plan says, in words."""
    return {
        "plan": row["name"],
        "price a month": f"{_price(row)} USD" if row["price_month"] else "none: by the GPU-second",
        "GPU-seconds a month": _seconds(row["month_gpu_seconds"]),
        "a session opens with": _seconds(row["session_gpu_seconds"]),
        "a session at most": _seconds(row["most_session_gpu_seconds"]),
        "open jobs": _most(row["open_jobs"]),
        "megapixels": _most(row["megapixels"]),
        "seconds": _most(row["seconds"]),
        "steps": _most(row["steps"]),
        "models": ", ".join(row["models"]) or "none",
        "weight": str(row["weight"]),
        "floor": f"{row['floor']:.0%} of each device",
        "storage": "no limit"
        if row["storage_bytes"] is None
        else output.size(row["storage_bytes"]),
        "files expire after": "never" if row["file_days"] is None else f"{row['file_days']} days",
        "watermark": row["watermark"] or "none",
        "alerts": ", ".join(f"{each['percent']}={each['action']}" for each in row["alerts"])
        or "none",
    }


def _print(row: Json, *, as_json: bool) -> None:
    if as_json:
        output.document(row)
        return
    month = row["month"]
    output.facts(
        {
            "account": row["id"],
            "name": row["name"],
            "plan": _standing(row) + ("" if row["may_run"] else ": nothing may run"),
            "month": month["name"],
            **{
                name: f"{_seconds(month[f'{name}_gpu_seconds'])} GPU-s"
                for name in ("limit", "held", "spent", "available")
            },
            "storage": _storage(row["storage"]),
            "alerts": alerts.line(row),
        }
    )


def _storage(row: Json) -> str:
    """Return how much of an account's storage is used, and what by."""
    limit = row["limit_bytes"]
    of = "no limit" if limit is None else f"of {output.size(limit)}"
    files, characters = row["files"]["count"], row["characters"]["count"]
    return f"{output.size(row['used_bytes'])} {of}: {files} files, {characters} characters"


def _standing(row: Json) -> str:
    """Return the plan of an account, and whether the farm still offers it."""
    gone = row["plan"] and not row["may_run"]
    return f"{row['plan']} (offered no more)" if gone else row["plan"] or "none"


def _seconds(value: float | None) -> str:
    return "no limit" if value is None else output.seconds(value)


def _most(value: float | None) -> str:
    return "any" if value is None else f"{value:g}"


def _price(row: Json) -> str:
    price = row["price_month"]
    return "by GPU-s" if price is None else f"{price['usd']:g}"
