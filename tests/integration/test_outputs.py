"""Output that nobody reads: a relay forwards, lets players in, answers and ends all the same."""

import json
import os
import signal
import struct
import subprocess
import termios
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import IO

import pytest

from tests.integration.config import Sections, SessionKeys, new_session, with_forwarder
from tests.integration.peers import OPENS_CONNECTION, VALID, Host, Player, talking
from tests.integration.programs import REPOSITORY, Process
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.waiting import eventually

CROWD = 400
JUNK = b"x" * 1023 + b"\n"


class Reader:
    """What reads the output of a process: not before it is asked to."""

    def __init__(self, writing: int) -> None:
        self.writing = writing

    def close(self) -> None:
        os.close(self.writing)

    def stop_reading(self) -> None:
        """From now on whoever writes there waits."""
        raise NotImplementedError


class Pipe(Reader):
    """A pipe, as to the logging driver of a container."""

    def __init__(self) -> None:
        self.reading, writing = os.pipe()
        super().__init__(writing)

    def stop_reading(self) -> None:
        # Opened anew: to be non-blocking is a property of what was opened, which the relay has too.
        another = os.open(f"/proc/self/fd/{self.writing}", os.O_WRONLY | os.O_NONBLOCK)
        for junk in (JUNK, b"\n"):
            try:
                while True:
                    os.write(another, junk)
            except BlockingIOError:
                continue
        os.close(another)

    def read_until(self, end: Callable[[bytes], bool]) -> bytes:
        text = b""
        while not end(text):
            text += os.read(self.reading, 1 << 16)
        return text

    def close(self) -> None:
        super().close()
        os.close(self.reading)


class Terminal(Reader):
    """A terminal that Ctrl-S was pressed at."""

    def __init__(self) -> None:
        self._master, slave = os.openpty()
        super().__init__(slave)

    def stop_reading(self) -> None:
        termios.tcflow(self.writing, termios.TCOOFF)

    def close(self) -> None:
        super().close()
        os.close(self._master)


class Unread(RelayProcess):
    """A relay whose output goes to a reader."""

    def __init__(
        self,
        folder: Path,
        sessions: list[SessionKeys] | None,
        reader: Reader,
        overrides: Sections | None = None,
        arguments: tuple[str, ...] = ("run",),
    ) -> None:
        super().__init__(folder, sessions, overrides, arguments)
        self._reader = reader

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        # An interpreter of its own: that of a forked one has opened its outputs before, as other kinds of files.
        writing = self._reader.writing
        return subprocess.Popen(arguments, stdout=writing, stderr=writing, cwd=REPOSITORY, env=environment())


def let_in(host: Host, player: Player) -> None:
    """A player's first datagram reaches the host, and the answer the player."""
    assert player.ping_until(VALID)
    player.say(OPENS_CONNECTION)
    while not (heard := host.receive()).endswith(OPENS_CONNECTION):
        continue  # answers to its own PINGs
    host.say(struct.unpack_from("<i", heard, 1)[0], b"welcome")
    while player.receive()[1:] != b"welcome":
        continue


@pytest.mark.parametrize("kind", [Pipe, Terminal])
def test_a_log_that_nobody_reads_keeps_nobody_out(tmp_path: Path, forwarder: str, kind: type[Pipe | Terminal]) -> None:
    session = new_session("crowded", players=CROWD + 1)
    reader = kind()
    relay = Unread(tmp_path, [session], reader, with_forwarder(forwarder, {"limits": {"user_timeout": 3.0}}))
    with relay, relay.host(session) as host, ExitStack() as crowd:
        assert host.ping_until(VALID)
        with talking(host):
            reader.stop_reading()
            for number in range(CROWD):
                assert crowd.enter_context(relay.player(session, number)).ping_until(VALID)
            crowd.close()
            eventually(lambda: relay.metrics()["relayd_users", "player"] == 0, "all of them are found silent")
            assert relay.get("/healthz") == (200, "ok\n")
            with relay.player(session, CROWD) as late:
                let_in(host, late)
    assert relay.process.poll() == 0
    reader.close()


def test_what_was_not_read_is_read_later_in_its_order(tmp_path: Path, forwarder: str) -> None:
    session = new_session("game")
    pipe = Pipe()
    relay = Unread(tmp_path, [session], pipe, with_forwarder(forwarder))
    with relay, relay.host(session) as host, relay.player(session) as player:
        pipe.stop_reading()
        assert host.ping_until(VALID)
        let_in(host, player)
        relay.process.send_signal(signal.SIGHUP)
        lines = pipe.read_until(lambda text: b"reading the session source again" in text).splitlines()
        events = [json.loads(line) for line in lines if line and not JUNK.startswith(line)]
        ports = [event["port"] for event in events if event["event"] == "user bound"]
        assert ports == ["server", "client"]
        assert relay.metrics()["relayd_log_lines_lost_total",] == 0
    pipe.close()


@pytest.mark.parametrize("kind", [Pipe, Terminal])
def test_a_table_that_nobody_reads_stops_no_simulated_game(tmp_path: Path, kind: type[Pipe | Terminal]) -> None:
    reader = kind()
    with Unread(tmp_path, None, reader, arguments=("dev", "--players", "2")) as relay:

        def forwarded() -> float:
            return relay.metrics()["relayd_datagrams_total", "client", "forwarded"]

        eventually(forwarded, "the game begins")
        reader.stop_reading()
        # A line a second is printed, and the table four times a second.
        for _ in range(5):
            before = forwarded()
            eventually(lambda: forwarded() > before + 60, "the game goes on")  # noqa: B023 - asked before the next turn
    assert relay.process.poll() == 0
    reader.close()
