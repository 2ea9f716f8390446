"""What the kernel does not send is dropped and counted, and sending goes on by itself. In networks of their own."""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.config import SessionKeys, new_sessions, with_forwarder
from tests.integration.namespaces import (
    Namespace,
    as_root_of_a_user_namespace,
    connect,
    may_make_networks,
    missing_program,
)
from tests.integration.peers import OPENS_CONNECTION, VALID, Host, Player
from tests.integration.relay_process import REPOSITORY, RelayProcess, counted, environment

INSIDE = "RELAY_TESTS_INSIDE_A_USER_NAMESPACE"
RELAY_IP = "10.77.0.1"
PLAYER_IP = "10.77.0.2"
BURST = 100
PAYLOAD = b"x" * 1000


class Cabled(NamedTuple):
    """A relay, a host beside it, and a player at the other end of a cable."""

    relay: RelayProcess
    here: Namespace
    there: Namespace
    session: SessionKeys
    host: Host
    player: Player
    connection_id: int


def with_cable(test: Callable[[Cabled], None]) -> Callable[[Path, str, pytest.FixtureRequest], None]:
    """Gives a test its networks: made by this process if it may, else by one that is root of a user namespace."""

    def run(tmp_path: Path, forwarder: str, request: pytest.FixtureRequest) -> None:
        if missing := missing_program():
            pytest.skip(f"not installed: {missing}")
        if may_make_networks():
            with ExitStack() as stack:
                test(_lay_cable(tmp_path, forwarder, stack))
        else:
            _run_in_a_user_namespace(request.node.nodeid, tmp_path)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def _lay_cable(folder: Path, forwarder: str, stack: ExitStack) -> Cabled:
    session, *_ = keys = new_sessions("cabled", "another")
    overrides = with_forwarder(forwarder, {"relay": {"bind": ["127.0.0.1", RELAY_IP], "send_buffer_bytes": 1}})
    here, there = stack.enter_context(Namespace()), stack.enter_context(Namespace())
    connect(here, RELAY_IP, there, PLAYER_IP)
    relay = RelayProcess(folder, keys, overrides)
    here.run(relay.__enter__)
    stack.push(lambda *error: here.run(relay.__exit__, *error))
    host = stack.enter_context(here.run(relay.host, session))
    player = stack.enter_context(there.run(relay.player, session, ip=RELAY_IP))
    assert (host.ping(), player.ping()) == (VALID, VALID)
    player.say(OPENS_CONNECTION)
    return Cabled(relay, here, there, session, host, player, host.hear()[0])


def _run_in_a_user_namespace(test: str, folder: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'inside'}"]
    command = as_root_of_a_user_namespace([sys.executable, "-m", "pytest", *options, test])
    if command is None or INSIDE in os.environ:
        pytest.skip("needs root, or user namespaces for everybody")
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**environment(), INSIDE: "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or "1 passed" not in done.stdout:
        pytest.fail(done.stdout + done.stderr, pytrace=False)


@with_cable
def test_send_queue_full(cabled: Cabled) -> None:
    """Nobody answers ARP, so that datagrams wait for it in the kernel, where they take up the socket's send buffer."""
    relay, here, host, player = cabled.relay, cabled.here, cabled.host, cabled.player
    here.set("ipv4/neigh/cable/mcast_solicit", 10_000)
    here.set("ipv4/neigh/cable/retrans_time_ms", 50)
    cabled.there.ip("link", "set", "cable", "arp", "off")
    here.ip("neighbour", "flush", "dev", "cable")
    before = here.run(relay.counts)
    burst = [host.say(cabled.connection_id, PAYLOAD) for _ in range(BURST)]
    moved = here.run(relay.counted_since, before, BURST)
    taken = moved["server forwarded"].datagrams
    assert 0 < taken < BURST
    assert moved == {
        **counted("server", "forwarded", *burst[:taken]),
        **counted("server", "send_queue_full", *burst[taken:]),
    }
    shown = here.run(relay.get_json, f"/v1/sessions/{cabled.session.session_id}")
    assert shown["drops"] == {"send_queue_full": BURST - taken}
    assert shown["to_player"]["datagrams"] == taken
    assert player.received_by_now() == []

    # Other ports and addresses have nothing to do with it.
    assert host.ping() == VALID

    # The other end answers: what the kernel took arrives, and everything after that as if nothing had been.
    cabled.there.ip("link", "set", "cable", "arp", "on")
    assert [player.hear() for _ in range(taken)] == [PAYLOAD] * taken
    for number in range(BURST):
        host.say(cabled.connection_id, b"number %d" % number)
        assert player.hear() == b"number %d" % number


@with_cable
def test_send_failed(cabled: Cabled) -> None:
    relay, here, host, player = cabled.relay, cabled.here, cabled.host, cabled.player
    before = here.run(relay.counts)
    here.ip("route", "delete", "10.77.0.0/24", "dev", "cable")
    failed = [host.say(cabled.connection_id, PAYLOAD) for _ in range(BURST)]
    assert here.run(relay.counted_since, before, BURST) == counted("server", "send_failed", *failed)
    assert here.run(relay.get_json, f"/v1/sessions/{cabled.session.session_id}")["drops"] == {"send_failed": BURST}

    here.ip("route", "add", "10.77.0.0/24", "dev", "cable", "src", RELAY_IP)
    arrives = host.say(cabled.connection_id, b"there again")
    assert player.hear() == b"there again"
    here.run(
        relay.assert_counted, before, counted("server", "send_failed", *failed), counted("server", "forwarded", arrives)
    )


@with_cable
def test_a_ping_that_cannot_be_answered(cabled: Cabled) -> None:
    """The way back is gone while the way here is not."""
    relay, here = cabled.relay, cabled.here
    for interface in ("all", "cable"):
        here.set(f"ipv4/conf/{interface}/rp_filter", 0)
    before = here.run(relay.counts)
    here.ip("route", "add", "unreachable", f"{PLAYER_IP}/32")
    lost = cabled.player.send_ping()
    assert here.run(relay.counted_since, before, 1) == counted("client", "send_failed", lost)
    here.ip("route", "delete", "unreachable", f"{PLAYER_IP}/32")
    assert cabled.player.ping() == VALID
