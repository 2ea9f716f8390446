"""The benchmarks' sender sends what it was given, all of it, and nothing else."""

import socket
from io import BytesIO

from bench.sender import BatchSender
from tests.integration.waiting import PATIENCE_SECONDS


def test_every_datagram_of_a_batch_arrives_as_it_was_given() -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as there,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as here,
    ):
        there.bind(("127.0.0.1", 0))
        there.settimeout(PATIENCE_SECONDS)
        here.connect(there.getsockname())
        sizes_bytes = (11, 0, 40, 1, 25)
        sender = BatchSender(here, sizes_bytes)
        content = bytes(number % 251 for number in range(77))
        sender.fill(content)
        assert sender.send() == 5
        stream = BytesIO(content)
        assert [there.recv(100) for _ in sizes_bytes] == [stream.read(size) for size in sizes_bytes]
