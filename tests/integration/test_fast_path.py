"""relayd with the kernel forwarding, on the loopback interface of a network of its own."""

import asyncio
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from relayd.core.wire import State
from relayd.forwarding.kernel import libbpf
from relayd.forwarding.kernel.attach import attached_program
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.simulation.game import Game, GameKeys
from relayd.simulation.peers import Host, Player
from tests.integration.captures import GAMES, load_capture
from tests.integration.commands import relayd, write_config
from tests.integration.config import SessionKeys, new_session, new_token, write_sessions
from tests.integration.fast_path import bpf_file_system, by_kernel, in_all, on_loopback, own_network
from tests.integration.programs import command
from tests.integration.relay_process import RelayProcess, counted, environment
from tests.integration.test_recorded_games import Replay
from tests.integration.waiting import PATIENCE_SECONDS, eventually
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    with own_network(), bpf_file_system(tmp_path / "bpf") as folder:
        yield folder


def relay_in(folder: Path, pins: Path, session: SessionKeys, *options: str, **more: dict[str, object]) -> RelayProcess:
    folder.mkdir(exist_ok=True)
    return RelayProcess(folder, [session], {**on_loopback(pins), **more}, ("run", *options))


@pytest.mark.parametrize("name", GAMES)
def test_recorded_games_play_through_the_kernel(name: str, tmp_path: Path, pins: Path) -> None:
    capture = load_capture(name)
    with relay_in(tmp_path / "relay", pins, capture.session) as relay, ExitStack() as stack:
        assert relay.metrics()["relayd_fast_path_up",] == 1
        before = relay.counts()
        replay = Replay(relay, capture, stack)
        # To answer, the relay has come to the end of what it had to do, such as to give a binding to the kernel.
        replay.run(after_the_first=lambda: relay.get("/healthz"))
        relay.assert_counted(
            before,
            *(
                counted(port, verdict, *(d.datagram for d in replay.sent if d.port == port and d.is_data is is_data))
                for port in ("server", "client")
                for verdict, is_data in (("forwarded", True), ("answered", False))
            ),
        )
        share = by_kernel(relay, "forwarded") / in_all(relay, "forwarded")
        assert share > 0.99


def keys_of(relay: RelayProcess, session: SessionKeys) -> GameKeys:
    return GameKeys(
        relay.address("server"), relay.address("client"), session.token, session.host, tuple(session.players)
    )


async def playing(game: Game) -> asyncio.Task[None]:
    """Has a game begin, and returns once everybody plays."""
    task = asyncio.create_task(game.play())
    async with asyncio.timeout(PATIENCE_SECONDS):
        while not all(report.became_valid for report in game.reports()):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    return task


def session_total(relay: RelayProcess, session: SessionKeys) -> list[float]:
    metrics = relay.metrics()
    return [metrics["relayd_session_datagrams_total", way, session.session_id] for way in ("to_host", "to_player")]


