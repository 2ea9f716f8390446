"""What lies between peers and relay: it loses, delays, reorders and doubles, and forgets no address."""

from collections.abc import Callable
from functools import partial
from random import Random
from typing import NamedTuple

from fuzz.faults.schedule import Schedule
from relayd.core.endpoint import Address, Endpoint
from relayd.core.wire import Port

SERVER, CLIENT = Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)


class Weather(NamedTuple):
    """How bad it is. A random delay for each datagram is what reorders them."""

    loss: float = 0.0
    doubled: float = 0.0
    longest_delay_seconds: float = 0.0


FINE = Weather()


class Owner(NamedTuple):
    """Whose an address is or was: no address is ever given to two."""

    session: int
    user: int
    receive: Callable[[Endpoint, bytes], None]


class Network:
    """Carries datagrams both ways.

    Args:
        schedule: the clock.
        random: chooses what is lost, and how late the rest is.
    """

    def __init__(self, schedule: Schedule, random: Random) -> None:
        self.weather = FINE
        self.to_relay: Callable[[Endpoint, bytes, Address], None] = lambda *_: None
        self.sent = self.lost = self.doubled = self.overtaken = 0
        """Of datagrams, in both directions."""
        self._schedule = schedule
        self._random = random
        self._owners: dict[Address, Owner] = {}
        self._reached: set[Address] = set()
        self._number = 0
        self._latest = 0
        """The datagram sent last of all that arrived."""

    def new_address(self, owner: Owner, ip: str | None = None) -> Address:
        """An address that nobody had before, on this IP or on a new one."""
        self._number += 1
        number = self._number
        address = (ip or f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 1024 + number % 64000)
        while address in self._owners:
            address = (address[0], 1024 + (address[1] - 1023) % 64000)
        self._owners[address] = owner
        self._reached.add(address)
        return address

    def leave(self, address: Address) -> None:
        """Nobody is reached there any more."""
        self._reached.discard(address)

    def owner(self, address: Address) -> Owner:
        """Whose the address is or was."""
        return self._owners[address]

    def send_to_relay(self, endpoint: Endpoint, datagram: bytes, source: Address) -> None:
        """From a peer."""
        self._carry(lambda: self.to_relay(endpoint, datagram, source))

    def send_to_peer(self, endpoint: Endpoint, datagram: bytes, to: Address) -> None:
        """From the relay's socket."""
        self._carry(lambda: self._arrive(endpoint, datagram, to))

    def _arrive(self, endpoint: Endpoint, datagram: bytes, to: Address) -> None:
        if to in self._reached:
            self._owners[to].receive(endpoint, datagram)

    def _carry(self, arrive: Callable[[], None]) -> None:
        self.sent += 1
        weather = self.weather
        if weather is FINE:
            self._latest = self.sent
            arrive()
            return
        if self._random.random() < weather.loss:
            self.lost += 1
            return
        times = 1 + (self._random.random() < weather.doubled)
        self.doubled += times - 1
        for _ in range(times):
            delay_seconds = self._random.random() * weather.longest_delay_seconds
            self._schedule.after(delay_seconds, partial(self._arrive_late, self.sent, arrive))

    def _arrive_late(self, number: int, arrive: Callable[[], None]) -> None:
        self.overtaken += number < self._latest
        self._latest = max(number, self._latest)
        arrive()
