"""Captured packets are taken apart, whatever they hold."""

import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.admin.captures.packets import Packet, Peer, read_packet
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data, to_host_header

PORTS = {32000: Port.SERVER, 32001: Port.CLIENT}
PAYLOAD = b"payload" * 10


def ip_packet(payload: bytes, source: tuple[str, int], destination: tuple[str, int], options: bytes = b"") -> bytes:
    ports = source[1].to_bytes(2, "big") + destination[1].to_bytes(2, "big")
    udp = ports + (8 + len(payload)).to_bytes(2, "big") + b"\0\0" + payload
    if ":" in source[0]:
        addresses = b"".join(socket.inet_pton(socket.AF_INET6, ip) for ip in (source[0], destination[0]))
        return b"\x60\0\0\0" + len(udp).to_bytes(2, "big") + b"\x11\x40" + addresses + udp
    addresses = b"".join(socket.inet_aton(ip) for ip in (source[0], destination[0]))
    header_words = 5 + len(options) // 4
    length = (header_words * 4 + len(udp)).to_bytes(2, "big")
    return bytes((0x40 + header_words, 0)) + length + b"\0\0\0\0\x40\x11\0\0" + addresses + options + udp


def read(data: bytes, inbound: bool) -> Packet:
    packet = read_packet(data, 1, inbound, PORTS)
    assert packet is not None
    return packet


@pytest.mark.parametrize(
    ("port", "inbound", "payload", "header_bytes"),
    [
        (32001, True, encode_ping(1, 2), 9),
        (32001, True, encode_player_data(1, 2, PAYLOAD), 9),
        (32000, True, encode_host_data(1, 2, 3, PAYLOAD), 13),
        (32000, True, encode_ping(1, 2), 9),
        (32000, False, to_host_header(3) + PAYLOAD, 5),
        (32001, False, b"\x02" + PAYLOAD, 1),
        (32001, False, b"\x01\x02", 2),
        (32000, False, b"\x01\x05", 2),
    ],
)
@pytest.mark.parametrize(
    ("relay", "peer", "ip_bytes"), [("192.0.2.1", "198.51.100.4", 20), ("2001:db8::1", "2001:db8::2", 40)]
)
def test_headers_and_peers(
    port: int, inbound: bool, payload: bytes, header_bytes: int, relay: str, peer: str, ip_bytes: int
) -> None:
    ends = ((peer, 5000), (relay, port)) if inbound else ((relay, port), (peer, 5000))
    data = ip_packet(payload, *ends)
    packet = read(data + b"ethernet padding", inbound)
    assert packet.peer == Peer(PORTS[port], peer, 5000)
    assert packet.data == data
    assert packet.original_bytes == len(data)
    assert packet.header_bytes == ip_bytes + 8 + header_bytes


def test_ip_options_are_header_too() -> None:
    data = ip_packet(encode_ping(1, 2), ("198.51.100.4", 5000), ("192.0.2.1", 32001), b"\x94\x04\0\0")
    assert read(data, True).header_bytes == len(data)


def test_a_packet_that_the_kernel_cut_keeps_its_length() -> None:
    data = ip_packet(encode_player_data(1, 2, bytes(1000)), ("198.51.100.4", 5000), ("192.0.2.1", 32001))
    packet = read(data[:128], True)
    assert (len(packet.data), packet.original_bytes, packet.header_bytes) == (128, len(data), 37)


def test_other_ports_are_not_the_relays() -> None:
    data = ip_packet(b"x", ("198.51.100.4", 32001), ("192.0.2.1", 53))
    assert read_packet(data, 1, True, PORTS) is None
    assert read(data, False).peer == Peer(Port.CLIENT, "192.0.2.1", 53)


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_do_no_harm(data: bytes, inbound: bool) -> None:
    packet = read_packet(data, 1, inbound, PORTS)
    assert packet is None or len(packet.data[: packet.header_bytes]) <= len(data)
