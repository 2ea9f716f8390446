"""What the kernel program knows of each slot: when it was heard, and what it forwarded."""

import struct
import time

from relayd.core.counters import Traffic
from relayd.core.session import Binding, Session
from relayd.core.verdict import Verdict
from relayd.edge.xdp.layout import Account, State
from relayd.edge.xdp.maps import BpfMap

_LAST_SEEN = struct.Struct("<Q")
_COUNTS = struct.Struct("<6Q")
"""To the host, to the player, answered, conflicts: what follows the time in an entry."""
_NONE = (0, 0, 0, 0, 0, 0)
_STATE = State()
_STATE_BYTES = len(bytes(_STATE))
_YOUNG_TICKS = 5
"""How long the sockets may still carry some datagrams of a binding that the kernel has just been given."""


class SlotTraffic:
    """The memory of `states`, and the accounts beside it.

    Args:
        states: the map that the program writes.
        accounts: the map that keeps, for the next process, what else was forwarded for a slot's user.
    """

    def __init__(self, states: BpfMap, accounts: BpfMap) -> None:
        self._memory = states.share()
        self._accounts = accounts
        self._seen: dict[int, tuple[int, ...]] = {}
        self._young: dict[int, tuple[Traffic, int]] = {}

    def now(self) -> float:
        """Seconds on the clock of the table, which is that of the kernel program."""
        return time.monotonic()

    def last_seen(self, slot: int) -> float:
        """When the kernel last heard it, in seconds; 0.0 for never."""
        nanoseconds: int = _LAST_SEEN.unpack_from(self._memory, slot * _STATE_BYTES)[0]
        return nanoseconds / 1e9

    def conflicts(self, slot: int) -> int:
        """Datagrams in a slot's name that came from other addresses than its own."""
        count: int = _COUNTS.unpack_from(self._memory, slot * _STATE_BYTES + _LAST_SEEN.size)[5]
        return count

    def begin(self, slot: int, binding: Binding) -> None:
        """Empties a slot that nobody knows yet, for this binding."""
        start = slot * _STATE_BYTES
        self._memory[start : start + _STATE_BYTES] = bytes(_STATE_BYTES)
        self._seen[slot] = _NONE
        self._save(slot, binding.traffic)
        self._young[slot] = binding.traffic, _YOUNG_TICKS

    def restore(self, slot: int, traffic: Traffic) -> None:
        """Adds the account of a slot that a process before this one began."""
        account = Account.from_buffer_copy(self._accounts.lookup(slot.to_bytes(4, "little")) or bytes(Account()))
        traffic.to_host_datagrams += account.to_host_datagrams
        traffic.to_host_bytes += account.to_host_bytes
        traffic.to_player_datagrams += account.to_player_datagrams
        traffic.to_player_bytes += account.to_player_bytes

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
        self._young.pop(slot, None)

    def save_young(self) -> None:
        """Brings the accounts of slots up to date that were given out in the last seconds."""
        for slot, (traffic, ticks) in list(self._young.items()):
            self._save(slot, traffic)
            if ticks:
                self._young[slot] = traffic, ticks - 1
            else:
                del self._young[slot]

    def save(self, slot: int, traffic: Traffic) -> None:
        """Brings the account of one slot up to date."""
        self._save(slot, traffic)

    def _save(self, slot: int, traffic: Traffic) -> None:
        seen = self._seen.get(slot, _NONE)
        account = Account(
            traffic.to_host_datagrams - seen[0],
            traffic.to_host_bytes - seen[1],
            traffic.to_player_datagrams - seen[2],
            traffic.to_player_bytes - seen[3],
        )
        self._accounts.put(slot, bytes(account))
