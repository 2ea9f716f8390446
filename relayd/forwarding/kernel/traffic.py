"""What the kernel program knows of each slot: when it was heard, what it forwarded, and the PINGs it answered."""

import ctypes
import struct
from collections.abc import Callable

from relayd.core.counters import MOST_COUNTED, Traffic
from relayd.core.meter import Meter
from relayd.core.pings import Pings
from relayd.core.session import Session
from relayd.core.verdict import Verdict
from relayd.forwarding.kernel.layout import State
from relayd.forwarding.kernel.maps import BpfMap

_LAST_SEEN = struct.Struct("<Q")
_FORWARDED = struct.Struct("<4Q")
"""To the host, to the player."""
_FORWARDED_AT = State.to_host_datagrams.offset
_METER = struct.Struct("<2Q")
_METER_AT = State.dues.offset
_DROPPED = struct.Struct("<2Q")
_DROPPED_AT = State.conflict_datagrams.offset
_DROPS = (Verdict.ADDRESS_CONFLICT, Verdict.RATE_LIMITED)
"""What is counted there of each binding, in that order."""
_TAKEN_OVER = struct.Struct("<4Q")
_PINGS = struct.Struct("<4Q")
_NONE = (0, 0, 0, 0, 0, 0)
_STATE_BYTES = ctypes.sizeof(State)


class SlotTraffic:
    """The memory of `states` and `pings`, and what was taken over from `states`.

    Args:
        states: the map that the program writes.
        taken_over: the map that keeps, for the next process, what of a slot was added to the user's counts so far.
        pings: another map that the program writes.
        clock: that of the table and of the program, in seconds.
    """

    def __init__(self, *, states: BpfMap, taken_over: BpfMap, pings: BpfMap, clock: Callable[[], float]) -> None:
        self.now = clock
        self._memory = states.share()
        self._taken_over = taken_over.share()
        self._pings = pings.share()
        self._seen: dict[int, tuple[int, ...]] = {}

    def last_seen(self, slot: int) -> float:
        """When the kernel last heard it, in seconds; 0.0 for never."""
        nanoseconds: int = _LAST_SEEN.unpack_from(self._memory, slot * _STATE_BYTES)[0]
        return nanoseconds / 1e9

    def pings(self, slot: int) -> Pings:
        """The PINGs that the kernel answered; none in slot 0, which is never used."""
        return Pings(*_PINGS.unpack_from(self._pings, slot * _PINGS.size))

    def conflicts(self, slot: int) -> int:
        """Datagrams in a slot's name that came from other addresses than its own."""
        return self._counts(slot)[4]

    def can_be(self, slot: int) -> bool:
        """Whether a predecessor can have left these counts of a slot, which have no checksum."""
        counts = self._counts(slot)
        taken = _TAKEN_OVER.unpack_from(self._taken_over, slot * _TAKEN_OVER.size)
        counted = max(counts) <= MOST_COUNTED and all(then <= now for then, now in zip(taken, counts[:4], strict=True))
        # A user who was last heard in the future would never time out.
        return counted and self.last_seen(slot) <= self.now()

    def begin(self, slot: int, meter: Meter | None) -> None:
        """Empties a slot that nothing refers to yet; its user's rate continues from the state of the meter."""
        start = slot * _STATE_BYTES
        self._memory[start : start + _STATE_BYTES] = bytes(_STATE_BYTES)
        if meter is not None:
            _METER.pack_into(self._memory, start + _METER_AT, meter.datagrams_due_ns, meter.bytes_due_ns)
        self._seen[slot] = _NONE
        _PINGS.pack_into(self._pings, slot * _PINGS.size, 0, 0, 0, 0)
        _TAKEN_OVER.pack_into(self._taken_over, slot * _TAKEN_OVER.size, *_NONE[:4])

    def go_on(self, slot: int, *, counts_are_kept: bool) -> None:
        """Continues with a slot of the predecessor.

        Args:
            slot: the slot.
            counts_are_kept: whether the user's counts include what the predecessor took over from the slot.
        """
        now = self._counts(slot)
        taken = _TAKEN_OVER.unpack_from(self._taken_over, slot * _TAKEN_OVER.size) if counts_are_kept else _NONE[:4]
        self._seen[slot] = (*taken, *now[4:])

    def _counts(self, slot: int) -> tuple[int, ...]:
        start = slot * _STATE_BYTES
        return (
            *_FORWARDED.unpack_from(self._memory, start + _FORWARDED_AT),
            *_DROPPED.unpack_from(self._memory, start + _DROPPED_AT),
        )

    def give_back(self, slot: int, meter: Meter) -> None:
        """Takes over what the kernel let the user of a slot send."""
        meter.datagrams_due_ns, meter.bytes_due_ns = _METER.unpack_from(self._memory, slot * _STATE_BYTES + _METER_AT)

    def absorb(self, slot: int, traffic: Traffic, session: Session) -> int:
        """Adds what the kernel counted in a slot since the last look. Returns how many it dropped for a rate."""
        now = self._counts(slot)
        seen = self._seen.get(slot, _NONE)
        if now == seen:
            return 0
        self._seen[slot] = now
        _TAKEN_OVER.pack_into(self._taken_over, slot * _TAKEN_OVER.size, *now[:4])
        traffic.to_host_datagrams += now[0] - seen[0]
        traffic.to_host_bytes += now[1] - seen[1]
        traffic.to_player_datagrams += now[2] - seen[2]
        traffic.to_player_bytes += now[3] - seen[3]
        for verdict, count, before in zip(_DROPS, now[4:], seen[4:], strict=True):
            if count != before:
                session.count_drop(verdict, count - before)
        return now[5] - seen[5]

    def take_rest(self, slot: int) -> Traffic:
        """What the predecessor had not yet taken over from a slot of its own."""
        counts = self._counts(slot)
        taken = _TAKEN_OVER.unpack_from(self._taken_over, slot * _TAKEN_OVER.size)
        _TAKEN_OVER.pack_into(self._taken_over, slot * _TAKEN_OVER.size, *counts[:4])
        traffic = Traffic()
        traffic.to_host_datagrams = counts[0] - taken[0]
        traffic.to_host_bytes = counts[1] - taken[1]
        traffic.to_player_datagrams = counts[2] - taken[2]
        traffic.to_player_bytes = counts[3] - taken[3]
        return traffic

    def end(self, slot: int) -> None:
        """Forgets a slot."""
        self._seen.pop(slot, None)
