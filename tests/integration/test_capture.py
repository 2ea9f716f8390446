"""`relayd capture`: what tshark reads from the file is what was sent, and what came back."""

import json
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.integration.commands import CAP_NET_RAW, assert_one_clear_line, relayd, write_config
from tests.integration.config import SessionKeys, new_session, new_sessions, new_token
from tests.integration.conftest import StartRelay
from tests.integration.fast_path import bpf_file_system, on_loopback, own_network
from tests.integration.peers import ERROR, GOES_ON, INVALID, OPENS_CONNECTION, VALID, Player
from tests.integration.programs import command, start
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.waiting import PATIENCE_SECONDS, eventually
from tests.scenarios.skips import needs_kernel

Datagram = tuple[str, str, int, bytes]
"""Direction, the relay's port, the peer's port, and the UDP payload."""


def why_not() -> str | None:
    if shutil.which("tshark") is None:
        return "needs the program `tshark` (Debian: tshark)"
    try:
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0).close()
    except PermissionError:
        return "needs CAP_NET_RAW"
    return None


needs_tshark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")


def tshark(file: Path) -> list[dict[str, Any]]:
    """What it reads: for each datagram its layers, as flat fields."""
    fields = ("frame.len", "frame.packet_flags_direction", "udp.srcport", "udp.dstport", "udp.payload")
    options = [option for field in fields for option in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-r", str(file), "-T", "json", *options],
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_SECONDS,
    )
    return [{name: values[0] for name, values in one["_source"]["layers"].items()} for one in json.loads(done.stdout)]


def datagrams(file: Path, relay: RelayProcess) -> list[Datagram]:
    ports = {relay.address(port)[1]: port for port in ("server", "client")}
    found = []
    for one in tshark(file):
        source, destination = int(one["udp.srcport"]), int(one["udp.dstport"])
        inbound = destination in ports
        assert int(one["frame.packet_flags_direction"], 0) == (1 if inbound else 2)
        ours, theirs = (destination, source) if inbound else (source, destination)
        payload = bytes.fromhex(one.get("udp.payload", "").replace(":", ""))
        found.append(("in" if inbound else "out", ports[ours], theirs, payload))
    return found


class Capturing:
    """The command while it runs."""

    def __init__(self, relay: RelayProcess, session_id: str, out: Path, *options: str) -> None:
        self.out = out
        self._said = [out.with_suffix(suffix) for suffix in (".stdout", ".stderr")]
        arguments = command("capture", session_id, "--out", str(out), *options, "--config", str(relay.config_path))
        with self._said[0].open("wb") as said, self._said[1].open("wb") as complained:
            self._process = start(arguments, said, complained, environment())

    def end(self, number: signal.Signals | None = signal.SIGINT) -> str:
        """Ends it, and returns what it said."""
        if number is not None:
            self._process.send_signal(number)
        status = self._process.wait(PATIENCE_SECONDS)
        said, error = (path.read_text(encoding="utf-8") for path in self._said)
        assert (status, error) == (0, "")
        return said

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    @property
    def is_listening(self) -> bool:
        assert self._process.poll() is None, self._said[1].read_text(encoding="utf-8")
        return self.out.exists()


@contextmanager
def capturing(relay: RelayProcess, session: SessionKeys, folder: Path, *options: str) -> Iterator[Capturing]:
    one = Capturing(relay, session.session_id, folder / "game.pcapng", "--seconds", "60", *options)
    try:
        eventually(lambda: one.is_listening, "it has begun")
        yield one
    finally:
        one.kill()


def play(relay: RelayProcess, session: SessionKeys, rounds: int = 3) -> list[Datagram]:
    """A few datagrams both ways, one after another."""
    seen: list[Datagram] = []
    with relay.host(session) as host, relay.player(session) as player:

        def note(direction: str, port: str, datagram: bytes) -> bytes:
            seen.append((direction, port, (host if port == "server" else player).port, datagram))
            return datagram

        note("in", "server", host.send_ping())
        assert note("out", "server", host.receive()) == VALID
        for number in range(rounds):
            note("in", "client", player.say((GOES_ON if number else OPENS_CONNECTION) + bytes(300)))
            to_host = note("out", "server", host.receive())
            connection_id = int.from_bytes(to_host[1:5], "little", signed=True)
            note("in", "server", host.say(connection_id, b"answer" * 50))
            note("out", "client", player.receive())
        note("in", "client", player.send_ping())
        assert note("out", "client", player.receive()) == VALID
    return seen


