"""What the program does with packets that are not as they should be, and how it writes those it sends."""

import socket
from collections.abc import Iterator

import pytest

from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.kernel.layout import InterfaceMode
from tests.scenarios.frames import PEER_MAC, RELAY_MAC, Packet, build, parse, udp_checksum
from tests.scenarios.rig import PORTS, RELAY, XDP_DROP, XDP_PASS, XDP_TX, Rig
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

SESSION = 0xBEEF
HOSTS = {4: ("10.77.0.50", 7000), 6: ("fd77::50", 7000)}
PLAYERS = {4: ("10.77.0.60", 8000), 6: ("fd77::60", 8000)}
FAMILIES = pytest.mark.parametrize("family", [4, 6])


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(dscp=46) as made:
        yield made


def bind(rig: Rig, family: int, host_family: int | None = None, ifindex: int = 0) -> int:
    """A host and a player that the kernel serves. Returns the connection id."""
    rig.authorize(("s", SESSION, (1, 2, 3)))
    for _ in range(2):
        rig.handle(rig.frame(*HOSTS[host_family or family], Port.SERVER, encode_ping(1, SESSION)), ifindex)
        player = encode_player_data(2, SESSION, b"\x01" + bytes(9))
        rig.handle(rig.frame(*PLAYERS[family], Port.CLIENT, player), ifindex)
    return next(iter(rig.table.by_token[SESSION].players))


def cable(rig: Rig) -> int:
    """The index of an interface that the program is said to be on natively."""
    rig.network.ip("link", "add", "cable", "type", "veth", "peer", "name", "end")
    ifindex = rig.network.run(socket.if_nametoindex, "cable")
    rig.program.map("interfaces").put(ifindex, int(InterfaceMode.NATIVE).to_bytes(4, "little"))
    return ifindex


def to_host(rig: Rig, family: int, payload: bytes, checksum: str | int = "full") -> bytes:
    return rig.frame(*PLAYERS[family], Port.CLIENT, encode_player_data(2, SESSION, payload), checksum)


@FAMILIES
def test_all_headers_are_the_relays_own(rig: Rig, family: int) -> None:
    connection = bind(rig, family)
    frame = rig.frame(*HOSTS[family], Port.SERVER, encode_host_data(1, SESSION, connection, b"payload"))
    parsed = rig.run(frame).parsed
    packet = parsed.packet
    assert (packet.source, packet.source_port) == (RELAY[family], PORTS[Port.CLIENT])
    assert (packet.destination, packet.destination_port) == PLAYERS[family]
    assert (packet.mac_to, packet.mac_from) == (PEER_MAC, RELAY_MAC)
    assert packet.payload == b"\x02payload"
    assert (parsed.ttl, parsed.tos, parsed.checksum_right) == (64, 46 << 2, True)


@FAMILIES
@pytest.mark.parametrize("padding", [b"\0", b"\xff" * 30])
def test_what_the_link_appended_is_not_sent_on(rig: Rig, family: int, padding: bytes) -> None:
    bind(rig, family)
    packet = rig.packet(*PLAYERS[family], Port.CLIENT, encode_player_data(2, SESSION, b"x"))
    assert parse(rig.run(build(packet, padding=padding)).frame).packet.payload[5:] == b"x"
    ping = rig.packet(*PLAYERS[family], Port.CLIENT, encode_ping(2, SESSION))
    assert parse(rig.run(build(ping, padding=padding)).frame).packet.payload == b"\x01\x02"


@FAMILIES
def test_what_was_damaged_on_its_way_stays_damaged(rig: Rig, family: int) -> None:
    bind(rig, family)
    frame = bytearray(to_host(rig, family, b"payload"))
    frame[-1] ^= 0x10
    run = rig.run(bytes(frame))
    assert run.exit == XDP_TX
    assert not run.parsed.checksum_right


def test_a_missing_checksum_stays_missing(rig: Rig) -> None:
    bind(rig, 4)
    assert rig.run(to_host(rig, 4, b"payload", "none")).parsed.checksum == 0


