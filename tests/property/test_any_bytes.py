"""Whatever arrives, from wherever: nothing raises, nothing is amplified, nothing unauthentic reaches a peer."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from relayd.core.endpoint import Address, Endpoint
from relayd.core.limits import Limits
from relayd.core.verdict import DROPS, Verdict
from relayd.core.wire import Port, encode_ping
from tests.support.relays import (
    ALICE,
    ALICE_AT,
    BOB,
    BOB_AT,
    CLIENT,
    HOST,
    HOST_AT,
    OTHER_CLIENT,
    SERVER,
    SESSION,
    STRANGER_AT,
    Relay,
    spec,
)

SECOND_SESSION = 0xFEEDF00D
ADDRESSES = [HOST_AT, ALICE_AT, BOB_AT, STRANGER_AT]

tokens = st.sampled_from([HOST, ALICE, BOB, SESSION, SECOND_SESSION, 0])
spliced = st.builds(
    lambda user, session, kind, connection_id, rest: (
        encode_ping(user, session)[:8] + kind + connection_id.to_bytes(4, "little") + rest
    ),
    tokens,
    tokens,
    st.sampled_from([b"\x01", b"\x02", b"\x02", b"\x02", b"\x03"]),
    st.integers(0, 4),
    st.binary(max_size=2000 - 13),
)
cut = st.builds(lambda datagram, size: datagram[:size], spliced, st.integers(0, 16))
datagrams = st.one_of(st.binary(max_size=2000), spliced, spliced, cut)
arrivals = st.tuples(
    st.sampled_from([SERVER, CLIENT, OTHER_CLIENT]),
    datagrams,
    st.sampled_from(ADDRESSES),
    st.sampled_from([0.0, 0.1, 0.5, 12.0]),
)


def two_games_that_run(pin_ip: bool = False) -> Relay:
    relay = Relay(Limits(pin_ip=pin_ip), [spec(), spec("second", SECOND_SESSION)])
    if not pin_ip:
        for session in (SESSION, SECOND_SESSION):
            relay.host_pings(session=session)
            relay.player_pings(session=session)
            relay.player_pings(BOB, BOB_AT, session=session)
    return relay


@settings(max_examples=300)
@example([(SERVER, b"", HOST_AT, 0.0), (CLIENT, bytes(2000), ALICE_AT, 0.0)])
@given(st.lists(arrivals, max_size=12))
def test_nothing_raises_and_no_answer_is_longer_and_each_is_counted_once(
    arrived: list[tuple[Endpoint, bytes, Address, float]],
) -> None:
    relay = two_games_that_run()
    for endpoint, data, source, pause in arrived:
        relay.now += pause
        datagrams_before, bytes_before = relay.counted()
        verdict_before = relay.count(endpoint.port, Verdict.FORWARDED)
        action = relay.send(endpoint, data, source)
        assert len(action.datagram) <= len(data)
        assert bool(action.datagram) == (action.endpoint is not None)
        assert relay.counted() == (datagrams_before + 1, bytes_before + len(data))
        forwarded = relay.count(endpoint.port, Verdict.FORWARDED)[0] - verdict_before[0]
        assert forwarded == (action.verdict is Verdict.FORWARDED)


@settings(max_examples=300)
@given(st.lists(arrivals, max_size=12))
def test_only_authentic_datagrams_reach_a_peer_and_only_one_of_their_own_session(
    arrived: list[tuple[Endpoint, bytes, Address, float]],
) -> None:
    relay = two_games_that_run()
    for endpoint, data, source, pause in arrived:
        relay.now += pause
        action = relay.send(endpoint, data, source)
        if action.verdict in DROPS or action.verdict is Verdict.ANSWERED:
            assert action.endpoint in (None, endpoint)
            assert action.to in ((), source)
            assert action.player is None
            assert action.datagram[:1] in (b"", b"\x01")
            continue
        session = relay.table.by_token[int.from_bytes(data[4:8], "little")]
        sender = session.users[int.from_bytes(data[:4], "little")].binding_on(endpoint.port)
        assert sender is not None
        assert (sender.address, sender.endpoint) == (source, endpoint)
        header = 9 if endpoint.port is Port.CLIENT else 13
        assert action.datagram.endswith(data[header:])
        receivers = [user.binding_on(Port(1 - endpoint.port)) for user in session.users.values()]
        assert (action.endpoint, action.to) in [(one.endpoint, one.address) for one in receivers if one is not None]


@given(st.lists(arrivals, max_size=12))
def test_from_addresses_that_may_not_bind_nothing_reaches_a_peer(
    arrived: list[tuple[Endpoint, bytes, Address, float]],
) -> None:
    relay = two_games_that_run(pin_ip=True)
    for endpoint, data, source, pause in arrived:
        relay.now += pause
        action = relay.send(endpoint, data, source)
        assert action.verdict in DROPS
        assert action.to in ((), source)
    assert relay.table.bound == [0, 0]


@settings(max_examples=300)
@given(data=datagrams, endpoint=st.sampled_from([SERVER, CLIENT]), source=st.sampled_from(ADDRESSES))
def test_without_sessions_everything_is_dropped(data: bytes, endpoint: Endpoint, source: Address) -> None:
    action = Relay(specs=()).send(endpoint, data, source)
    assert action.verdict in DROPS
    assert len(action.datagram) <= len(data)
