"""The guesses at user tokens that the kernel program noted, which are more than those it passes up."""

from contextlib import suppress

from relayd.core.declaration.kernel_maps import SEARCH
from relayd.core.guesses import Noted
from relayd.core.limits import network_of
from relayd.core.meter import NS_PER_SECOND
from relayd.core.session import Session
from relayd.forwarding.kernel.layout import pack_ip
from relayd.forwarding.kernel.libbpf import BpfError
from relayd.forwarding.kernel.maps import BpfMap

_AT_ONCE = 4096
_NOTHING = bytes(SEARCH.size_bytes)
_SEARCH = SEARCH.packing()


class NotedGuesses:
    """Has the program count for each session there is.

    Args:
        sessions: the map by session; entries of a predecessor are removed.
        sources: the map by source.
    """

    def __init__(self, sessions: BpfMap, sources: BpfMap) -> None:
        self._sessions = sessions
        self._sources = sources
        self._new: dict[int, None] = {}
        sessions.delete_batch(b"".join(key for key, _ in sessions.items()))

    def begin(self, session_token: int) -> None:
        """Counts for a session from the next `flush` on."""
        self._new[session_token] = None
        if len(self._new) >= _AT_ONCE:
            self.flush()

    def end(self, session_token: int) -> None:
        """Counts for it no longer."""
        if session_token in self._new:
            del self._new[session_token]
        else:
            self._sessions.delete(_key(session_token))

    def flush(self) -> None:
        """Writes what is new."""
        if self._new:
            new, self._new = self._new, {}
            # Where there is no room, the engine goes by the guesses that are passed up.
            with suppress(BpfError):
                self._sessions.update_batch(b"".join(map(_key, new)), _NOTHING * len(new))

    def noted(self, ip_address: str, session: Session) -> Noted:
        """See `GuessCounter.noted`."""
        source = pack_ip(network_of(ip_address) + "::" if ":" in ip_address else ip_address)
        of_source = int.from_bytes(self._sources.lookup(source) or b"", "little")
        in_session, dropped = _SEARCH.unpack(self._sessions.lookup(_key(session.token)) or _NOTHING)
        return Noted(of_source / NS_PER_SECOND, in_session / NS_PER_SECOND, dropped)


def _key(session_token: int) -> bytes:
    return session_token.to_bytes(4, "little")
