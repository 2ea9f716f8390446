"""Ethernet frames with UDP in them, made and taken apart byte by byte, with checksums computed the slow way."""

import ipaddress
import struct
from typing import NamedTuple

PEER_MAC = bytes.fromhex("02aa00000001")
RELAY_MAC = bytes.fromhex("02bb00000002")
NO_MAC = bytes(6)


class Packet(NamedTuple):
    """A UDP datagram and the headers around it, as far as tests look at them."""

    source: str
    source_port: int
    destination: str
    destination_port: int
    payload: bytes
    mac_from: bytes = PEER_MAC
    mac_to: bytes = RELAY_MAC

    @property
    def is_ipv6(self) -> bool:
        return ":" in self.source


def ones_complement(data: bytes) -> int:
    """The sum of RFC 1071, not inverted."""
    total: int = sum(struct.unpack(f"!{(len(data) + 1) // 2}H", data + bytes(len(data) % 2)))
    while total > 0xFFFF:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def pseudo_header(packet: Packet, udp_bytes: int) -> bytes:
    addresses = ipaddress.ip_address(packet.source).packed + ipaddress.ip_address(packet.destination).packed
    return addresses + (struct.pack("!IxxxB", udp_bytes, 17) if packet.is_ipv6 else struct.pack("!xBH", 17, udp_bytes))


def udp_checksum(packet: Packet, udp: bytes) -> int:
    return (~ones_complement(pseudo_header(packet, len(udp)) + udp) & 0xFFFF) or 0xFFFF


def build(
    packet: Packet,
    checksum: str | int = "full",
    *,
    vlan: bool = False,
    priority_tags: int = 0,
    options: bytes = b"",
    extensions: tuple[tuple[int, bytes], ...] = (),
    fragment: int = 0,
    padding: bytes = b"",
    udp_bytes: int | None = None,
    broken_ip: bool = False,
    multicast: bool = False,
) -> bytes:
    """A frame.

    Args:
        packet: what is in it.
        checksum: "full"; "partial", as a local stack leaves it; "none"; or a number to stand there.
        vlan: whether it has a VLAN tag.
        priority_tags: how many tags it has that name no VLAN.
        options: IPv4 options, a multiple of 4 bytes.
        extensions: IPv6 extension headers, each its number and what follows its first byte, the number of the next.
        fragment: IPv4's field of flags and fragment offset.
        padding: what the link appended.
        udp_bytes: a length for the UDP header other than the true one.
        broken_ip: whether the IPv4 header's checksum is wrong.
        multicast: whether the frame is for many.
    """
    length = 8 + len(packet.payload)
    stated = length if udp_bytes is None else udp_bytes
    udp = struct.pack("!HHHH", packet.source_port, packet.destination_port, stated, 0) + packet.payload
    values = {
        "full": udp_checksum(packet, udp),
        "partial": ones_complement(pseudo_header(packet, length)),
        "none": 0,
    }
    value = checksum if isinstance(checksum, int) else values[checksum]
    udp = udp[:6] + struct.pack("!H", value) + udp[8:]
    source, destination = (ipaddress.ip_address(one).packed for one in (packet.source, packet.destination))
    if packet.is_ipv6:
        following = (*(number for number, _ in extensions), 17)
        behind = b"".join(bytes([after]) + rest for after, (_, rest) in zip(following[1:], extensions, strict=True))
        network = struct.pack("!IHBB", 6 << 28, len(behind) + length, following[0], 63) + source + destination + behind
        kind = 0x86DD
    else:
        words = (20 + len(options)) // 4
        network = struct.pack("!BBHHHBBH", 0x40 | words, 0, 4 * words + length, 7, fragment, 63, 17, 0)
        network += source + destination + options
        value = ~ones_complement(network) & 0xFFFF ^ (1 if broken_ip else 0)
        network = network[:10] + struct.pack("!H", value) + network[12:]
        kind = 0x0800
    to = bytes([packet.mac_to[0] | 1]) + packet.mac_to[1:] if multicast else packet.mac_to
    tag = struct.pack("!HH", 0x8100, 5) if vlan else b""
    tag = struct.pack("!HH", 0x8100, 6 << 13) * priority_tags + tag
    return to + packet.mac_from + tag + struct.pack("!H", kind) + network + udp + padding


class Parsed(NamedTuple):
    """A frame taken apart; `checksum_right` counts "none" on IPv4 as right."""

    packet: Packet
    ttl: int
    tos: int
    checksum: int
    checksum_right: bool


def parse(frame: bytes) -> Parsed:
    """Takes a frame apart; everything but the UDP checksum has to be right."""
    mac_to, mac_from, (kind,) = frame[:6], frame[6:12], struct.unpack_from("!H", frame, 12)
    if kind == 0x0800:
        head = frame[14:34]
        first, tos, total, _, fragment, ttl, protocol, _ = struct.unpack_from("!BBHHHBBH", head)
        assert first == 0x45
        assert ones_complement(head) == 0xFFFF
        assert fragment == 0
        source, destination, udp = head[12:16], head[16:20], frame[34 : 14 + total]
        assert len(frame) == 14 + total, "nothing behind the packet"
    else:
        assert kind == 0x86DD
        word, length, protocol, ttl = struct.unpack_from("!IHBB", frame, 14)
        assert word >> 28 == 6
        tos = word >> 20 & 0xFF
        source, destination, udp = frame[22:38], frame[38:54], frame[54 : 54 + length]
        assert len(frame) == 54 + length, "nothing behind the packet"
    assert protocol == 17
    source_port, destination_port, length, checksum = struct.unpack_from("!HHHH", udp)
    assert length == len(udp)
    packet = Packet(
        str(ipaddress.ip_address(source)),
        source_port,
        str(ipaddress.ip_address(destination)),
        destination_port,
        udp[8:],
        mac_from,
        mac_to,
    )
    right = ones_complement(pseudo_header(packet, len(udp)) + udp) == 0xFFFF
    return Parsed(packet, ttl, tos, checksum, right or (checksum == 0 and kind == 0x0800))
