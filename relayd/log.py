"""Logging: console lines on a terminal, JSON otherwise, on standard error. Tokens are only ever shown shortened."""

import logging
import sys

import structlog


def configure(level: str) -> None:
    """Sets up structlog for the whole process.

    Args:
        level: the least level that is logged: debug, info, warning or error.
    """
    processors: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    if sys.stderr.isatty():
        # Plain tracebacks: the pretty ones show local variables, tokens among them.
        processors.append(structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback))
    else:
        processors += [structlog.processors.format_exc_info, structlog.processors.JSONRenderer()]
    structlog.configure(
        processors=processors,
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )


def short_token(token: int) -> str:
    """A token as logs and the admin API may show it: enough to compare, too little to use."""
    return f"{token >> 16:04x}…"
