"""What every view may ask for: the farm, its files and its settings."""

from typing import cast

from flask import current_app

from orchestrator.farm import Farm
from orchestrator.settings import Settings
from web.artifacts import Artifacts


def farm() -> Farm:
    """Return the farm this application serves."""
    return cast(Farm, current_app.extensions["farm"])


def artifacts() -> Artifacts:
    """Return the farm's files."""
    return cast(Artifacts, current_app.extensions["artifacts"])


def settings() -> Settings:
    """Return the settings of this process."""
    return cast(Settings, current_app.extensions["settings"])
