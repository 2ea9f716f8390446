"""A captured IP packet, taken apart as far as it takes to know whose it is and what of it is payload."""

import socket
from typing import NamedTuple

from relayd.core.wire import (
    DATA,
    HEADER_BYTES,
    HOST_DATA_HEADER_BYTES,
    PING,
    STATE_BYTES,
    TO_HOST_HEADER_BYTES,
    TO_PLAYER_HEADER_BYTES,
    TYPE_OFFSET,
    Port,
)

_UDP_HEADER_BYTES = 8


class Peer(NamedTuple):
    """Who is at the other end, and which of the relay's ports they use."""

    port: Port
    ip_address: str
    udp_port: int


class Packet(NamedTuple):
    """A UDP packet to or from the relay."""

    time_ns: int
    inbound: bool
    peer: Peer
    data: bytes
    """From its IP header on; perhaps not to its end."""
    original_bytes: int
    header_bytes: int
    """IP, UDP and relay header: what comes before the payload."""


def read_packet(data: bytes, time_ns: int, inbound: bool, ports: dict[int, Port]) -> Packet | None:
    """Takes a packet apart; None where it is none to or from one of these UDP ports.

    Args:
        data: from its IP header on, cut or whole.
        time_ns: when, since 1970.
        inbound: whether it arrived.
        ports: UDP port number → port of the relay.
    """
    if not data:
        return None
    if data[0] >> 4 == 4 and len(data) >= 20:
        udp = (data[0] & 0xF) * 4
        original_bytes = int.from_bytes(data[2:4], "big")
        family, addresses = socket.AF_INET, data[12:20]
    elif data[0] >> 4 == 6 and len(data) >= 40:
        udp = 40
        original_bytes = 40 + int.from_bytes(data[4:6], "big")
        family, addresses = socket.AF_INET6, data[8:40]
    else:
        return None
    if len(data) < udp + _UDP_HEADER_BYTES:
        return None
    half = len(addresses) // 2
    theirs = addresses[:half] if inbound else addresses[half:]
    source, destination = (int.from_bytes(data[at : at + 2], "big") for at in (udp, udp + 2))
    port = ports.get(destination if inbound else source)
    if port is None:
        return None
    peer = Peer(port, socket.inet_ntop(family, theirs), source if inbound else destination)
    start = udp + _UDP_HEADER_BYTES
    header_bytes = start + _relay_header_bytes(data[start:], inbound, port)
    return Packet(time_ns, inbound, peer, data[:original_bytes], original_bytes, min(header_bytes, original_bytes))


def _relay_header_bytes(datagram: bytes, inbound: bool, port: Port) -> int:
    if inbound:
        is_data = datagram[TYPE_OFFSET : TYPE_OFFSET + 1] == bytes((DATA,))
        return HOST_DATA_HEADER_BYTES if is_data and port is Port.SERVER else HEADER_BYTES
    if datagram[:1] == bytes((PING,)):
        return STATE_BYTES
    return TO_HOST_HEADER_BYTES if port is Port.SERVER else TO_PLAYER_HEADER_BYTES