@needs_tshark
def test_tshark_reads_what_was_sent(start_relay: StartRelay, tmp_path: Path) -> None:
    session, other = new_sessions("captured", "other")
    relay = start_relay([session, other], {"limits": {"rebind_after": 0.0}})
    with capturing(relay, session, tmp_path, "--full") as capture:
        play(relay, other)
        seen = play(relay, session)
        play(relay, other)
        said = capture.end()
    assert datagrams(capture.out, relay) == seen
    assert said.startswith(f"wrote {len(seen)} datagrams, {capture.out.stat().st_size} bytes, to {capture.out}\n")
    assert "it holds tokens" in said
    assert "lost" not in said
    assert capture.out.stat().st_mode & 0o777 == 0o600


@needs_tshark
def test_payloads_are_cut_and_lengths_kept(start_relay: StartRelay, tmp_path: Path) -> None:
    session = new_session("cut")
    relay = start_relay([session])
    with capturing(relay, session, tmp_path) as capture:
        seen = play(relay, session)
        capture.end()
    assert b"answer" not in capture.out.read_bytes()
    headers = {("in", "server"): 13, ("in", "client"): 9, ("out", "server"): 5, ("out", "client"): 1}
    expected = [
        (way, port, theirs, whole if len(whole) < 13 else whole[: headers[way, port]])
        for way, port, theirs, whole in seen
    ]
    assert datagrams(capture.out, relay) == expected
    assert [int(one["frame.len"]) for one in tshark(capture.out)] == [28 + len(whole) for *_, whole in seen]


@needs_tshark
def test_refused_datagrams_are_in_it(start_relay: StartRelay, tmp_path: Path) -> None:
    session = new_session("refused")
    relay = start_relay([session], {"limits": {"refusals_per_source_per_second": 1000, "host_timeout": 600.0}})
    with capturing(relay, session, tmp_path, "--full") as capture:
        with Player(relay.address("client"), new_token(), session.token) as stranger, relay.host(session) as host:
            assert (stranger.ping(), host.ping()) == (INVALID, VALID)
            with relay.host(session, session.players[0]) as second:
                assert second.ping() == ERROR
        capture.end()
    found = datagrams(capture.out, relay)
    assert [way for way, *_ in found] == ["in", "out"] * 3
    assert [payload for way, *_, payload in found if way == "out"] == [INVALID, VALID, ERROR]


@needs_tshark
def test_over_ipv6(start_relay: StartRelay, tmp_path: Path) -> None:
    session = new_session("six")
    relay = start_relay([session], {"relay": {"bind": ["::1"]}})
    with capturing(relay, session, tmp_path, "--full", "--interface", "lo") as capture:
        with relay.host(session, ip="::1") as host, relay.player(session, ip="::1") as player:
            assert (host.ping(), player.ping()) == (VALID, VALID)
            sent = player.say(OPENS_CONNECTION)
            _, heard = host.hear()
            assert heard == OPENS_CONNECTION
        capture.end()
    found = datagrams(capture.out, relay)
    assert [way for way, *_ in found] == ["in", "out", "in", "out", "in", "out"]
    assert found[4][3] == sent


@needs_tshark
def test_the_file_is_bounded(start_relay: StartRelay, tmp_path: Path) -> None:
    session = new_session("bounded")
    relay = start_relay([session])
    with capturing(relay, session, tmp_path, "--max-bytes", "2000") as capture:
        seen = play(relay, session, rounds=30)
        said = capture.end(None)
    assert "it ended early: the file may have 2000 bytes (--max-bytes)" in said
    assert capture.out.stat().st_size <= 2000
    found = datagrams(capture.out, relay)
    assert 10 < len(found) < len(seen)
    assert [one[:3] for one in found] == [one[:3] for one in seen[: len(found)]]