def test_a_missing_checksum_cannot_become_ipv6(rig: Rig) -> None:
    ifindex = cable(rig)
    bind(rig, 4, host_family=6, ifindex=ifindex)
    assert rig.run(to_host(rig, 4, b"payload", "none"), ifindex).exit == XDP_PASS
    for checksum in ("full", "partial"):
        run = rig.run(to_host(rig, 4, b"payload", checksum), ifindex)
        assert run.exit == XDP_TX
        assert run.parsed.checksum_right
        assert (run.parsed.packet.destination, run.parsed.packet.payload[5:]) == (HOSTS[6][0], b"payload")


def test_ipv6_becomes_ipv4(rig: Rig) -> None:
    ifindex = cable(rig)
    bind(rig, 6, host_family=4, ifindex=ifindex)
    parsed = rig.run(to_host(rig, 6, b"payload"), ifindex).parsed
    assert parsed.checksum_right
    assert (parsed.packet.destination, parsed.packet.payload[5:]) == (HOSTS[4][0], b"payload")


@FAMILIES
def test_every_checksum_there_is(rig: Rig, family: int) -> None:
    """Among 70,000 payloads that differ in one word, one checksum would be 0, which UDP writes as 0xffff."""
    bind(rig, family)
    seen = set()
    for word in range(0, 0x10000, 611):
        parsed = rig.run(to_host(rig, family, b"\0" + word.to_bytes(2, "big"))).parsed
        assert parsed.checksum_right
        seen.add(parsed.checksum)
    low = next(word for word in range(0x10000) if _would_be_zero(rig, family, word))
    parsed = rig.run(to_host(rig, family, b"\0" + low.to_bytes(2, "big"))).parsed
    assert (parsed.checksum, parsed.checksum_right) == (0xFFFF, True)
    assert len(seen) > 100


def _would_be_zero(rig: Rig, family: int, word: int) -> bool:
    connection = next(iter(rig.table.by_token[SESSION].players)).to_bytes(4, "little")
    payload = b"\x02" + connection + b"\0" + word.to_bytes(2, "big")
    packet = Packet(RELAY[family], PORTS[Port.SERVER], *HOSTS[family], payload)
    head = b"".join(number.to_bytes(2, "big") for number in (PORTS[Port.SERVER], HOSTS[family][1], 8 + len(payload), 0))
    return udp_checksum(packet, head + payload) == 0xFFFF


@FAMILIES
def test_a_checksum_that_a_local_stack_left_unfinished(rig: Rig, family: int) -> None:
    """Through another interface than the loopback one, whose packets no network card will finish."""
    ifindex = cable(rig)
    bind(rig, family, ifindex=ifindex)
    for size in (1, 2, 3, 4, 5, 100, 1186, 1187):
        payload = bytes(index & 0xFF for index in range(size))
        run = rig.run(to_host(rig, family, payload, "partial"), ifindex)
        assert run.exit == XDP_TX
        assert run.parsed.checksum_right
        assert run.parsed.checksum != 0
    rig.program.map("interfaces").put(ifindex, int(InterfaceMode.GENERIC).to_bytes(4, "little"))
    assert rig.run(to_host(rig, family, b"payload", "partial"), ifindex).exit == XDP_PASS


@pytest.mark.parametrize(
    "changes",
    [
        {"vlan": True},
        {"options": b"\x01\x01\x01\x00"},
        {"fragment": 0x2000},
        {"fragment": 0x0010},
        {"udp_bytes": 9},
        {"udp_bytes": 2000},
        {"broken_ip": True},
        {"multicast": True},
    ],
)
def test_what_the_stack_should_see_goes_to_it(rig: Rig, changes: dict[str, object]) -> None:
    bind(rig, 4)
    packet = rig.packet(*PLAYERS[4], Port.CLIENT, encode_player_data(2, SESSION, b"payload"))
    frame = build(packet, **changes)  # type: ignore[arg-type]
    run = rig.run(frame)
    assert (run.exit, run.frame) == (XDP_PASS, frame)


def test_what_is_only_on_its_way_through_is_left_alone(rig: Rig) -> None:
    bind(rig, 4)
    packet = rig.packet("10.77.0.99", 1, Port.CLIENT, b"junk")._replace(destination="10.77.0.77")
    for _ in range(200):
        assert rig.run(build(packet)).exit == XDP_PASS


