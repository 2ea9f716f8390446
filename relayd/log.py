"""Logging: console lines on a terminal, JSON otherwise, on standard error. Tokens are only ever shown shortened."""

import codecs
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Hashable
from traceback import walk_tb
from typing import Any, TextIO, cast

import structlog
from structlog.typing import EventDict, Processor

from relayd.event_loop.output import Output

TOKEN_DIGITS = 3
_SAME_TRACEBACK_SECONDS = 60.0
_MOST_TRACEBACKS = 100
"""Different ones that are known at once."""

_log = structlog.get_logger()
_outputs: list[Output] = []
"""Where the log goes; nowhere until it is configured."""


def configure(level: str, form: str = "auto") -> None:
    """Sets up logging for the whole process, and has all that goes to standard error written by a thread.

    Args:
        level: the least level that is logged: debug, info, warning or error.
        form: of the lines: console, json, or auto: console on a terminal and json elsewhere.
    """
    output = sys.stderr if isinstance(sys.stderr, Output) else Output(sys.stderr, _say_lost)
    # Warnings, and what fails in a finalizer or a thread, are printed there by Python itself.
    sys.stderr = output
    _outputs[:] = [output]
    logging.lastResort = _OfLibraries(logging.WARNING)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            _Repeats(),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *_rendering(output, console=form == "console" or (form == "auto" and output.isatty())),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(cast(TextIO, output)),
        cache_logger_on_first_use=True,
    )


def lines_lost() -> int:
    """Lines that could not be written since the process began."""
    return sum(output.lines_lost for output in _outputs)


def lines_waiting() -> int:
    """Lines that are not written yet."""
    return sum(output.waiting for output in _outputs)


def _rendering(output: Output, *, console: bool) -> list[Processor]:
    if console:
        # Plain tracebacks: the pretty ones show local variables, tokens among them.
        plain = structlog.dev.plain_traceback
        return [structlog.dev.ConsoleRenderer(colors=output.isatty(), exception_formatter=plain)]
    ascii_only = codecs.lookup(output.encoding).name != "utf-8"
    return [
        structlog.processors.format_exc_info,
        _event_first,
        structlog.processors.JSONRenderer(ensure_ascii=ascii_only),
    ]


def _event_first(_logger: Any, _method: str, line: EventDict) -> EventDict:
    """What happened, how bad it is and when, then the rest."""
    return {**{key: line[key] for key in ("event", "level", "timestamp")}, **line}


def _say_lost(lines: int) -> str:
    """The line in the place of some that were lost, as any other is rendered."""
    rendered: Any = {"event": "lines of this log were lost: nobody read them, or there was no room", "lines": lines}
    for processor in structlog.get_config()["processors"]:
        rendered = processor(None, "warning", rendered)
    return f"{rendered}\n"


class _OfLibraries(logging.Handler):
    """What libraries log by the standard library, asyncio among them, goes the way of all other lines."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        try:
            say = _log.error if record.levelno >= logging.ERROR else _log.warning
            say(record.getMessage(), logger=record.name, exc_info=record.exc_info)
        except Exception:  # noqa: BLE001 - as all handlers do it
            self.handleError(record)


class _Repeats:
    """Lets the same traceback through once a minute: one that comes with every datagram must not fill a disk."""

    def __init__(self) -> None:
        self._known: OrderedDict[Hashable, tuple[float, int]] = OrderedDict()
        """When each was last logged, and how often it came since."""

    def __call__(self, _logger: Any, _method: str, line: EventDict) -> EventDict:
        """The line, with the number of those that were left out before it."""
        error = line.get("exc_info")
        if isinstance(error, tuple):
            error = error[1]
        elif error is True:
            error = sys.exc_info()[1]
        if not isinstance(error, BaseException):
            return line
        frames = tuple((frame.f_code, number) for frame, number in walk_tb(error.__traceback__))
        key = type(error), frames or line["event"]
        now = time.monotonic()
        logged_at, left_out = self._known.pop(key, (None, 0))
        if logged_at is not None and now - logged_at < _SAME_TRACEBACK_SECONDS:
            self._known[key] = logged_at, left_out + 1
            raise structlog.DropEvent
        self._known[key] = now, 0
        if len(self._known) > _MOST_TRACEBACKS:
            self._known.popitem(last=False)
        return {**line, "repeats": left_out} if left_out else line


def short_token(token: int) -> str:
    """A token as logs and the admin API may show it: its last three decimal digits, enough to tell users apart.

    What is left to guess are 22 bits, on which an authorized user of the session would have to try.
    """
    return f"…{token % 10**TOKEN_DIGITS:0{TOKEN_DIGITS}d}"
