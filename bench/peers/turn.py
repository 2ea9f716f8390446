"""As much of a TURN client as it takes to be relayed: allocate, bind a channel (RFC 8656, over UDP, no password)."""

import os
import socket
import struct

CHANNEL = 0x4000
"""RFC 8656, 12: the first channel number."""
CHANNEL_HEAD_BYTES = 4

_COOKIE = 0x2112A442
_HEADER = struct.Struct(">HHI12s")
_ALLOCATE, _CHANNEL_BIND = 0x0003, 0x0009
_SUCCESS = 0x0100
_XOR_PEER_ADDRESS, _XOR_RELAYED_ADDRESS, _CHANNEL_NUMBER, _REQUESTED_TRANSPORT = 0x0012, 0x0016, 0x000C, 0x0019
_ERROR_CODE = 0x0009
_UDP = 17
_IPV4 = 1


class TurnError(Exception):
    """The server refused."""


def allocate(sock: socket.socket, server: tuple[str, int]) -> tuple[str, int]:
    """Asks for a relayed address for this socket, and returns it.

    Raises:
        TurnError: there is none.
        TimeoutError: the server does not answer.
    """
    attribute = _attribute(_REQUESTED_TRANSPORT, bytes((_UDP, 0, 0, 0)))
    return _address(_request(sock, server, _ALLOCATE, attribute)[_XOR_RELAYED_ADDRESS])


def bind_channel(sock: socket.socket, server: tuple[str, int], channel: int, peer: tuple[str, int]) -> None:
    """Gives a peer a channel number, which gives it the permission to send too.

    Raises:
        TurnError: the server refuses.
        TimeoutError: the server does not answer.
    """
    number = _attribute(_CHANNEL_NUMBER, struct.pack(">HH", channel, 0))
    _request(sock, server, _CHANNEL_BIND, number + _attribute(_XOR_PEER_ADDRESS, _packed(peer)))


def _request(sock: socket.socket, server: tuple[str, int], method: int, attributes: bytes) -> dict[int, bytes]:
    transaction = os.urandom(12)
    sock.sendto(_HEADER.pack(method, len(attributes), _COOKIE, transaction) + attributes, server)
    while True:
        answer = sock.recv(2048)
        kind, length, _, answered = _HEADER.unpack_from(answer)
        if answered == transaction:
            break
    found = _attributes(answer[_HEADER.size : _HEADER.size + length])
    if kind != method | _SUCCESS:
        reason = found.get(_ERROR_CODE, b"")[4:].decode(errors="replace")
        raise TurnError(f"TURN request {method:#06x} was refused: {reason or hex(kind)}")
    return found


def _attribute(kind: int, value: bytes) -> bytes:
    return struct.pack(">HH", kind, len(value)) + value + bytes(-len(value) % 4)


def _attributes(body: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    at = 0
    while at + 4 <= len(body):
        kind, length = struct.unpack_from(">HH", body, at)
        found[kind] = body[at + 4 : at + 4 + length]
        at += 4 + length + -length % 4
    return found


def _packed(address: tuple[str, int]) -> bytes:
    host, port = address
    number = int.from_bytes(socket.inet_aton(host), "big")
    return struct.pack(">BBHI", 0, _IPV4, port ^ (_COOKIE >> 16), number ^ _COOKIE)


def _address(value: bytes) -> tuple[str, int]:
    _, _, port, number = struct.unpack(">BBHI", value)
    return socket.inet_ntoa((number ^ _COOKIE).to_bytes(4, "big")), port ^ (_COOKIE >> 16)
