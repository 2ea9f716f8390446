"""The process of the load generator: ``python -m bench.load.worker FD``, with a pipe to who started it."""

import os
import sys
import traceback
from collections.abc import Sequence
from ctypes import CDLL, get_errno
from multiprocessing.connection import Connection

from bench.load.content import Kinds
from bench.load.messages import open_socket
from bench.load.run import Ends, Load, Outcome, Ways, run_load
from bench.load.shape import Door, Place, Shape

_CLONE_NEWNET = 0x4000_0000
_PR_SET_TIMERSLACK = 29


class Worker:
    """Has the sockets, and does what it is asked to."""

    def __init__(self, shape: Shape, place: Place) -> None:
        self._shape = shape
        self._kinds = Kinds(shape.payload_bytes)
        _enter(place.clients_network)
        clients = [open_socket(place.clients_address) for _ in range(shape.client_sockets)]
        _enter(place.hosts_network)
        hosts = [open_socket(place.hosts_address) for _ in range(shape.host_sockets)]
        self._ends = Ends(clients, hosts, shape.flows, shape.block)
        self._ways: list[Ways] = []

    def host_addresses(self) -> list[tuple[str, int]]:
        """Of the hosts' sockets."""
        return [sock.getsockname() for sock in self._ends.hosts]

    def join(self, door: Door) -> int:
        """Brings all in; returns what stands for the way."""
        self._ways.append(door.join(self._ends, self._shape))
        for sock in (*self._ends.clients, *self._ends.hosts):
            sock.setblocking(True)
        return len(self._ways) - 1

    def run(self, load: Load, way: int, relay_pids: Sequence[int]) -> Outcome:
        """Runs a load to its end."""
        return run_load(load, self._ends, self._ways[way], self._kinds, relay_pids)


def main(pipe: Connection) -> None:
    """Serves the process that started this one, until it closes the pipe."""
    try:
        shape, core, place = pipe.recv()
        os.sched_setaffinity(0, {core})
        # prctl(2): how late a sleeper may be woken; 50 µs is the default, a tenth of the time between two bursts.
        CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
        worker = Worker(shape, place)
        pipe.send((False, worker.host_addresses()))
        while True:
            name, arguments = pipe.recv()
            pipe.send((False, getattr(worker, name)(*arguments)))
    except EOFError:
        return
    except Exception:  # noqa: BLE001 - told to who asked
        pipe.send((True, traceback.format_exc()))


def _enter(network: str | None) -> None:
    if network is None:
        return
    fd = os.open(network, os.O_RDONLY)
    try:
        if CDLL(None, use_errno=True).setns(fd, _CLONE_NEWNET) != 0:
            raise OSError(get_errno(), f"cannot enter the network {network}")
    finally:
        os.close(fd)


if __name__ == "__main__":
    main(Connection(int(sys.argv[1])))
