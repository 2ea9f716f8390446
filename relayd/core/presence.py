"""When a peer was last heard and how its PINGs came, whichever of the engines it was that heard it."""

from typing import Protocol

from relayd.core.pings import Pings, together
from relayd.core.session import Binding

_PAUSE_SECONDS = 2.5
"""A process that says every second that it runs, and has not for so long, was stopped: by a debugger, a hypervisor."""


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
        self._awake_at: float | None = None
        """When the process last said that it runs; None where nobody says so."""
        self._listening_since = 0.0
        """From when on silence counts: what came in a pause of the process may still wait in its sockets."""

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

    def awake(self, now: float) -> None:
        """Notes that the process runs, in seconds. To be called about every second."""
        self._note_pause(now)
        self._awake_at = now

    def silence_begins(self, binding: Binding, now: float) -> float:
        """Since when a binding can be called silent, in seconds: when it was last heard, or the last pause ended."""
        self._note_pause(now)
        return max(self.last_heard(binding), self._listening_since)

    def _note_pause(self, now: float) -> None:
        # Whoever is first to ask after a pause finds it: the loop may run timers before it reads sockets, or after.
        if self._awake_at is not None and now - self._awake_at > _PAUSE_SECONDS:
            self._listening_since = self._awake_at = now

    def pings(self, binding: Binding) -> Pings | None:
        """Its PINGs, whichever engine answered them; None before the first."""
        return together(binding.pings, *(hearer.pings(binding) for hearer in self._hearers))