@pytest.mark.parametrize("away_seconds", [10.0])
def test_a_game_outlives_the_process(away_seconds: float, tmp_path: Path, pins: Path, hellos: Counter[type]) -> None:
    session = new_session("outlives", players=8)
    relay = relay_in(tmp_path / "relay", pins, session)
    relay.__enter__()
    game = Game(keys_of(relay, session))
    settings = relay.settings

    async def play() -> None:
        task = await playing(game)
        await asyncio.to_thread(until_played_on, game)
        before = session_total(relay, session)
        totals = {verdict: in_all(relay, verdict) for verdict in ("forwarded", "answered")}
        relay.process.send_signal(signal.SIGKILL)
        relay.process.wait()
        await asyncio.sleep(away_seconds)
        after = await asyncio.to_thread(restart)
        assert all(now > then for now, then in zip(session_total(after, session), before, strict=True))
        assert all(in_all(after, verdict) > count for verdict, count in totals.items())
        await asyncio.to_thread(until_played_on, game)
        game.stop()
        await task
        assert all(peer.states_seen == {State.VALID} for peer in (game.host, *game.players))
        assert game.flawless, game.reports()
        host_sent = sum(connection.sent for connection in game.host.connections.values())
        sent = [sum(player.sent for player in game.players), host_sent]
        assert after.get_json(f"/v1/sessions/{session.session_id}")["drops"] == {}
        # Players' hellos, repeated until they are answered, and the answers are not numbered.
        assert [int(count) for count in session_total(after, session)] == [
            sent[0] + hellos[Player],
            sent[1] + hellos[Host],
        ]
        after.stop()

    def restart() -> RelayProcess:
        again = RelayProcess(relay.folder, None, {**settings}, ("run",))
        again._secrets = relay._secrets
        stack.callback(again.kill)
        again.__enter__()
        eventually(lambda: again.log_lines(event="fast path goes on with what it served before"), "it is adopted")
        assert again.log_lines(bindings=9)
        return again

    with ExitStack() as stack:
        stack.callback(relay.kill)
        asyncio.run(play())


def until_played_on(game: Game) -> None:
    """Waits until everybody has got something to and fro a hundred times."""
    heard = {report.number: report.received for report in game.reports()}
    eventually(
        lambda: all(report.received >= heard[report.number] + 100 for report in game.reports()), "everybody plays on"
    )


def test_junk_is_dropped_before_it_reaches_the_process(tmp_path: Path, pins: Path) -> None:
    session = new_session("junk", players=4)
    junk = 50_000
    with relay_in(tmp_path / "relay", pins, session) as relay:
        game = Game(keys_of(relay, session))
        before = relay.counts()

        async def play() -> None:
            task = await playing(game)
            await asyncio.to_thread(flood)
            game.stop()
            await task

        def flood() -> None:
            stranger = new_token().to_bytes(4, "little") + new_token().to_bytes(4, "little") + b"\x02junk"
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                for number in range(junk):
                    sock.sendto(stranger, relay.address("client"))
                    if number % 1000 == 0:
                        time.sleep(0.005)

        asyncio.run(play())
        assert game.flawless, game.reports()
        moved = relay.counted_since(before, junk)
        assert moved["client unknown_pair"].datagrams == junk
        assert by_kernel(relay, "unknown_pair") > 0.9 * junk


def test_nothing_is_left_behind_when_it_is_told_so(tmp_path: Path, pins: Path) -> None:
    session = new_session("leaves")
    with relay_in(tmp_path / "relay", pins, session, "--detach-on-exit") as relay:
        assert [path.name for path in (pins / "relayd").iterdir()]
        assert "interface   lo: on, generic" in said(relay, "status")
    assert not list((pins / "relayd").iterdir())
    assert "the fast path is off" in said(relay, "status")


def test_without_a_process_there_is_no_icmp_error(tmp_path: Path, pins: Path) -> None:
    session = new_session("away")
    first = relay_in(tmp_path / "relay", pins, session)
    first.__enter__()
    with ExitStack() as stack, first.host(session) as host, first.player(session) as player:
        stack.callback(first.kill)
        eventually(lambda: host.ping() and by_kernel(first, "answered"), "the kernel serves the host")
        port = first.address("client")
        settings = first.settings
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
        # The host is bound and served; the player is not, and hears nothing: an error would be raised here.
        assert host.ping() == b"\x01\x02"
        assert player.send_ping()
        assert player.received_by_now() == []
        assert host.ping() == b"\x01\x02"
        again = RelayProcess(first.folder, None, {**settings}, ("run", "--detach-on-exit"))
        with again:
            assert again.address("client") == port
            assert again.counts()["client relay_away"].datagrams == 1
            assert by_kernel(again, "relay_away") == 1
            assert player.ping() == b"\x01\x02"


