import pytest

from relayd.core.wire import (
    HEADER_BYTES,
    HOST_DATA_HEADER_BYTES,
    MAX_DATAGRAM_BYTES,
    MAX_PAYLOAD_BYTES,
    STATE_DATAGRAM,
    TO_PLAYER_HEADER,
    Port,
    State,
    connection_id,
    decode_state,
    decode_to_host,
    decode_to_player,
    encode_host_data,
    encode_ping,
    encode_player_data,
    opens_connection,
    to_host_header,
    unpack_header,
)


def test_player_ping_as_the_real_client_sends_it() -> None:
    assert encode_ping(1001, 0xCAFEBABE) == bytes.fromhex("e9030000 bebafeca 01")


def test_player_data_as_the_real_client_sends_it() -> None:
    payload = bytes.fromhex("0100000000 51000010")
    assert encode_player_data(1001, 0xCAFEBABE, payload) == bytes.fromhex("e9030000 bebafeca 02") + payload


def test_data_to_the_host_as_it_was_seen() -> None:
    assert to_host_header(0x6015B725) == bytes.fromhex("02 25b71560")


def test_host_data_has_the_connection_id_before_the_payload() -> None:
    assert encode_host_data(2, 1, 0x01020304, b"pay") == bytes.fromhex("02000000 01000000 02 04030201") + b"pay"


def test_header_sizes_and_the_longest_payload() -> None:
    assert len(encode_ping(1, 1)) == len(encode_player_data(1, 1, b"")) == HEADER_BYTES == 9
    assert len(encode_host_data(1, 1, 1, b"")) == HOST_DATA_HEADER_BYTES == 13
    assert (MAX_DATAGRAM_BYTES, MAX_PAYLOAD_BYTES) == (1200, 1187)


def test_both_legs_shrink_and_keep_the_parity_of_the_payload() -> None:
    for arriving, leaving in ((HEADER_BYTES, len(to_host_header(1))), (HOST_DATA_HEADER_BYTES, len(TO_PLAYER_HEADER))):
        assert leaving < arriving
        assert (arriving - leaving) % 2 == 0


@pytest.mark.parametrize(
    ("state", "number"),
    [
        (State.DISCONNECTED, 0),
        (State.CHECKING, 1),
        (State.VALID, 2),
        (State.INVALID, 3),
        (State.SESSION_TIMEOUT, 4),
        (State.ERROR, 5),
    ],
)
def test_every_state_has_its_number_on_the_wire(state: State, number: int) -> None:
    assert STATE_DATAGRAM[state] == bytes((1, number))
    assert decode_state(STATE_DATAGRAM[state]) is state


@pytest.mark.parametrize("datagram", [b"", b"\x01", b"\x01\x06", b"\x02\x02", b"\x01\x02\x00"])
def test_what_is_no_state_decodes_to_none(datagram: bytes) -> None:
    assert decode_state(datagram) is None


@pytest.mark.parametrize("datagram", [b"", b"\x02", b"\x02\1\0\0\0", b"\x01\1\0\0\0x"])
def test_what_is_no_data_to_a_host_decodes_to_none(datagram: bytes) -> None:
    assert decode_to_host(datagram) is None


@pytest.mark.parametrize("datagram", [b"", b"\x02", b"\x01x"])
def test_what_is_no_data_to_a_player_decodes_to_none(datagram: bytes) -> None:
    assert decode_to_player(datagram) is None


def test_connection_id_is_signed() -> None:
    assert connection_id(bytes(9) + b"\xff\xff\xff\xff") == -1


@pytest.mark.parametrize(
    ("payload", "opens"),
    [
        (b"\x01\0\0\0\0", True),
        (b"\x02\0\0\0\0more", True),
        (b"\x01\0\0\0\1", False),
        (b"\x01\1\0\0\0", False),
        (b"\x01\0\0\0", False),
        (b"\0", False),
    ],
)
def test_a_zero_cookie_after_the_channel_byte_opens_a_connection(payload: bytes, opens: bool) -> None:
    assert opens_connection(encode_player_data(0, 0, payload)) is opens


def test_unpack_header_reads_tokens_and_type() -> None:
    assert unpack_header(bytes.fromhex("e9030000 bebafeca 02 ffff")) == (1001, 0xCAFEBABE, 2)


def test_labels_of_ports() -> None:
    assert [port.label for port in Port] == ["server", "client"]
