"""The asyncio relay as a process."""

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.load.generator import Generator
from bench.network import Network
from bench.peers.proxied import ProxyDoor, listens
from bench.peers.subject import Running
from bench.ports import free_ports
from bench.processes import on_core, wait_for

_PROGRAM = Path(__file__).with_name("asyncio_relay.py")


@contextmanager
def start(generator: Generator, network: Network, _folder: Path, core: int) -> Iterator[Running]:
    """Starts it."""
    ports = free_ports(len(generator.host_addresses), socket.SOCK_DGRAM)
    arguments: list[str] = [network.relay_address]
    for port, (host, host_port) in zip(ports, generator.host_addresses, strict=True):
        arguments += [str(port), host, str(host_port)]
    with on_core(core):
        process = subprocess.Popen([sys.executable, str(_PROGRAM), *arguments])
    try:
        wait_for(lambda: listens(ports[-1]), "the asyncio relay listens")
        yield Running(ProxyDoor([(network.relay_address, port) for port in ports]), [process.pid])
    finally:
        process.terminate()
        process.wait()
