"""Logging: console lines on a terminal, JSON otherwise, on standard error. Tokens are only ever shown shortened."""

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

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
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, _Unfailing(sys.stderr))),
        cache_logger_on_first_use=True,
    )


class _Unfailing(io.TextIOBase):
    """Standard error that loses lines rather than raise: no full disk and no closed pipe may stop a datagram."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str, /) -> int:
        """Writes what can be written."""
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flushes what can be flushed."""
        with contextlib.suppress(OSError):
            self._stream.flush()


TOKEN_DIGITS = 3


def short_token(token: int) -> str:
    """A token as logs and the admin API may show it: its last three decimal digits, enough to tell users apart.

    What is left to guess are 22 bits, on which an authorized user of the session would have to try.
    """
    return f"…{token % 10**TOKEN_DIGITS:0{TOKEN_DIGITS}d}"
