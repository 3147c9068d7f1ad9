"""Things every view may ask for: the farm, its files and its settings."""

from dataclasses import replace
from typing import cast

from flask import current_app, g, request

from orchestrator.farm import Actor, Farm
from orchestrator.settings import Settings
from web.artifacts import Artifacts


def farm() -> Farm:
    """Return the farm this application serves, on behalf of whoever asks."""
    served = cast(Farm, current_app.extensions["farm"])
    key = g.get("key")
    source = request.remote_addr or ""
    return replace(served, actor=Actor(key_id=key.id if key else None, source=source))


def artifacts() -> Artifacts:
    """Return the farm's files."""
    return cast(Artifacts, current_app.extensions["artifacts"])


def settings() -> Settings:
    """Return the settings of this process."""
    return cast(Settings, current_app.extensions["settings"])
