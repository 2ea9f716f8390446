"""Where the log goes: standard error, for people on a terminal and as JSON otherwise."""

import logging
import sys

import structlog

from relayd.settings import LogSettings


def configure_logging(log: LogSettings) -> None:
    """Sets up structlog for this process."""
    # Plain tracebacks: the pretty ones show local variables, tokens among them.
    rendering: list[structlog.typing.Processor] = (
        [structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)]
        if sys.stderr.isatty()
        else [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *rendering,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[log.level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