@FAMILIES
def test_what_is_for_another_port_of_this_host_is_left_alone(rig: Rig, family: int) -> None:
    """Whatever it says, and however much of it comes."""
    bind(rig, family)
    for source, payload in ((HOSTS, encode_ping(1, SESSION)), (PLAYERS, encode_ping(2, SESSION)), (PLAYERS, b"junk")):
        packet = rig.packet(*source[family], Port.SERVER, payload)
        for port in (53, PORTS[Port.SERVER] - 1, PORTS[Port.CLIENT] + 1):
            frame = build(packet._replace(destination_port=port))
            for _ in range(50):
                run = rig.run(frame)
                assert (run.exit, run.frame, run.verdict) == (XDP_PASS, frame, None)


@pytest.mark.parametrize("cut", range(0, 64, 3))
@FAMILIES
def test_a_frame_that_ends_too_soon(rig: Rig, family: int, cut: int) -> None:
    bind(rig, family)
    frame = to_host(rig, family, b"payload")
    assert rig.run(frame[: max(14, len(frame) - 1 - cut)]).exit == XDP_PASS


def test_without_sockets_nothing_goes_up(rig: Rig) -> None:
    bind(rig, 4)
    rig.close_sockets()
    unbound = rig.frame(*PLAYERS[4], Port.CLIENT, encode_player_data(3, SESSION, b"payload"))
    assert rig.run(unbound).verdict is Verdict.RELAY_AWAY
    with_options = build(rig.packet(*PLAYERS[4], Port.CLIENT, b"x"), options=b"\x01\x01\x01\x00")
    assert rig.run(with_options).verdict is Verdict.RELAY_AWAY
    assert rig.run(to_host(rig, 4, b"payload")).verdict is Verdict.FORWARDED
    assert rig.run(rig.frame(*PLAYERS[4], Port.CLIENT, encode_ping(2, SESSION))).verdict is Verdict.ANSWERED


def test_unknown_tokens_go_up_at_a_bounded_rate() -> None:
    with Rig(fast_path={"unknown_per_source_per_second": 5, "unknown_per_second": 12}) as rig:
        rig.authorize(("s", SESSION, (1, 2)))
        ups = {}
        for last in range(1, 6):
            frame = rig.frame(f"10.77.1.{last}", 9, Port.CLIENT, encode_ping(9, SESSION))
            runs = [rig.run(frame) for _ in range(20)]
            ups[last] = sum(run.exit == XDP_PASS for run in runs)
            assert all(run.verdict is Verdict.UNKNOWN_PAIR for run in runs if run.exit == XDP_DROP)
        # The bucket may have filled by one or two while this was going on.
        assert 5 <= ups[1] <= 7
        assert 12 <= sum(ups.values()) <= 20


def test_an_ended_session_is_told_from_an_unknown_one() -> None:
    with Rig(fast_path={"unknown_per_source_per_second": 0}) as rig:
        rig.authorize(("s", SESSION, (1, 2)))
        rig.authorize()
        frame = rig.frame(*PLAYERS[4], Port.CLIENT, encode_ping(2, SESSION))
        assert rig.run(frame).verdict is Verdict.SESSION_ENDED
        rig.authorize(("s2", SESSION, (1,)))
        assert rig.run(frame).verdict is Verdict.UNKNOWN_PAIR


def test_more_users_than_fit_are_served_by_the_sockets() -> None:
    with Rig(bound=1, authorized=3) as rig:
        rig.authorize(("s", SESSION, (1, 2, 3)))
        for _ in range(3):
            rig.handle(rig.frame(*HOSTS[4], Port.SERVER, encode_ping(1, SESSION)))
        frame = rig.frame(*PLAYERS[4], Port.CLIENT, encode_ping(2, SESSION))
        assert [rig.handle(frame)[0].exit for _ in range(3)] == [XDP_PASS] * 3
        rig.authorize(("s", SESSION, tuple(range(1, 20))))
        assert not rig.fast_path.mirror.pairs_complete
