"""Logs: past-tense events with ids as fields, on stderr, for people or as JSON lines."""

import logging
import sys
from contextlib import suppress
from typing import TextIO

import structlog

from orchestrator.settings import Settings


def configure(settings: Settings) -> None:
    """Send this process's logs to stderr in the format that the settings name."""
    level = logging.getLevelNamesMapping()[settings.log_level.upper()]
    render: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if settings.log_format == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(Lossy(sys.stderr)),  # type: ignore[arg-type]
        cache_logger_on_first_use=True,
    )


class Lossy:
    """A text file whose disk may be full: a line that does not fit is lost, and only that."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, text: str) -> None:
        """Write, or let it be."""
        with suppress(OSError):
            self._file.write(text)

    def flush(self) -> None:
        """Flush, or let it be."""
        with suppress(OSError):
            self._file.flush()
