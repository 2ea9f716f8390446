"""What the kernel program knows of each slot: when it was heard, what it forwarded, and the PINGs it answered."""

from collections.abc import Callable

from relayd.core.counters import MOST_COUNTED, Traffic
from relayd.core.declaration.common import DUES, PINGS, TRAFFIC
from relayd.core.declaration.kernel_maps import STATE, TAKEN_OVER
from relayd.core.endpoint import Local
from relayd.core.meter import Meter
from relayd.core.pings import Pings
from relayd.core.session import Session
from relayd.core.verdict import Verdict
from relayd.forwarding.kernel.layout import local_address
from relayd.forwarding.kernel.maps import BpfMap

_STATE_BYTES = STATE.size_bytes
_LAST_SEEN = STATE.packing(last="last_seen_ns")
_LOCAL = STATE.packing("local", "local")
_LOCAL_AT = STATE.offsets["local"]
_FORWARDED = STATE.packing(TRAFFIC[0].name, TRAFFIC[-1].name)
_FORWARDED_AT = STATE.offsets[TRAFFIC[0].name]
_METER = DUES.packing()
_METER_AT = STATE.offsets["dues"]
_DROPS = {"conflict_datagrams": Verdict.ADDRESS_CONFLICT, "limited_datagrams": Verdict.RATE_LIMITED}
"""What is counted there of each binding, in the order of its members."""
_DROPPED = STATE.packing(*_DROPS)
_DROPPED_AT = STATE.offsets[next(iter(_DROPS))]
_TAKEN_OVER = TAKEN_OVER.packing()
_PINGS = PINGS.packing()
_FORWARDS = len(TRAFFIC)
_NONE = (0,) * (_FORWARDS + len(_DROPS))


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

    def local(self, slot: int) -> Local | None:
        """The address of this host that its peer sends to; None before the kernel heard it there."""
        return local_address(*_LOCAL.unpack_from(self._memory, slot * _STATE_BYTES + _LOCAL_AT))

    def pings(self, slot: int) -> Pings:
        """The PINGs that the kernel answered; none in slot 0, which is never used."""
        return Pings(*_PINGS.unpack_from(self._pings, slot * _PINGS.size))

    def conflicts(self, slot: int) -> int:
        """Datagrams in a slot's name that came from other addresses than its own."""
        return self._counts(slot)[_FORWARDS]

    def can_be(self, slot: int) -> bool:
        """Whether a predecessor can have left these counts of a slot, which have no checksum."""
        counts = self._counts(slot)
        more = all(then <= now for then, now in zip(self._taken(slot), counts[:_FORWARDS], strict=True))
        # A user who was last heard in the future would never time out.
        return max(counts) <= MOST_COUNTED and more and self.last_seen(slot) <= self.now()

    def begin(self, slot: int, meter: Meter | None, last_heard: float) -> None:
        """Empties a slot that nothing refers to yet; its user's rate continues from the state of the meter."""
        start = slot * _STATE_BYTES
        self._memory[start : start + _STATE_BYTES] = bytes(_STATE_BYTES)
        _LAST_SEEN.pack_into(self._memory, start, int(min(last_heard, self.now()) * 1e9))
        if meter is not None:
            _METER.pack_into(self._memory, start + _METER_AT, meter.datagrams_due_ns, meter.bytes_due_ns)
        self._seen[slot] = _NONE
        self._pings[slot * _PINGS.size : (slot + 1) * _PINGS.size] = bytes(_PINGS.size)
        self._taken_over[slot * _TAKEN_OVER.size : (slot + 1) * _TAKEN_OVER.size] = bytes(_TAKEN_OVER.size)

    def go_on(self, slot: int, *, counts_are_kept: bool) -> None:
        """Continues with a slot of the predecessor.

        Args:
            slot: the slot.
            counts_are_kept: whether the user's counts include what the predecessor took over from the slot.
        """
        now = self._counts(slot)
        taken = self._taken(slot) if counts_are_kept else _NONE[:_FORWARDS]
        self._seen[slot] = (*taken, *now[_FORWARDS:])

    def _taken(self, slot: int) -> tuple[int, ...]:
        return _TAKEN_OVER.unpack_from(self._taken_over, slot * _TAKEN_OVER.size)

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
        _TAKEN_OVER.pack_into(self._taken_over, slot * _TAKEN_OVER.size, *now[:_FORWARDS])
        added = [count - before for count, before in zip(now, seen, strict=True)]
        traffic.count(*added[:_FORWARDS])
        drops = dict(zip(_DROPS.values(), added[_FORWARDS:], strict=True))
        for verdict, dropped in drops.items():
            if dropped:
                session.count_drop(verdict, dropped)
        return drops[Verdict.RATE_LIMITED]

    def take_rest(self, slot: int) -> Traffic:
        """What the predecessor had not yet taken over from a slot of its own."""
        counts = self._counts(slot)
        taken = self._taken(slot)
        forwarded = counts[:_FORWARDS]
        _TAKEN_OVER.pack_into(self._taken_over, slot * _TAKEN_OVER.size, *forwarded)
        traffic = Traffic()
        traffic.count(*(count - before for count, before in zip(forwarded, taken, strict=True)))
        return traffic

    def end(self, slot: int) -> None:
        """Forgets a slot."""
        self._seen.pop(slot, None)
