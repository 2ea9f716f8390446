"""The kernel's part of choosing packets: a classic BPF program (bpf(4), Documentation/networking/filter.rst).

It lets through what arrives at the relay's two ports with a session token that ends with the right digits, and what
leaves from those ports. Which of it belongs to the session is decided later, by the peer's address.
"""

import struct
from typing import NamedTuple

from relayd.core.wire import SESSION_OFFSET

_LD_W_ABS, _LD_H_ABS, _LD_B_ABS = 0x20, 0x28, 0x30
_LD_H_IND, _LD_B_IND = 0x48, 0x50
_LDX_IMM, _LDX_MSH, _LDX_MEM = 0x01, 0xB1, 0x61
_ST, _STX = 0x02, 0x03
_OR_X, _LSH, _MOD = 0x4C, 0x64, 0x94
_JA, _JEQ, _JSET = 0x05, 0x15, 0x45
_RET = 0x06

_ANCILLARY = 0xFFFF_F000
"""SKF_AD_OFF of <linux/filter.h>, as the unsigned number it is passed as."""
_PROTOCOL, _PACKET_TYPE = _ANCILLARY + 0, _ANCILLARY + 4
_IPV4, _IPV6, _UDP, _OUTGOING = 0x0800, 0x86DD, 17, 4
_FRAGMENT_OFFSET = 0x1FFF
_IPV6_HEADER_BYTES, _UDP_HEADER_BYTES = 40, 8
_TOKEN, _UDP_AT = 0, 1
"""Memory cells of the program."""


class _Step(NamedTuple):
    code: int
    k: int = 0
    yes: str = ""
    """Label to go to; empty for the next step."""
    no: str = ""
    label: str = ""


def packet_filter(server_port: int, client_port: int, token_ends_with: int, digits: int, most_bytes: int) -> bytes:
    """The program's instructions, each a `struct sock_filter`.

    Args:
        server_port: of the relay.
        client_port: of the relay.
        token_ends_with: the last decimal digits of the session's token.
        digits: how many those are.
        most_bytes: what is kept of a packet.
    """
    steps = [
        _Step(_LD_W_ABS, _PROTOCOL),
        _Step(_JEQ, _IPV4, yes="ipv4"),
        _Step(_JEQ, _IPV6, no="drop"),
        _Step(_LD_B_ABS, 6),
        _Step(_JEQ, _UDP, no="drop"),
        _Step(_LDX_IMM, _IPV6_HEADER_BYTES),
        _Step(_JA, yes="udp"),
        _Step(_LD_B_ABS, 9, label="ipv4"),
        _Step(_JEQ, _UDP, no="drop"),
        _Step(_LD_H_ABS, 6),
        _Step(_JSET, _FRAGMENT_OFFSET, yes="drop"),
        _Step(_LDX_MSH, 0),
        _Step(_LD_W_ABS, _PACKET_TYPE, label="udp"),
        _Step(_JEQ, _OUTGOING, yes="leaves"),
        _Step(_LD_H_IND, 2),
        _Step(_JEQ, server_port, yes="token"),
        _Step(_JEQ, client_port, no="drop"),
        *_load_token(),
        _Step(_MOD, 10**digits),
        _Step(_JEQ, token_ends_with, yes="take", no="drop"),
        _Step(_LD_H_IND, 0, label="leaves"),
        _Step(_JEQ, server_port, yes="take"),
        _Step(_JEQ, client_port, no="drop"),
        _Step(_RET, most_bytes, label="take"),
        _Step(_RET, 0, label="drop"),
    ]
    return b"".join(_assembled(steps))


def _load_token() -> list[_Step]:
    """Loads a little-endian number, byte by byte, for the machine itself is big-endian. X stays the UDP header's."""
    first = _UDP_HEADER_BYTES + SESSION_OFFSET
    steps = [_Step(_STX, _UDP_AT, label="token"), _Step(_LD_B_IND, first), _Step(_ST, _TOKEN)]
    for number in (1, 2, 3):
        steps += [
            _Step(_LDX_MEM, _UDP_AT),
            _Step(_LD_B_IND, first + number),
            _Step(_LSH, 8 * number),
            _Step(_LDX_MEM, _TOKEN),
            _Step(_OR_X),
            _Step(_ST, _TOKEN),
        ]
    return steps


def _assembled(steps: list[_Step]) -> list[bytes]:
    at = {step.label: number for number, step in enumerate(steps) if step.label}
    program = []
    for number, step in enumerate(steps):
        yes, no = (at[label] - number - 1 if label else 0 for label in (step.yes, step.no))
        if step.code == _JA:
            program.append(struct.pack("=HBBI", step.code, 0, 0, yes))
        else:
            program.append(struct.pack("=HBBI", step.code, yes, no, step.k))
    return program
