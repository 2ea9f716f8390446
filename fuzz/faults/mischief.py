"""Those who are no players: they guess tokens, or have somebody else's."""

from collections.abc import Callable
from random import Random

from fuzz.faults.network import Network, Owner
from fuzz.faults.peers import Host, Peer, said
from fuzz.faults.schedule import Schedule
from relayd.core.endpoint import Address, Endpoint
from relayd.core.wire import encode_ping, encode_player_data

_FIRST_WRONG_TOKEN = 900_000_000
_WRONG_TOKENS = 300
_LONGEST_SEARCH_SECONDS = 20.0
_LONGEST_THEFT_SECONDS = 15.0


class Mischief:
    """Each does what it does for a while, and is gone.

    Args:
        schedule: the clock.
        network: carries what they send.
        random: chooses what they do, and for how long.
    """

    def __init__(self, schedule: Schedule, network: Network, random: Random) -> None:
        self._schedule = schedule
        self._network = network
        self._random = random

    def guess(self, victim: Peer) -> None:
        """Tries user tokens in a session, some of them again and again: from anywhere, or from a player's household."""
        choose = self._random
        same_ip = choose.random() < 0.5
        address = self._network.new_address(Owner(victim.session, 0, _ignore), victim.address[0] if same_ip else None)
        repeats = choose.choice((0.0, 0.5, 1.0))
        tried = _FIRST_WRONG_TOKEN

        def once() -> None:
            nonlocal tried
            if choose.random() >= repeats:
                tried = _FIRST_WRONG_TOKEN + choose.randrange(_WRONG_TOKENS)
            self._network.send_to_relay(victim.endpoint, encode_ping(tried, victim.session), address)

        self._again_and_again(address, once, choose.uniform(0.01, 0.5), choose.uniform(1.0, _LONGEST_SEARCH_SECONDS))

    def steal(self, victim: Peer) -> None:
        """Sends with somebody's tokens from another address: PINGs, or what a player says who begins anew.

        The victim may be silent meanwhile, and for so long that the move is good.
        """
        choose = self._random
        address = self._network.new_address(Owner(victim.session, victim.user, _ignore))
        speaks = choose.random() < 0.5 and not isinstance(victim, Host)
        if choose.random() < 0.5:
            victim.muted_until = self._schedule.now + choose.uniform(1.0, _LONGEST_THEFT_SECONDS)

        def once() -> None:
            datagram = encode_ping(victim.user, victim.session)
            if speaks:
                datagram = encode_player_data(victim.user, victim.session, said(0, victim.session, victim.user))
            self._network.send_to_relay(victim.endpoint, datagram, address)

        self._again_and_again(address, once, choose.uniform(0.1, 3.0), choose.uniform(1.0, _LONGEST_THEFT_SECONDS))

    def _again_and_again(
        self, address: Address, once: Callable[[], None], every_seconds: float, seconds: float
    ) -> None:
        until = self._schedule.now + seconds

        def step() -> None:
            if self._schedule.now >= until:
                self._network.leave(address)
                return
            once()
            self._schedule.after(every_seconds, step)

        step()


def _ignore(_endpoint: Endpoint, _datagram: bytes) -> None:
    """What they are told does not stop them."""
