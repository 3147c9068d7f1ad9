"""`farm dispatcher`: the process that reconciles and rings the workers."""

import sys

import rich_click as click

from orchestrator.cli.client import only_here
from orchestrator.cli.worker import become


@click.command()
def dispatcher() -> None:
    """Run the dispatcher in the foreground; it needs the database and FARM_BROKER_URL."""
    only_here("dispatcher")
    become([sys.executable, "-m", "orchestrator.dispatcher"], {})