def test_it_can_be_taken_off_under_a_running_relay(tmp_path: Path, pins: Path) -> None:
    session = new_session("taken off")
    with relay_in(tmp_path / "relay", pins, session) as relay, relay.host(session) as host:
        assert host.ping() == b"\x01\x02"
        assert "removed" in said(relay, "remove")
        eventually(lambda: relay.metrics()["relayd_fast_path_up",] == 0, "the metric says so")
        assert host.ping() == b"\x01\x02"
        assert "nothing is pinned" in said(relay, "remove")


def test_another_program_is_not_displaced(tmp_path: Path, pins: Path) -> None:
    with relay_in(tmp_path / "first", pins, new_session("first")):
        folder = tmp_path / "second"
        folder.mkdir()
        fast_path = {"fast_path": {"mode": "auto", "interfaces": ["lo"], "pin_directory": str(pins / "relayd")}}
        with RelayProcess(folder, [new_session("second")], {**fast_path, "relay": {"id": "second"}}) as second:
            assert second.metrics()["relayd_fast_path_up",] == 0
            assert "is on it already and is not displaced" in second.stderr
            second.allowed_errors = 0


@pytest.mark.parametrize("how", ["xdpdrv", "xdpgeneric"])
def test_a_foreign_program_is_not_displaced(how: str, tmp_path: Path, pins: Path) -> None:
    """One put there with ip(8), in the driver or the generic way."""
    program = KernelProgram.load(Sizes(1, 1))
    libbpf.pin(program.fd, str(pins / "foreign"))
    program.close()
    for arguments in (
        "add cable type veth peer name end",
        "set cable up",
        f"set dev cable {how} pinned {pins}/foreign",
    ):
        subprocess.run(["ip", "link", *arguments.split()], check=True)
    foreign = attached_program(socket.if_nametoindex("cable"))
    fast_path = {"interfaces": ["cable"], "pin_directory": str(pins / "relayd")}
    why = f"cable: XDP program {foreign} is on it already and is not displaced"
    write_sessions(tmp_path / "sessions.json", [new_session("x")])
    for name in ("run", "check"):
        done = relayd(name, "--config", str(write_config(tmp_path, {"fast_path": {**fast_path, "mode": "require"}})))
        assert done.returncode == 69, done.stderr
        assert why in done.stderr
    folder = tmp_path / "auto"
    folder.mkdir()
    session = new_session("sockets")
    with RelayProcess(folder, [session], {"fast_path": {**fast_path, "mode": "auto"}}) as relay:
        assert why in relay.stderr
        assert relay.metrics()["relayd_fast_path_up",] == 0
        with relay.host(session) as host:
            assert host.ping() == b"\x01\x02"
    assert attached_program(socket.if_nametoindex("cable")) == foreign
    assert not Pins(pins / "relayd", "relay-1").exist()


@pytest.mark.parametrize(
    ("fast_path", "why"),
    [
        ({"mode": "require"}, "names none"),
        ({"mode": "require", "interfaces": ["none0"]}, "no interface none0; there are lo"),
        ({"mode": "require", "interfaces": ["lo"], "pin_directory": "/tmp/here"}, "is in no BPF file system"),
    ],
)
def test_required_and_not_available(fast_path: dict[str, object], why: str, tmp_path: Path, pins: Path) -> None:
    where = {} if "pin_directory" in fast_path else {"pin_directory": str(pins / "relayd")}
    write_sessions(tmp_path / "sessions.json", [new_session("x")])
    for name in ("run", "check"):
        done = relayd(name, "--config", str(write_config(tmp_path, {"fast_path": {**where, **fast_path}})))
        assert done.returncode == 69, done.stderr
        assert why in done.stderr


def said(relay: RelayProcess, name: str) -> str:
    done = subprocess.run(
        command("fast-path", name, "--config", str(relay.config_path)),
        capture_output=True,
        text=True,
        env=environment(),
        check=True,
    )
    return done.stdout
