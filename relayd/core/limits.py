"""Timeouts, policies and rates: what they are, and the token buckets that keep the rates."""

import ipaddress
from collections import OrderedDict
from functools import lru_cache
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, IPvAnyNetwork

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.host_policy import HostPolicy
from relayd.core.meter import Rate
from relayd.core.wire import MAX_DATAGRAM_BYTES, Port


def _lets_the_longest_through(rate: int) -> int:
    if 0 < rate < MAX_DATAGRAM_BYTES:
        raise ValueError(
            f"write 0 for no bound, or at least {MAX_DATAGRAM_BYTES}: longer datagrams would never get through"
        )
    return rate


MOST_DENIED_NETWORKS = 1024

Datagrams = Annotated[int, Field(ge=0, le=10_000_000)]
"""A second; 0 is no bound."""
Bytes = Annotated[int, Field(ge=0, le=10_000_000_000), AfterValidator(_lets_the_longest_through)]
"""A second; 0 is no bound."""


class Limits(BaseModel):
    """[limits] of the configuration. Times in seconds."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    user_timeout: float = Field(
        30.0, gt=0, allow_inf_nan=False, description="Seconds of silence after which a user is unbound."
    )
    host_timeout: float = Field(
        10.0, ge=0, allow_inf_nan=False, description="Seconds of silence after which another user may become host."
    )
    host_policy: HostPolicy = Field(
        HostPolicy.PREFERRED,
        description="Who may host. preferred: the first of session_users whenever it comes, others while it is away;"
        " strict: nobody else; any: whoever comes first.",
    )
    rebind_after: float = Field(
        0.5,
        ge=0,
        allow_inf_nan=False,
        description="Seconds of silence of the old address before a user moves to a new one.",
    )
    session_idle_timeout: float = Field(
        300.0,
        ge=0,
        allow_inf_nan=False,
        description="Seconds with nobody bound after which a session ends; 0 = never.",
    )
    pin_ip: bool = Field(False, description="Only session_users[].ip_address may bind.")
    connection_id_policy: ConnectionIdPolicy = Field(
        ConnectionIdPolicy.KCP,
        description="When a player gets a new connection id. kcp: from a new address with a zero KCP cookie;"
        " stable: never; per_address: from every new address.",
    )
    max_bound_users: int = Field(
        200_000, ge=0, description="Users bound at once; a further one is refused. 0 = no bound."
    )
    denied_networks: tuple[IPvAnyNetwork, ...] = Field(
        (),
        max_length=MOST_DENIED_NETWORKS,
        description="Networks that nobody may play from, so that nothing is ever sent there.",
    )
    user_datagrams_per_second: Datagrams = Field(
        20_000, description="Datagrams a second accepted from one player, with a burst of a second's worth."
    )
    user_bytes_per_second: Bytes = Field(20_000_000, description="The same in bytes of UDP payload.")
    host_datagrams_per_second: Datagrams = Field(
        100_000, description="Datagrams a second accepted from one host, who sends to each of its players."
    )
    host_bytes_per_second: Bytes = Field(100_000_000, description="The same in bytes.")
    session_datagrams_per_second: Datagrams = Field(
        0,
        description="Datagrams a second accepted in one session, of host and players together. With such a rate"
        " sessions are served by Python alone, which is slower: only there all of a session is seen.",
    )
    session_bytes_per_second: Bytes = Field(0, description="The same in bytes.")
    guesses_per_second: int = Field(
        50,
        ge=1,
        le=1_000_000,
        description="Unknown user tokens a second in one session, above which nobody new gets in from an address that"
        " the session does not name.",
    )
    guesses_per_source_per_second: int = Field(
        20,
        ge=1,
        le=1_000_000,
        description="Unknown user tokens a second to known sessions from one IPv4 address or IPv6 /64 network, above"
        " which nobody new gets in from there.",
    )
    refusals_per_second: int = Field(
        1000, ge=0, description="Refusals told to their senders a second, in all; the rest is dropped silently."
    )
    refusals_per_source_per_second: int = Field(
        10, ge=0, description="Refusals told to one IP address a second; the rest is dropped silently."
    )
    token_bits: int = Field(
        31,
        ge=31,
        le=32,
        description="Bits of the tokens that the control plane draws. Clients that read them as signed 32-bit numbers"
        " take 31; with 32 a token takes twice as long to guess.",
    )

    def denies(self, ip_address: str) -> bool:
        """Whether it is in one of the denied networks."""
        if not self.denied_networks:
            return False
        return _is_in(ip_address, self.denied_networks)

    def user_rate(self, port: Port) -> Rate:
        """Of one user on that port: a host's, or a player's."""
        if port is Port.SERVER:
            return Rate(self.host_datagrams_per_second, self.host_bytes_per_second)
        return Rate(self.user_datagrams_per_second, self.user_bytes_per_second)

    @property
    def session_rate(self) -> Rate:
        """Of all in one session."""
        return Rate(self.session_datagrams_per_second, self.session_bytes_per_second)


@lru_cache(maxsize=16_384)
def _is_in(ip_address: str, networks: tuple[IPvAnyNetwork, ...]) -> bool:
    # Remembered: a thousand networks take 0.2 ms, and strangers decide how often this is called.
    address = ipaddress.ip_address(ip_address.partition("%")[0])
    return any(address in network for network in networks)


class TokenBucket:
    """Lets ``rate`` through a second, with a burst of one second's worth."""

    __slots__ = ("_level", "_rate", "_updated")

    def __init__(self, rate: float, now: float) -> None:
        self._rate = rate
        self._level = rate
        self._updated = now

    def take(self, now: float) -> bool:
        """Takes one token; False when there is none. Time that runs backwards adds nothing."""
        if now > self._updated:
            self._level = min(self._rate, self._level + (now - self._updated) * self._rate)
            self._updated = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class RefusalLimiter:
    """How many refusals are told, per source address and in all: the relay must not be a reflector.

    Memory is bounded: of more than ``max_sources`` the one first heard is forgotten. The bound for all is asked
    first, so that a flood from invented addresses cannot make it forget real ones for long.
    """

    def __init__(self, limits: Limits, max_sources: int = 10_000) -> None:
        self._per_source_rate = limits.refusals_per_source_per_second
        self._max_sources = max_sources
        self._total = TokenBucket(limits.refusals_per_second, 0.0)
        self._sources: OrderedDict[str, TokenBucket] = OrderedDict()

    def allows(self, ip_address: str, now: float) -> bool:
        """Whether one more refusal may be told to this address now."""
        source = network_of(ip_address)
        bucket = self._sources.get(source)
        if bucket is not None:
            return bucket.take(now) and self._total.take(now)
        if not self._total.take(now):
            return False
        if len(self._sources) >= self._max_sources:
            self._sources.popitem(last=False)
        bucket = self._sources[source] = TokenBucket(self._per_source_rate, now)
        return bucket.take(now)


def network_of(ip_address: str) -> str:
    """An IPv4 address itself; of an IPv6 address its /64, all of which one host may use (RFC 4291, 2.5.4).

    Args:
        ip_address: in its canonical text form (RFC 5952), as sockets give it.
    """
    if ":" not in ip_address:
        return ip_address
    # Not by `ipaddress`, which takes 19 µs instead of 0.5 (CPython 3.11): strangers decide how often this is called.
    before, gap, after = ip_address.partition("::")
    groups = before.split(":") if before else []
    if gap:
        behind = after.split(":") if after else []
        groups += ["0"] * (8 - len(groups) - len(behind)) + behind
    return ":".join(groups[:4])
