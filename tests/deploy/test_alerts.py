"""Every alert fires for a real relay when its cause is there. A minute takes a second: see scaled.py."""

import itertools
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import get_native_id
from typing import IO, TypeVar

import pytest

from bench.sender import BatchSender
from tests.deploy.conftest import Watched
from tests.deploy.prometheus import needs_prometheus
from tests.deploy.scaled import rules
from tests.integration import holding
from tests.integration.config import Sections, new_session, new_sessions, replace_text
from tests.integration.disks import may_mount, on_a_disk
from tests.integration.fast_path import bpf_file_system
from tests.integration.namespaces import Namespace, connect
from tests.integration.peers import OPENS_CONNECTION, PING, VALID, Peer
from tests.integration.programs import Process
from tests.integration.relay_process import RelayProcess
from tests.integration.stand_in import StandIn, relay_session
from tests.integration.test_overload import PASSED_UP
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

pytestmark = needs_prometheus

Test = TypeVar("Test", bound=Callable[..., object])

PROVOKED: list[str] = []

RELAY_IP, PLAYER_IP = "10.78.0.1", "10.78.0.2"
_STOPPED_SECONDS, _RUNNING_SECONDS = 0.2, 0.1
_JUNK_BYTES, _JUNK_AT_ONCE = 64, 128


def provokes(*alerts: str) -> Callable[[Test], Test]:
    """Says which alerts a test has fire."""
    PROVOKED.extend(alerts)
    return lambda test: test


@pytest.fixture
def scraping(watched: Watched) -> Watched:
    """Prometheus at work."""
    watched.prometheus.until_scraping()
    return watched


@contextmanager
def again_and_again(what: Callable[[], object], pause_seconds: float = 0.0) -> Iterator[None]:
    """Does it in a thread until the end of the block."""
    end = threading.Event()

    def repeat() -> None:
        while not end.wait(pause_seconds):
            what()

    thread = threading.Thread(target=repeat)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def until_metric(relay: RelayProcess, name: str, value: float) -> None:
    """Waits until the relay's metric has that value."""
    eventually(lambda: relay.metrics()[name,] == value, f"{name} is {value}")


def test_every_alert_is_provoked() -> None:
    assert sorted(PROVOKED) == sorted(rule["alert"] for rule in rules())


@provokes("RelaydNotReady", "RelaydSourceStale", "RelaydSourceFailing")
def test_a_session_file_that_is_missing_and_then_broken(scraping: Watched) -> None:
    with scraping.relay("source", None, ready=False) as relay:
        relay.allowed_errors = 5
        scraping.until_firing("source", "RelaydNotReady")
        relay.write_sessions([new_session("there")])
        until_metric(relay, "relayd_ready", 1)
        for number in range(4):
            failures = relay.metrics()["relayd_source_failures_total",]
            replace_text(relay.sessions_path, '{"sessions": []' + "\n" * number)
            until_metric(relay, "relayd_source_failures_total", failures + 1)
        scraping.until_firing("source", "RelaydSourceStale", "RelaydSourceFailing")


@provokes("RelaydBindAddressAway")
def test_an_address_that_the_host_does_not_have(scraping: Watched) -> None:
    with scraping.relay("addressed", [new_session("there")], {"relay": {"bind": ["127.0.0.1", "203.0.113.1"]}}):
        scraping.until_firing("addressed", "RelaydBindAddressAway")


