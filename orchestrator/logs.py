"""Logs: past-tense events with ids as fields, on stderr, for people or as JSON lines.

An event is one line; what is behind it (a traceback) is set in, so that no text of a client's can
look like an event, and nothing in it moves a terminal's cursor.
"""

import logging
import sys
from contextlib import suppress
from textwrap import indent
from typing import Final, TextIO

import structlog

from orchestrator import printing, safe_text
from orchestrator.settings import Settings

TRACE: Final = "exception"


def configure(settings: Settings) -> None:
    """Send this process's logs to stderr in the format that the settings name."""
    printing.speak_any_encoding()
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
            _harmless,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(Lossy(sys.stderr)),  # type: ignore[arg-type]  # it writes, as a TextIO does
        cache_logger_on_first_use=True,
    )


def of_request(request_id: str) -> None:
    """Have what this thread of work logs from now on name a request; empty: none."""
    structlog.contextvars.clear_contextvars()
    if request_id:
        structlog.contextvars.bind_contextvars(request_id=request_id)


def _harmless(
    _logger: object, _method: str, event: structlog.typing.EventDict
) -> structlog.typing.EventDict:
    """Take the sting out of texts that may be a client's."""
    for name, value in event.items():
        if isinstance(value, str):
            trace = name == TRACE
            event[name] = (
                indent(safe_text.shown(value), "    ") if trace else safe_text.one_line(value)
            )
    return event


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
