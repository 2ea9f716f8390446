"""What was counted before a crash is there after it, to the last datagram, by whichever way it went."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.config import new_session
from tests.integration.fast_path import bpf_file_system, by_kernel, on_loopback, own_network
from tests.integration.peers import GOES_ON, INVALID, OPENS_CONNECTION, VALID, Player
from tests.integration.relay_process import RelayProcess
from tests.integration.waiting import eventually
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

ROUNDS = 20


@pytest.fixture
def pins(tmp_path: Path) -> Iterator[Path]:
    with own_network(), bpf_file_system(tmp_path / "bpf") as folder:
        yield folder


@pytest.mark.parametrize("forwarder", ["python", "auto"])
def test_sigkill_loses_no_count(forwarder: str, tmp_path: Path, pins: Path) -> None:
    """On `lo`, DATA between IPv4 and IPv6 goes by the sockets and that within IPv4 by the kernel."""
    session = new_session("counts")
    first = RelayProcess(
        tmp_path, [session], {**on_loopback(pins), "relay": {"bind": ["127.0.0.1", "::1"], "forwarder": forwarder}}
    )
    first.__enter__()
    try:
        with (
            first.host(session) as host,
            first.player(session, 0) as near,
            first.player(session, 1, ip="::1") as far,
            Player(first.address("client"), 1, 1) as stranger,
        ):
            assert host.ping() == VALID
            connections = {}
            for player in (near, far):
                player.say(OPENS_CONNECTION)
                connections[player] = host.hear()[0]
            eventually(lambda: first.metrics()["relayd_fast_path_bindings",] == 3, "the kernel has all of them")
            by_kernel_before = by_kernel(first, "forwarded")
            for _ in range(ROUNDS):
                for player in (near, far):
                    player.say(GOES_ON)
                    assert host.hear() == (connections[player], GOES_ON)
                    host.say(connections[player], b"welcome")
                    assert player.hear() == b"welcome"
            assert stranger.ping() == INVALID
            far.send(far.header + b"\x01 with more behind it")
            assert far.receive() == VALID
            if forwarder != "python":
                # What the thread in C counted is kept once it was read.
                first.get_json(f"/v1/sessions/{session.session_id}")
            first.kill()
            settings: dict[str, Any] = first.settings
            with RelayProcess(tmp_path, None, settings, ("run", "--detach-on-exit")) as second:
                eventually(lambda: second.log_lines(event="fast path goes on with what it served before"), "adopted")
                said = 1 + ROUNDS
                forwarded = {name.split()[0]: count for name, count in second.counts().items() if "forwarded" in name}
                opening, going_on = len(near.data(OPENS_CONNECTION)), len(near.data(GOES_ON))
                assert forwarded["client"] == (2 * said, 2 * (opening + ROUNDS * going_on))
                assert forwarded["server"] == (2 * ROUNDS, 2 * ROUNDS * len(host.data(1, b"welcome")))
                assert by_kernel(second, "forwarded") >= by_kernel_before + 2 * (ROUNDS - 1)
                counts = second.counts()
                assert counts["client unknown_pair"].datagrams == 1
                assert (counts["server answered"].datagrams, counts["client answered"].datagrams) == (1, 1)
                shown = second.get_json(f"/v1/sessions/{session.session_id}")
                each = [(user["to_host"]["datagrams"], user["to_player"]["datagrams"]) for user in shown["users"]]
                assert each == [(0, 0), (said, ROUNDS), (said, ROUNDS)]
    finally:
        first.kill()
