"""The closed enumeration of what can become of a datagram. It alone labels metrics, API and logs."""

import enum

from relayd.core.wire import State


class Verdict(enum.IntEnum):
    """Every datagram that reaches a port gets exactly one; the values index counters."""

    FORWARDED = 0
    """DATA sent on to its peer."""
    ANSWERED = 1
    """A PING of a bound user, answered Valid."""
    TOO_SHORT = 2
    """Under 9 bytes, or a host's DATA under 13."""
    TOO_LONG = 3
    """Over 1,200 bytes."""
    UNKNOWN_TYPE = 4
    """Neither PING nor DATA."""
    NO_PAYLOAD = 5
    """DATA that ends with its header."""
    UNKNOWN_PAIR = 6
    """No session with that token, or no such user in it."""
    SESSION_ENDED = 7
    """The session was there and ended a short while ago."""
    ADDRESS_CONFLICT = 8
    """The user is bound to another address that was heard too recently for a move."""
    ADDRESS_REFUSED = 9
    """pin_ip is on and the session names another address for this user."""
    HOST_CONFLICT = 10
    """The session has another host, heard within host_timeout."""
    NO_HOST = 11
    """A player's DATA while the session has no host."""
    UNKNOWN_CONNECTION = 12
    """A host's DATA for a connection id that no bound player has."""
    RATE_LIMITED = 13
    """Over the rate of the user, of its session, or of what is sent to a peer that has not been heard for 5 s."""
    SEND_QUEUE_FULL = 14
    """The kernel took no more to send (EAGAIN, ENOBUFS)."""
    SEND_FAILED = 15
    """The kernel refused to send it: no route, interface down, too long for the link."""
    DRAINING = 16
    """The first datagram of a session at a relay that takes no new ones."""
    RELAY_FULL = 17
    """The relay has max_bound_users already."""
    RELAY_AWAY = 18
    """No relayd was running, only its fast path, which drops what the kernel would answer with an ICMP error."""
    OVERLOADED = 19
    """From where nobody is bound, and more than relayd can decide on or its fast path lets up. Bound users play on."""
    BAD_SOURCE = 20
    """From the ports of this relay or of another of its fleet, port 0, a denied network, or an address that no host has
    (multicast, broadcast)."""
    GUESS_LIMITED = 21
    """A known user at a new address, maybe a lucky guess: too many are made from there or in its session."""

    @property
    def label(self) -> str:
        """The name in metrics, API and logs."""
        return self.name.lower()


DROPS = tuple(verdict for verdict in Verdict if verdict not in (Verdict.FORWARDED, Verdict.ANSWERED))

REFUSAL_STATE: dict[Verdict, State] = {
    Verdict.UNKNOWN_PAIR: State.INVALID,
    Verdict.SESSION_ENDED: State.SESSION_TIMEOUT,
    Verdict.ADDRESS_REFUSED: State.ERROR,
    Verdict.HOST_CONFLICT: State.ERROR,
    Verdict.DRAINING: State.ERROR,
    Verdict.RELAY_FULL: State.ERROR,
}
"""The refusals that are told to their sender, PING or DATA alike, and how. All others are silent: what is
malformed has no sender worth an answer, and a bound user whose one datagram was dropped is still Valid."""
