from hypothesis import given
from hypothesis import strategies as st

from relayd.core.wire import (
    DATA,
    HEADER_BYTES,
    HOST_DATA_HEADER_BYTES,
    PING,
    TO_PLAYER_HEADER,
    connection_id,
    decode_state,
    decode_to_host,
    decode_to_player,
    encode_host_data,
    encode_ping,
    encode_player_data,
    to_host_header,
    unpack_header,
)

tokens = st.integers(0, 2**32 - 1)
connection_ids = st.integers(-(2**31), 2**31 - 1)
payloads = st.binary(min_size=1, max_size=1187)


@given(tokens, tokens)
def test_ping(user: int, session: int) -> None:
    datagram = encode_ping(user, session)
    assert unpack_header(datagram) == (user, session, PING)
    assert len(datagram) == HEADER_BYTES


@given(tokens, tokens, payloads)
def test_player_data(user: int, session: int, payload: bytes) -> None:
    datagram = encode_player_data(user, session, payload)
    assert unpack_header(datagram) == (user, session, DATA)
    assert datagram[HEADER_BYTES:] == payload


@given(tokens, tokens, connection_ids, payloads)
def test_host_data(user: int, session: int, number: int, payload: bytes) -> None:
    datagram = encode_host_data(user, session, number, payload)
    assert unpack_header(datagram) == (user, session, DATA)
    assert connection_id(datagram) == number
    assert datagram[HOST_DATA_HEADER_BYTES:] == payload


@given(connection_ids, payloads)
def test_data_to_a_host(number: int, payload: bytes) -> None:
    assert decode_to_host(to_host_header(number) + payload) == (number, payload)


@given(payloads)
def test_data_to_a_player(payload: bytes) -> None:
    assert decode_to_player(TO_PLAYER_HEADER + payload) == payload


@given(st.binary(max_size=8))
def test_a_datagram_of_the_relay_is_at_most_one_thing(datagram: bytes) -> None:
    if decode_state(datagram) is not None:
        assert decode_to_player(datagram) is None
        assert decode_to_host(datagram) is None