@provokes("RelaydJunkFlood", "RelaydOverloaded", "RelaydReceiveQueueOverflows")
def test_a_flood_of_junk(scraping: Watched) -> None:
    """Judged as it comes, then with nobody who judges, then with nobody who reads."""
    overrides = {"relay": {"receive_buffer_bytes": 0, "forwarder": "native"}}
    with (
        scraping.relay("flooded", new_sessions("hit"), overrides) as relay,
        Peer(relay.address("client"), 1, 1) as stormer,
    ):
        sender = BatchSender(stormer.socket, [_JUNK_BYTES] * _JUNK_AT_ONCE)
        sender.fill(b"\x02" * sender.total_bytes)

        def send_and_wait() -> None:
            sender.send()
            holding.until_read(relay.address("client"))

        def overload() -> None:
            with holding.owner_of(relay):
                for _ in range(4 * PASSED_UP // _JUNK_AT_ONCE):
                    send_and_wait()

        def overflow() -> None:
            with holding.all_of(relay):
                for _ in range(50):
                    sender.send()

        for provoke, alert in (
            (send_and_wait, "RelaydJunkFlood"),
            (overload, "RelaydOverloaded"),
            (overflow, "RelaydReceiveQueueOverflows"),
        ):
            with again_and_again(provoke, 0.001 if provoke is send_and_wait else 0.5):
                scraping.until_firing("flooded", alert)


@provokes("RelaydFull", "RelaydNearlyFull", "RelaydRateLimited")
def test_more_users_and_datagrams_than_are_allowed(scraping: Watched) -> None:
    session = new_session("limited")
    overrides = {"limits": {"max_bound_users": 1, "host_datagrams_per_second": 5}}
    with (
        scraping.relay("limited", [session], overrides) as relay,
        relay.host(session) as host,
        relay.player(session) as player,
    ):
        assert host.ping() == VALID

        def ping() -> None:
            host.send_ping()
            player.send_ping()

        with again_and_again(ping, 0.01):
            scraping.until_firing("limited", "RelaydFull", "RelaydNearlyFull", "RelaydRateLimited")


GUESSES = {"guesses_per_second": 50, "guesses_per_source_per_second": 20}


@provokes("RelaydTokensGuessed")
def test_guessed_tokens_beside_a_right_one(scraping: Watched) -> None:
    session = new_session("guessed")
    with (
        scraping.relay("guessed", [session], {"limits": GUESSES}) as relay,
        Peer(relay.address("client"), 1, session.token) as guesser,
        relay.player(session) as player,
    ):
        tokens = itertools.count(1)

        def try_another() -> None:
            guesser.send(struct.pack("<II", next(tokens), session.token) + PING)

        before = relay.counts()
        for _ in range(100):
            try_another()
        relay.counted_since(before, 100)

        rounds = itertools.count()

        def guess() -> None:
            for _ in range(200):
                try_another()
            # A right token that keeps coming is let in, the sooner the more often it comes.
            if next(rounds) % 10 == 0:
                player.send_ping()

        with again_and_again(guess, 0.01):
            scraping.until_firing("guessed", "RelaydTokensGuessed")


@provokes("RelaydLoopSlow", "RelaydAddedLatency")
def test_a_relay_that_gets_no_processor_time(scraping: Watched) -> None:
    session = new_session("stalled")
    with (
        scraping.relay("stalled", [session], {"relay": {"forwarder": "native"}}) as relay,
        relay.host(session) as host,
        relay.player(session) as player,
    ):
        assert (host.ping(), player.ping()) == (VALID, VALID)
        pause = threading.Event()

        def stop_for_a_moment() -> None:
            relay.process.send_signal(signal.SIGSTOP)
            pause.wait(_STOPPED_SECONDS)
            relay.process.send_signal(signal.SIGCONT)

        with (
            again_and_again(lambda: player.say(OPENS_CONNECTION), 0.005),
            again_and_again(stop_for_a_moment, _RUNNING_SECONDS),
        ):
            scraping.until_firing("stalled", "RelaydLoopSlow", "RelaydAddedLatency")


class _Here(Namespace):
    """The network that this thread is in."""

    def __init__(self) -> None:
        self.id = get_native_id()

    def ip(self, *arguments: str) -> None:
        subprocess.run(["ip", *arguments], check=True)


@provokes("RelaydUnsent")
def test_a_way_that_is_full_and_then_gone(scraping: Watched) -> None:
    """Nobody answers ARP, so that datagrams fill the send buffer; then there is no route."""
    if not scraping.own_network:
        pytest.skip("needs root and the program `ip` (Debian: iproute2)")
    session = new_session("cabled")
    overrides = {"relay": {"bind": ["127.0.0.1", RELAY_IP], "send_buffer_bytes": 1}}
    with ExitStack() as stack:
        here, there = _Here(), stack.enter_context(Namespace())
        connect(here, RELAY_IP, there, PLAYER_IP)
        relay = stack.enter_context(scraping.relay("cabled", [session], overrides))
        host = stack.enter_context(relay.host(session))
        player = stack.enter_context(there.run(relay.player, session, ip=RELAY_IP))
        assert (host.ping(), player.ping()) == (VALID, VALID)
        player.say(OPENS_CONNECTION)
        connection_id, _ = host.hear()
        for key, value in (("mcast_solicit", "10000"), ("retrans_time_ms", "50")):
            Path("/proc/sys/net/ipv4/neigh/cable", key).write_text(value, encoding="ascii")
        there.ip("link", "set", "cable", "arp", "off")
        here.ip("neighbour", "flush", "dev", "cable")
        selector = scraping.selector("cabled")
        with again_and_again(lambda: host.say(connection_id, b"x" * 1000), 0.005):
            scraping.prometheus.until_firing(("RelaydUnsent",), f'{selector},verdict="send_queue_full"')
            here.ip("route", "delete", "10.78.0.0/24", "dev", "cable")
            scraping.prometheus.until_firing(("RelaydUnsent",), f'{selector},verdict="send_failed"')


@needs_kernel
@provokes("RelaydFastPathDown")
def test_a_fast_path_whose_interface_goes(scraping: Watched, tmp_path: Path) -> None:
    if not scraping.own_network:
        pytest.skip("needs root and the program `ip` (Debian: iproute2)")
    subprocess.run(["ip", "link", "add", "passing", "type", "veth"], check=True)
    with bpf_file_system(tmp_path / "bpf") as pins:
        fast_path = {"mode": "require", "interfaces": ["passing"], "pin_directory": str(pins / "relayd")}
        overrides: Sections = {"fast_path": fast_path, "relay": {"id": "watched"}}
        with scraping.relay("kernel", new_sessions("playing"), overrides, arguments=("run", "--detach-on-exit")):
            scraping.prometheus.until_found(f"relayd_fast_path_up{{{scraping.selector('kernel')}}} == 1")
            subprocess.run(["ip", "link", "delete", "passing"], check=True)
            scraping.until_firing("kernel", "RelaydFastPathDown")


@needs_kernel
@provokes("RelaydFastPathLoses")
def test_a_fast_path_whose_far_end_takes_nothing(scraping: Watched, tmp_path: Path) -> None:
    """A veth with no XDP program at its far end: all that the kernel answers there is lost."""
    if not scraping.own_network:
        pytest.skip("needs root and the program `ip` (Debian: iproute2)")
    session = new_session("loses")
    with ExitStack() as stack:
        pins = stack.enter_context(bpf_file_system(tmp_path / "bpf"))
        here, there = _Here(), stack.enter_context(Namespace())
        connect(here, RELAY_IP, there, PLAYER_IP)
        fast_path = {"mode": "require", "interfaces": ["cable"], "pin_directory": str(pins / "relayd")}
        overrides: Sections = {"fast_path": fast_path, "relay": {"id": "losing", "bind": [RELAY_IP]}}
        relay = scraping.relay("losing", [session], overrides, arguments=("run", "--detach-on-exit"))
        stack.enter_context(relay)
        host = stack.enter_context(there.run(relay.host, session, ip=RELAY_IP))
        with again_and_again(host.send_ping, 0.005):
            scraping.until_firing("losing", "RelaydFastPathLoses")


@provokes("RelaydNothingForwarded", "RelaydDrainingLong", "RelaydDown")
def test_players_without_a_host_then_a_forgotten_drain_then_the_end(scraping: Watched) -> None:
    session = new_session("without a host")
    with scraping.relay("empty", [session]) as relay:
        with relay.player(session) as player:
            assert player.ping() == VALID
            scraping.until_firing("empty", "RelaydNothingForwarded")
            assert relay.request("POST", "/v1/drain")[0] == 200
            scraping.until_firing("empty", "RelaydDrainingLong")
        relay.stop()
        scraping.until_firing("empty", "RelaydDown")


@provokes("RelaydUsageNotTaken", "RelaydUsageLost")
@pytest.mark.parametrize(("name", "alert"), [("untaken", "RelaydUsageNotTaken"), ("refused", "RelaydUsageLost")])
def test_a_control_plane_that_takes_no_usage_records(scraping: Watched, name: str, alert: str) -> None:
    session = new_session("played")
    with StandIn(nodes=True) as stand_in:
        status = 400 if name == "refused" else 500
        stand_in.usage_misbehaviour = lambda handler: handler.reply(status, {"message": "no"})
        source = {"kind": "control_plane", "url": stand_in.url}
        overrides: Sections = {"source": source, "relay": {"public_ip": "203.0.113.1"}, "usage": {"interval": 0.1}}
        stand_in.sessions = [relay_session(session, "203.0.113.1", 1, 2)]
        with scraping.relay(name, [session], overrides) as relay, relay.host(session) as host:
            relay.allowed_errors = 1
            scraping.prometheus.until_found(f'relayd_usage_records_total{{{scraping.selector(name)},fate="made"}} == 0')
            assert host.ping_until(VALID)
            scraping.until_firing(name, alert)


class _OnAReadOnlyDisk(RelayProcess):
    """A relay whose state directory cannot be written."""

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        disk = self.folder / "state"
        disk.mkdir(exist_ok=True)
        return super()._popen([*on_a_disk(str(disk), "ro"), *arguments], out, err)


@pytest.mark.skipif(not may_mount(), reason="needs root, or user namespaces for everybody")
@provokes("RelaydUsageJournalDown")
def test_a_disk_that_cannot_be_written(scraping: Watched) -> None:
    with scraping.relay("unkept", new_sessions("playing"), kind=_OnAReadOnlyDisk):
        scraping.until_firing("unkept", "RelaydUsageJournalDown")


@provokes("RelaydRestarting")
def test_a_relay_that_is_started_again_and_again(scraping: Watched) -> None:
    selector = scraping.selector("restarting")
    for _ in range(4):
        with scraping.relay("restarting", new_sessions("playing")) as relay:
            started = relay.metrics()["relayd_start_time_seconds",]
            scraping.prometheus.until_found(f"relayd_start_time_seconds{{{selector}}} == {started}")
    scraping.until_firing("restarting", "RelaydRestarting")


class _OtherVersion(RelayProcess):
    """A relay that says it is of another version."""

    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        program = "import sys, relayd; relayd.__version__ = '0.0.0'; from relayd.cli import main; sys.exit(main())"
        _, _, _, *options = arguments
        return super()._popen([sys.executable, "-c", program, *options], out, err)


@provokes("RelaydVersionsDiffer")
def test_relays_of_two_versions(scraping: Watched) -> None:
    sessions = new_sessions("playing")
    with scraping.relay("one", sessions), scraping.relay("other", sessions, kind=_OtherVersion):
        scraping.prometheus.until_firing(("RelaydVersionsDiffer",), 'job="relayd"')


@provokes("RelaydNoneScraped")
def test_a_prometheus_that_knows_of_no_relay_any_more(scraping: Watched) -> None:
    """The last of these tests: it takes a while until it knows of them again."""
    with scraping.prometheus.without_targets():
        scraping.prometheus.until_firing(("RelaydNoneScraped",), 'job="relayd"')
