"""What the kernel program knows of each slot: when it was heard, and what it forwarded."""

import struct
import time

from relayd.core.counters import Traffic
from relayd.core.session import Binding, Session
from relayd.core.verdict import Verdict
from relayd.edge.xdp.layout import State
from relayd.edge.xdp.maps import BpfMap

_LAST_SEEN = struct.Struct("<Q")
_COUNTS = struct.Struct("<6Q")
"""To the host, to the player, answered, conflicts: what follows the time in an entry."""
_ACCOUNT = struct.Struct("<4Q")
_NONE = (0, 0, 0, 0, 0, 0)
_STATE = State()
_STATE_BYTES = len(bytes(_STATE))


class SlotTraffic:
    """The memory of `states`, and the accounts beside it.

    Args:
        states: the map that the program writes.
        accounts: the map that keeps, for the next process, what else was forwarded for a slot's user.
    """

    def __init__(self, states: BpfMap, accounts: BpfMap) -> None:
        self._memory = states.share()
        self._accounts = accounts.share()
        self._seen: dict[int, tuple[int, ...]] = {}

    def now(self) -> float:
        """Seconds on the clock of the table, which is that of the kernel program."""
        return time.monotonic()

    def last_seen(self, slot: int) -> float:
        """When the kernel last heard it, in seconds; 0.0 for never."""
        nanoseconds: int = _LAST_SEEN.unpack_from(self._memory, slot * _STATE_BYTES)[0]
        return nanoseconds / 1e9

    def begin(self, slot: int, binding: Binding) -> None:
        """Empties a slot that nobody knows yet, for this binding."""
        start = slot * _STATE_BYTES
        self._memory[start : start + _STATE_BYTES] = bytes(_STATE_BYTES)
        self._seen[slot] = _NONE
        self.save(slot, binding.traffic)

    def restore(self, slot: int, traffic: Traffic) -> None:
        """Adds the account of a slot that a process before this one began."""
        account = _ACCOUNT.unpack_from(self._accounts, slot * _ACCOUNT.size)
        traffic.to_host_datagrams += account[0]
        traffic.to_host_bytes += account[1]
        traffic.to_player_datagrams += account[2]
        traffic.to_player_bytes += account[3]

    def absorb(self, slot: int, traffic: Traffic, session: Session) -> None:
        """Adds what the kernel counted in a slot since the last look."""
        now = _COUNTS.unpack_from(self._memory, slot * _STATE_BYTES + _LAST_SEEN.size)
        seen = self._seen.get(slot, _NONE)
        if now == seen:
            return
        self._seen[slot] = now
        traffic.to_host_datagrams += now[0] - seen[0]
        traffic.to_host_bytes += now[1] - seen[1]
        traffic.to_player_datagrams += now[2] - seen[2]
        traffic.to_player_bytes += now[3] - seen[3]
        if now[5] != seen[5]:
            session.count_drop(Verdict.ADDRESS_CONFLICT, now[5] - seen[5])

    def end(self, slot: int) -> None:
        """Forgets a slot."""
        self._seen.pop(slot, None)

    def save(self, slot: int, traffic: Traffic) -> None:
        """Brings the account of a slot up to date: what was counted for its user, less what the slot itself says."""
        seen = self._seen.get(slot, _NONE)
        _ACCOUNT.pack_into(
            self._accounts,
            slot * _ACCOUNT.size,
            traffic.to_host_datagrams - seen[0],
            traffic.to_host_bytes - seen[1],
            traffic.to_player_datagrams - seen[2],
            traffic.to_player_bytes - seen[3],
        )
