"""coturn: each player socket is a TURN client with one channel to its host; one hop, as the host is the peer itself."""

import shutil
import socket
import struct
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from bench.load.content import Way, heads, no_heads
from bench.load.generator import Generator
from bench.load.run import Ends, Ways
from bench.load.shape import Shape
from bench.network import Network
from bench.peers.direct import addresses_of
from bench.peers.proxied import listens
from bench.peers.subject import Running
from bench.peers.turn import CHANNEL, CHANNEL_HEAD_BYTES, allocate, bind_channel
from bench.ports import free_port
from bench.processes import on_core, wait_for

_PROGRAM = "/usr/bin/turnserver"
_PATIENCE_SECONDS = 10.0

# As little as it can be told to do besides relaying: no passwords, no TLS, no TCP, no logs, one relay thread.
CONFIGURATION = """\
listening-ip={address}
listening-port={port}
relay-ip={address}
relay-threads=1
no-auth
no-tls
no-dtls
no-tcp
no-tcp-relay
no-cli
allow-loopback-peers
cli-password=unused
no-stdout-log
log-file={folder}/turn.log
simple-log
pidfile={folder}/turn.pid
userdb={folder}/turn.sqlite3
"""


def missing() -> str | None:
    """What would have to be installed."""
    return None if shutil.which(_PROGRAM) else "needs turnserver (Debian: coturn)"


class TurnDoor(NamedTuple):
    """Every player socket gets a relayed address and binds one channel, to its host."""

    server: tuple[str, int]

    def join(self, ends: Ends, shape: Shape) -> Ways:
        """Brings all in."""
        relayed: list[tuple[str, int]] = []
        for number, client in enumerate(ends.clients):
            client.settimeout(_PATIENCE_SECONDS)
            relayed.append(allocate(client, self.server))
            bind_channel(client, self.server, CHANNEL, ends.hosts[number % len(ends.hosts)].getsockname())
        # The length, which comes behind, differs from datagram to datagram.
        channel = heads([struct.pack(">HH", CHANNEL, 0)] * shape.flows)
        none = no_heads(shape.flows)
        return Ways(
            Way(
                channel,
                CHANNEL_HEAD_BYTES,
                addresses_of([self.server], shape.flows),
                none,
                0,
                length_in_head=True,
            ),
            Way(
                none,
                0,
                addresses_of(relayed, shape.flows),
                channel,
                CHANNEL_HEAD_BYTES,
                length_in_arriving_head=True,
            ),
        )


@contextmanager
def start(_generator: Generator, network: Network, folder: Path, core: int) -> Iterator[Running]:
    """Starts it."""
    port = free_port(socket.SOCK_DGRAM)
    config = folder / "turnserver.conf"
    config.write_text(CONFIGURATION.format(address=network.relay_address, port=port, folder=folder), encoding="utf-8")
    with on_core(core), (folder / "turn.out").open("wb") as out:
        process = subprocess.Popen([_PROGRAM, "-c", str(config)], stdout=out, stderr=out)
    try:
        wait_for(lambda: listens(port), "coturn listens")
        yield Running(TurnDoor((network.relay_address, port)), [process.pid])
    finally:
        process.terminate()
        process.wait()
