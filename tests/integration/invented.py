"""Datagrams with invented source addresses."""

import socket
import struct

import pytest

from tests.integration.peers import Address


def _may_invent_sources() -> bool:
    try:
        socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW).close()
    except PermissionError:
        return False
    return True


needs_invented_sources = pytest.mark.skipif(
    not _may_invent_sources(), reason="needs the right to send with invented addresses (CAP_NET_RAW)"
)


def send_from(source: Address, destination: Address, payload: bytes) -> None:
    """As if it came from there: with an IP header of its own, which raw(7) completes."""
    addresses = socket.inet_aton(source[0]) + socket.inet_aton(destination[0])
    ip = struct.pack(">BBHHHBBH", 0x45, 0, 28 + len(payload), 0, 0, 64, socket.IPPROTO_UDP, 0) + addresses
    udp = struct.pack(">HHHH", source[1], destination[1], 8 + len(payload), 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as sock:
        sock.sendto(ip + udp + payload, (destination[0], 0))
