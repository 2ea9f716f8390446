"""The load generator as a process of its own, on a core of its own, in the network where its sockets are to be."""

import multiprocessing
import os
import traceback
from collections.abc import Sequence
from ctypes import CDLL, get_errno
from multiprocessing.connection import Connection
from types import TracebackType
from typing import Any, NamedTuple, Protocol, Self

from bench.load.content import Kinds
from bench.load.messages import open_socket
from bench.load.run import Ends, Load, Outcome, Ways, run_load

_CLONE_NEWNET = 0x4000_0000
_PR_SET_TIMERSLACK = 29


class Shape(NamedTuple):
    """Who takes part. Player and host sockets are shared where there are more players or sessions than sockets."""

    sessions: int
    players: int
    """In each session."""
    payload_bytes: tuple[int, ...]
    """Lengths that take turns."""
    client_sockets: int
    host_sockets: int
    block: int = 4
    """Datagrams that a socket sends in a row."""

    @property
    def flows(self) -> int:
        """One for each player, in each direction. Player p of session s has flow p * sessions + s."""
        return self.sessions * self.players


class Place(NamedTuple):
    """Where the sockets are opened: network namespaces (None: where the benchmark is) and addresses."""

    clients_network: str | None = None
    clients_address: str = "127.0.0.1"
    hosts_network: str | None = None
    hosts_address: str = "127.0.0.1"


class Door(Protocol):
    """How peers get into a relay: brings all of them in, and says how to send through it."""

    def join(self, ends: Ends, shape: Shape) -> Ways:
        """Called in the generator's process."""
        ...


class Generator:
    """The generator.

    Args:
        shape: who takes part.
        core: where it runs.
        place: where its sockets are.
    """

    def __init__(self, shape: Shape, core: int, place: Place = Place()) -> None:  # noqa: B008 - it is a value
        self.shape = shape
        self._pipe, theirs = multiprocessing.get_context("spawn").Pipe()
        self._process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(theirs, shape, core, place), daemon=True
        )
        self.client_addresses: list[tuple[str, int]] = []
        self.host_addresses: list[tuple[str, int]] = []

    def __enter__(self) -> Self:
        self._process.start()
        self.client_addresses, self.host_addresses = self._answer()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._process.terminate()
        self._process.join()

    def join(self, door: Door) -> int:
        """Brings all peers into a relay. What is returned stands for the way through it."""
        self._pipe.send((_Worker.join, (door,)))
        way: int = self._answer()
        return way

    def start(self, load: Load, way: int, relay_pids: Sequence[int] = ()) -> None:
        """Begins a load; `result` waits for its end."""
        self._pipe.send((_Worker.run, (load, way, relay_pids)))

    def result(self) -> Outcome:
        """Of the load that was started."""
        outcome: Outcome = self._answer()
        return outcome

    def run(self, load: Load, way: int, relay_pids: Sequence[int] = ()) -> Outcome:
        """Runs a load to its end."""
        self.start(load, way, relay_pids)
        return self.result()

    def _answer(self) -> Any:
        try:
            failed, answer = self._pipe.recv()
        except EOFError:
            raise SystemExit("the load generator ended unexpectedly") from None
        if failed:
            raise SystemExit(f"the load generator failed:\n{answer}")
        return answer


class _Worker:
    def __init__(self, shape: Shape, place: Place) -> None:
        self._shape = shape
        self._kinds = Kinds(shape.payload_bytes)
        _enter(place.clients_network)
        clients = [open_socket(place.clients_address) for _ in range(shape.client_sockets)]
        _enter(place.hosts_network)
        hosts = [open_socket(place.hosts_address) for _ in range(shape.host_sockets)]
        self._ends = Ends(clients, hosts, shape.flows, shape.block)
        self._ways: list[Ways] = []

    def addresses(self) -> tuple[list[tuple[str, int]], list[tuple[str, int]]]:
        return [sock.getsockname() for sock in self._ends.clients], [sock.getsockname() for sock in self._ends.hosts]

    def join(self, door: Door) -> int:
        self._ways.append(door.join(self._ends, self._shape))
        for sock in (*self._ends.clients, *self._ends.hosts):
            sock.setblocking(True)
        return len(self._ways) - 1

    def run(self, load: Load, way: int, relay_pids: Sequence[int]) -> Outcome:
        return run_load(load, self._ends, self._ways[way], self._kinds, relay_pids)


def _serve(pipe: Connection, shape: Shape, core: int, place: Place) -> None:
    os.sched_setaffinity(0, {core})
    # prctl(2): how late a sleeper may be woken; 50 µs is the default, a tenth of the time between two bursts.
    CDLL(None).prctl(_PR_SET_TIMERSLACK, 1)
    try:
        worker = _Worker(shape, place)
        pipe.send((False, worker.addresses()))
        while True:
            function, arguments = pipe.recv()
            pipe.send((False, function(worker, *arguments)))
    except EOFError:
        return
    except BaseException:  # noqa: BLE001 - told to who asked
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
