"""Standard output and standard error of a process whose event loop must not wait for whoever reads them."""

import atexit
import io
import os
import queue
import select
import sys
import threading
from collections.abc import Callable
from typing import TextIO

MOST_WAITING = 10_000
"""Pieces of text, most of them a line: a few megabytes."""
_END_SECONDS = 1.0
"""How long the end of the process waits for a reader."""


class Output(io.TextIOBase):
    """A text stream that a thread of its own writes to: no full pipe, stopped terminal or slow disk is waited for.

    What finds no room or cannot be written is lost, and counted. Whole lines stay whole, and in their order.

    Args:
        stream: where it goes; None for nowhere.
        notice: gives a line that says how many lines were lost just there; None to say nothing of it.
        most_waiting: pieces of text that wait to be written.
    """

    def __init__(
        self, stream: TextIO | None, notice: Callable[[int], str] | None = None, most_waiting: int = MOST_WAITING
    ) -> None:
        self.lines_lost = 0
        self._stream = stream
        self._fd = _fd_of(stream)
        self._notice = notice
        self._most_waiting = most_waiting
        # Reentrant, as SimpleQueue is: what is said may come from a finalizer that runs in the middle of another line.
        self._lock = threading.RLock()
        self._unfinished = ""
        self._handed_over = 0
        self._done = 0
        self._untold = 0
        """Lines that were lost since that was last said."""
        self._cut = False
        """Whether the last thing written is the beginning of a line whose end is lost."""
        self._waiting: queue.SimpleQueue[str | int | threading.Event] = queue.SimpleQueue()
        """Texts; numbers of lines that are missing there; whoever waits until all before is written."""
        threading.Thread(target=self._write_forever, name="output", daemon=True).start()

    @property
    def waiting(self) -> int:
        """Pieces of text that were handed over and are not written yet."""
        return self._handed_over - self._done

    # What prints sees -----------------------------------------------------------------------------------------

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """Of the stream."""
        return getattr(self._stream, "encoding", None) or "utf-8"

    @property
    def errors(self) -> str:  # type: ignore[override]
        """What its character set lacks is shown as something else."""
        return "backslashreplace"

    def fileno(self) -> int:
        """Of the stream."""
        if self._fd is None:
            raise io.UnsupportedOperation("fileno")
        return self._fd

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def writable(self) -> bool:
        """It is."""
        return True

    def write(self, text: str, /) -> int:
        """Hands over whole lines, and keeps the beginning of the next."""
        with self._lock:
            lines, line_end, self._unfinished = (self._unfinished + text).rpartition("\n")
            if line_end:
                self._hand_over(lines + line_end)
        return len(text)

    def flush(self) -> None:
        """Hands over what was kept. Waits for nothing."""
        with self._lock:
            text, self._unfinished = self._unfinished, ""
            if text:
                self._hand_over(text)

    def _hand_over(self, text: str) -> None:
        if self._waiting.qsize() >= self._most_waiting:
            self._lose(text)
            return
        self._tell_lost()
        self._handed_over += 1
        self._waiting.put(text)

    def _tell_lost(self) -> None:
        with self._lock:
            lost, self._untold = self._untold, 0
        if lost:
            self._waiting.put(lost)

    def _lose(self, text: str) -> None:
        with self._lock:
            lines = text.count("\n") or 1
            self.lines_lost += lines
            self._untold += lines

    def drain(self, seconds: float) -> bool:
        """Waits until all is written that was handed over so far. False if that takes longer."""
        self.flush()
        written = threading.Event()
        self._waiting.put(written)
        return written.wait(seconds)

    # The thread -----------------------------------------------------------------------------------------------

    def _write_forever(self) -> None:
        while True:
            one = self._waiting.get()
            if isinstance(one, threading.Event):
                one.set()
                continue
            try:
                self._write(self._told(one) if isinstance(one, int) else one)
            except Exception:  # noqa: BLE001 - no room, nobody reads any more; without this thread nothing is said again
                self._lost(one)
            else:
                if self._waiting.empty():
                    self._tell_lost()
            self._done += isinstance(one, str)

    def _told(self, lost: int) -> str:
        return "" if self._notice is None else self._notice(lost)

    def _lost(self, one: str | int) -> None:
        if isinstance(one, str):
            self._lose(one)
            return
        with self._lock:
            self._untold += one

    def _write(self, text: str) -> None:
        if self._stream is None:
            return
        if self._fd is None:
            self._stream.write(text)
            self._stream.flush()
            return
        # Not by the stream: the interpreter's end waits for its lock, and gives up with an abort.
        rest = memoryview((f"\n{text}" if self._cut else text).encode(self.encoding, self.errors))
        while rest:
            try:
                written = os.write(self._fd, rest)
            except BlockingIOError:
                # Somebody who shares it made it non-blocking.
                _wait_until_writable(self._fd)
                continue
            self._cut = rest[written - 1] != ord("\n")
            rest = rest[written:]
        self._cut = False


def _fd_of(stream: TextIO | None) -> int | None:
    try:
        return None if stream is None else stream.fileno()
    except (OSError, ValueError):
        return None


def _wait_until_writable(fd: int) -> None:
    writable = select.poll()
    writable.register(fd, select.POLLOUT)
    writable.poll()


def print_beside_the_loop() -> None:
    """Has what is printed on standard output from now on written by a thread."""
    if not isinstance(sys.stdout, Output):
        sys.stdout = Output(sys.stdout)


@atexit.register
def drain_outputs() -> None:
    """Waits until both outputs have been written to: at most a second for each, if nobody reads."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, Output):
            stream.drain(_END_SECONDS)
