"""Where a relay and the load generator meet: on the loopback interface, or at the two ends of a cable (veth)."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple

from bench.load.shape import Place
from relayd.forwarding.kernel.attach import attach
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from tests.integration.namespaces import Namespace, connect

_RELAY, _PEERS = "10.78.0.1", "10.78.0.2"
_DIRECT_CLIENTS, _DIRECT_HOSTS = "10.78.1.1", "10.78.1.2"


class Network(NamedTuple):
    """What a subject has to know of it."""

    name: str
    relay_address: str
    interface: str
    """By which the relay is reached."""
    place: Place
    """Of the generator, with a relay."""
    direct_place: Place
    """Of the generator, without: one interface to pass instead of two."""


@contextmanager
def open_network(name: str) -> Iterator[Network]:
    """``lo``, of the namespace the benchmark is in, or ``veth``."""
    if name == "lo":
        yield Network("lo", "127.0.0.1", "lo", Place(), Place())
        return
    with ExitStack() as stack:
        peers, hosts = stack.enter_context(Namespace()), stack.enter_context(Namespace())
        # Names are the interface's own in each namespace; the relay's is where this process is.
        subprocess.run(
            ["ip", "link", "add", "relay", "type", "veth", "peer", "name", "relay", "netns", str(peers.id)], check=True
        )
        stack.callback(subprocess.run, ["ip", "link", "delete", "relay"], check=True)
        subprocess.run(["ip", "address", "add", f"{_RELAY}/24", "dev", "relay"], check=True)
        subprocess.run(["ip", "link", "set", "relay", "up"], check=True)
        peers.ip("address", "add", f"{_PEERS}/24", "dev", "relay")
        peers.ip("link", "set", "relay", "up")
        connect(peers, _DIRECT_CLIENTS, hosts, _DIRECT_HOSTS)
        # What XDP sends back by a veth only arrives where the other end runs XDP too: here a program that passes all.
        # All ends with peers have it, so that they cost the same whatever they are sent by.
        passing = KernelProgram.load(Sizes(1, 1))
        stack.callback(passing.close)
        for space, interface in ((peers, "relay"), (peers, "cable"), (hosts, "cable")):
            stack.callback(os.close, space.run(attach, passing.fd, interface).fd)
        yield Network(
            "veth",
            _RELAY,
            "relay",
            Place(_path(peers), _PEERS, _path(peers), _PEERS),
            Place(_path(peers), _DIRECT_CLIENTS, _path(hosts), _DIRECT_HOSTS),
        )


def _path(space: Namespace) -> str:
    return f"/proc/{os.getpid()}/task/{space.id}/ns/net"
