"""The embedded farm: broker, web, dispatcher and workers as processes of this machine.

Every child gets a session of its own, is started again when it ends by itself, and dies with
this process (on Linux by PR_SET_PDEATHSIG, so even a kill -9 leaves no orphan). Secrets travel
in files of mode 0600 under the home, never in argv.
"""

from orchestrator.bootstrap.background import (
    Running,
    find_running,
    log_files,
    run_in_background,
    status,
    stop_running,
)
from orchestrator.bootstrap.broker import find_broker
from orchestrator.bootstrap.embedded import Embedded, announcement, serve, start

__all__ = [
    "Embedded",
    "Running",
    "announcement",
    "find_broker",
    "find_running",
    "log_files",
    "run_in_background",
    "serve",
    "start",
    "status",
    "stop_running",
]
