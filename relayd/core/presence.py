"""When a peer was last heard and how its PINGs came, whichever of the engines it was that heard it."""

from typing import Protocol

from relayd.core.pings import Pings, together
from relayd.core.session import Binding


class Hearer(Protocol):
    """An engine that serves bindings without `Engine.handle`.

    When it no longer serves one, it leaves what it knows with the binding: `Binding.last_seen`, `Binding.take_pings`.
    """

    def last_heard(self, binding: Binding) -> float:
        """When it last heard a peer, in seconds on the clock of the table; 0.0 for never."""

    def pings(self, binding: Binding) -> Pings | None:
        """The PINGs that it answered; None before the first."""


class Presence:
    """Asks all engines: the later time and the sum are the same in whatever order they registered.

    It is asked when something is decided or shown, and never for a datagram of a bound peer.
    """

    def __init__(self) -> None:
        self._hearers: tuple[Hearer, ...] = ()

    def register(self, hearer: Hearer) -> None:
        """Asks this one too from now on."""
        self._hearers += (hearer,)

    def unregister(self, hearer: Hearer) -> None:
        """Asks it no more."""
        self._hearers = tuple(one for one in self._hearers if one is not hearer)

    def last_heard(self, binding: Binding) -> float:
        """When a binding was last heard, in seconds."""
        latest = binding.last_seen
        for hearer in self._hearers:
            latest = max(latest, hearer.last_heard(binding))
        return latest

    def pings(self, binding: Binding) -> Pings | None:
        """Its PINGs, whichever engine answered them; None before the first."""
        return together(binding.pings, *(hearer.pings(binding) for hearer in self._hearers))
