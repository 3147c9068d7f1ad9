"""Verbs of the owners of videos: quote, submit, look, pause, resume, finish, cancel."""

from orchestrator.farm.jobs.commands import cancel, finish, pause, resume
from orchestrator.farm.jobs.labelling import relabel
from orchestrator.farm.jobs.queries import (
    UnitView,
    events,
    get,
    last_event_id,
    listing,
    newer_events,
    still_open,
    units,
)
from orchestrator.farm.jobs.submission import Estimate, Submission, estimate, submit

__all__ = [
    "Estimate",
    "Submission",
    "UnitView",
    "cancel",
    "estimate",
    "events",
    "finish",
    "get",
    "last_event_id",
    "listing",
    "newer_events",
    "pause",
    "relabel",
    "resume",
    "still_open",
    "submit",
    "units",
]
