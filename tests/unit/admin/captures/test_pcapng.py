"""The file format, byte for byte; that Wireshark reads it is in tests/integration/test_capture.py."""

import io
import struct

from relayd.admin.captures.pcapng import Writer


def blocks(data: bytes) -> list[tuple[int, bytes]]:
    found = []
    while data:
        kind, length = struct.unpack_from("<II", data)
        assert length % 4 == 0
        assert struct.unpack_from("<I", data, length - 4) == (length,)
        found.append((kind, data[8 : length - 4]))
        data = data[length:]
    return found


def written(most_bytes: int = 10_000, packets: int = 1) -> tuple[bytes, list[bool]]:
    file = io.BytesIO()
    writer = Writer(file, "relayd", "any", most_bytes)
    taken = [writer.add(b"12345", 50, (7 << 32) + 9, number % 2 == 0) for number in range(packets)]
    writer.finish(1, 4, 2)
    assert writer.size_bytes == len(file.getvalue())
    return file.getvalue(), taken


def test_the_blocks_of_a_file() -> None:
    section, interface, packet, statistics = blocks(written()[0])
    assert section == (0x0A0D0D0A, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + b"\x04\0\x06\0relayd\0\0" + bytes(4))
    assert interface == (
        1,
        struct.pack("<HHI", 101, 0, 0) + b"\x02\0\x03\0any\0" + b"\x09\0\x01\0\x09\0\0\0" + bytes(4),
    )
    flags = b"\x02\0\x04\0" + b"\x01\0\0\0" + bytes(4)
    assert packet == (6, struct.pack("<IIIII", 0, 7, 9, 5, 50) + b"12345\0\0\0" + flags)
    assert statistics[0] == 5
    assert struct.pack("<HHQ", 4, 8, 4) in statistics[1]
    assert struct.pack("<HHQ", 5, 8, 2) in statistics[1]


def test_no_file_is_larger_than_it_may_be() -> None:
    whole, taken = written(packets=20)
    assert all(taken)
    for most_bytes in range(200, len(whole) + 1):
        cut, taken = written(most_bytes, packets=20)
        assert len(cut) <= most_bytes
        assert blocks(cut)[-1][0] == 5
        assert taken == sorted(taken, reverse=True)
    assert all(taken)
