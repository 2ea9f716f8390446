"""What is printed while nobody reads: nothing waits, what is lost is counted, whole lines stay in their order."""

import io
import os
import threading
from collections.abc import Iterator
from fcntl import F_SETPIPE_SZ, fcntl
from typing import TextIO

import pytest

from relayd.event_loop.output import MOST_WAITING, Output
from tests.integration.waiting import PATIENCE_SECONDS, eventually

PAGE_BYTES = 4096
LONG_LINE = "x" * 2 * PAGE_BYTES + "\n"


class Pipe:
    """A pipe with room for a page, as standard error may be."""

    def __init__(self) -> None:
        reading, writing = os.pipe()
        fcntl(writing, F_SETPIPE_SZ, PAGE_BYTES)
        self.stream: TextIO = os.fdopen(writing, "w", encoding="utf-8")
        self.reader = os.fdopen(reading, encoding="utf-8")

    def read(self, lines: int) -> str:
        return "".join(self.reader.readline() for _ in range(lines))

    def close(self) -> None:
        self.reader.close()
        self.stream.close()


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    made = Pipe()
    yield made
    made.close()


def notice(lines: int) -> str:
    return f"{lines} lost\n"


def busy(pipe: Pipe, most_waiting: int = MOST_WAITING) -> Output:
    """An output whose thread waits for somebody to read a line that has no room in the pipe."""
    output = Output(pipe.stream, notice, most_waiting)
    output.write(LONG_LINE)
    eventually(output._waiting.empty, "it is being written")
    return output


def test_a_pipe_that_nobody_reads_holds_nobody_up_and_costs_lines_that_are_counted(pipe: Pipe) -> None:
    output = busy(pipe, most_waiting=10)
    lines = [f"{number}\n" for number in range(1000)]
    for line in lines:
        output.write(line)
    assert output.lines_lost == 990
    assert output.waiting == 11
    assert pipe.read(12) == "".join([LONG_LINE, *lines[:10], "990 lost\n"]), "what was kept is whole, and in its order"
    output.write("on again\n")
    assert pipe.read(1) == "on again\n", "it is said once"
    eventually(lambda: output.waiting == 0, "nothing is left")
    assert output.lines_lost == 990


def test_what_is_missing_is_said_just_where_it_is(pipe: Pipe) -> None:
    output = busy(pipe, most_waiting=2)
    for line in ("first\n", "second\n", "third\n", "fourth\n"):
        output.write(line)
    assert pipe.read(1) == LONG_LINE
    eventually(output._waiting.empty, "there is room again")
    output.write("fifth\n")
    assert pipe.read(4) == "first\nsecond\n2 lost\nfifth\n"


def test_a_reader_that_goes_stops_nothing(pipe: Pipe) -> None:
    output = Output(pipe.stream, notice)
    pipe.reader.close()
    output.write("nobody\nhears\n")
    assert output.drain(PATIENCE_SECONDS)
    assert output.lines_lost == 2


def test_a_line_that_was_cut_off_spoils_no_other(pipe: Pipe) -> None:
    """As when a disk gets full in the middle of a line, and has room again."""
    output = Output(pipe.stream, notice)
    whole = os.write

    def half(fd: int, data: memoryview) -> int:
        if len(data) < 8:
            raise OSError
        return whole(fd, data[:8])

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", half)
        output.write("event one\n")
        assert output.drain(PATIENCE_SECONDS)
    output.write("event two\n")
    assert pipe.read(3) == "event on\n1 lost\nevent two\n"


def test_a_pipe_that_somebody_made_non_blocking_loses_nothing(pipe: Pipe) -> None:
    os.set_blocking(pipe.stream.fileno(), False)
    output = Output(pipe.stream, notice)
    text = "".join(f"{number}\n" for number in range(5000))
    output.write(text)
    assert pipe.read(5000) == text
    assert output.lines_lost == 0


def test_the_end_waits_for_a_reader_and_not_for_ever(pipe: Pipe) -> None:
    output = busy(pipe)
    assert not output.drain(0.01)
    reader = threading.Thread(target=pipe.read, args=(1,))
    reader.start()
    assert output.drain(PATIENCE_SECONDS)
    reader.join()


def test_the_beginning_of_a_line_waits_for_its_end() -> None:
    stream = io.StringIO()
    output = Output(stream)
    print("one", end=" ", file=output)
    print("line", file=output)
    print("half", end="", file=output, flush=True)
    assert output.drain(PATIENCE_SECONDS)
    assert stream.getvalue() == "one line\nhalf"


@pytest.mark.parametrize(("encoding", "text"), [("utf-8", "…\\udc80\n"), ("ascii", "\\u2026\\udc80\n")])
def test_what_a_character_set_lacks_is_written_as_something_else(pipe: Pipe, encoding: str, text: str) -> None:
    with os.fdopen(os.dup(pipe.stream.fileno()), "w", encoding=encoding) as stream:
        output = Output(stream)
        output.write("…\udc80\n")
        assert output.drain(PATIENCE_SECONDS)
    assert pipe.read(1) == text


def test_without_standard_error_lines_go_nowhere() -> None:
    output = Output(None)
    output.write("hello\n")
    assert output.drain(PATIENCE_SECONDS)
    assert (output.lines_lost, output.isatty()) == (0, False)
    with pytest.raises(io.UnsupportedOperation):
        output.fileno()