@needs_tshark
def test_a_session_that_ends_meanwhile(start_relay: StartRelay, tmp_path: Path) -> None:
    session, stays = new_sessions("ends", "stays")
    relay = start_relay([session, stays])
    with capturing(relay, session, tmp_path, "--full") as capture:
        seen = play(relay, session)
        relay.write_sessions([stays])
        eventually(lambda: relay.metrics()["relayd_sessions",] == 1, "the session is gone")
        said = capture.end()
    assert "the session ended meanwhile" in said
    assert datagrams(capture.out, relay) == seen


@needs_tshark
@needs_kernel
def test_the_fast_path_leaves_a_captured_session_to_the_sockets(tmp_path: Path) -> None:
    session = new_session("fast")
    folder = tmp_path / "relay"
    folder.mkdir()
    with (
        own_network(),
        bpf_file_system(tmp_path / "bpf") as pins,
        RelayProcess(folder, [session], on_loopback(pins), ("run", "--detach-on-exit")) as relay,
        relay.host(session) as host,
        relay.player(session) as player,
    ):

        def by_kernel() -> float:
            metrics = relay.metrics()
            return metrics.get(("relayd_fast_path_datagrams_total", "client", "forwarded"), 0.0)

        def say() -> None:
            # The kernel sends to a peer the way that its own last datagram came.
            assert host.ping() == VALID
            player.say(GOES_ON)
            assert host.hear()[1] == GOES_ON

        def kernel_forwards() -> bool:
            before = by_kernel()
            say()
            return by_kernel() > before

        eventually(kernel_forwards, "the kernel forwards")
        with capturing(relay, session, tmp_path, "--full") as capture:
            before = by_kernel()
            for _ in range(20):
                say()
            assert by_kernel() == before
            said = capture.end()
        assert len(datagrams(capture.out, relay)) == 80
        assert "not in it: what the kernel's fast path drops by itself" in said
        eventually(kernel_forwards, "the kernel forwards again")
        assert relay.log_lines(event="session no longer captured", session="fast")


@needs_tshark
def test_a_capture_that_is_killed_leaves_nothing_behind(start_relay: StartRelay, tmp_path: Path) -> None:
    session = new_session("killed")
    relay = start_relay([session])
    with capturing(relay, session, tmp_path) as capture:
        capture.kill()
    eventually(lambda: relay.log_lines(event="session no longer captured"), "it is given back")


def test_without_the_right_to(start_relay: StartRelay, tmp_path: Path) -> None:
    relay = start_relay([new_session("denied")])
    out = tmp_path / "out"
    config = ("--config", str(relay.config_path))
    done = relayd("capture", "denied", "--out", str(out), *config, without=CAP_NET_RAW)
    assert_one_clear_line(done, 69, "capturing needs CAP_NET_RAW")
    assert not out.exists()


@needs_tshark
def test_what_cannot_be_captured(start_relay: StartRelay, tmp_path: Path) -> None:
    relay = start_relay([new_session("one")])
    out = ("--out", str(tmp_path / "out"))
    config = ("--config", str(relay.config_path))
    assert_one_clear_line(relayd("capture", "none", *out, *config), 1, "no session none in the table")
    done = relayd("capture", "one", *out, "--interface", "none0", *config)
    assert_one_clear_line(done, 64, "--interface: no interface none0; there are lo")
    (tmp_path / "out").touch()
    assert_one_clear_line(relayd("capture", "one", *out, *config), 64, "is there already")
    done = relayd("capture", "one", "--out", "/nowhere/out", *config)
    assert_one_clear_line(done, 64, "--out: /nowhere/out cannot be written: No such file or directory")


def test_while_no_relay_runs(tmp_path: Path) -> None:
    done = relayd("capture", "any", "--out", str(tmp_path / "out"), "--config", str(write_config(tmp_path)))
    assert_one_clear_line(done, 69, "no relay answers on 127.0.0.1:")
