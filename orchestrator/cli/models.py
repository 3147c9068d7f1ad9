"""`farm models`: what the farm can paint with."""

import rich_click as click

from orchestrator.cli import output
from orchestrator.cli.client import connected, part, server


@click.group()
def models() -> None:
    """Show the models on offer."""


@models.command()
@server
@output.as_json
def ls(server: str | None, as_json: bool) -> None:
    """List models."""
    with connected(server) as client:
        rows = client.get("models")["data"]
    if as_json:
        output.document({"data": rows})
        return
    output.table(
        ("MODEL", "TITLE", "LICENCE", "#PARAMETERS", "NATIVE", "OUTPUT", "#STEPS", "#MB"),
        (
            (
                row["id"],
                row["title"],
                row["licence"],
                f"{row['parameters']:,}",
                row["native_size"],
                row["output_size"],
                row["steps"]["default"],
                row["memory_mb"],
            )
            for row in rows
        ),
        empty="No models. Next: set FARM_MODELS_PATH to a folder of model folders.",
    )


@models.command()
@click.argument("model_id", metavar="MODEL")
@server
@output.as_json
def show(model_id: str, server: str | None, as_json: bool) -> None:
    """Show a model: its limits, its words, its scores."""
    with connected(server) as client:
        row = client.get(f"models/{part(model_id)}")
    if as_json:
        output.document(row)
        return
    steps = row["steps"]
    scores = ", ".join(f"{name} {value:g}" for name, value in row["scores"].items())
    output.facts(
        {
            "model": f"{row['id']} {row['version']}: {row['title']}",
            "licence": row["licence"],
            "paints": f"{row['native_size']}, shown as {row['output_size']}, {row['fps']} a second",
            "length": f"{row['seconds']:g} s, at most {row['max_seconds']:g} s",
            "steps": f"{steps['default']} ({steps['min']} to {steps['max']})",
            "profiles": ", ".join(f"{name} {each}" for name, each in row["profiles"].items())
            or None,
            "memory": f"{row['memory_mb']} MB",
            "domains": ", ".join(row["domains"]),
            "scores": scores or None,
            **{kind: ", ".join(words) or None for kind, words in row["vocabulary"].items()},
        }
    )
