"""Takes over what the predecessor left in the maps: pair by pair, as the session source names them again.

Until then the kernel keeps serving the users it served. Each pair the source still names gets its binding back under
the same connection id; the rest is removed once the table is complete.
"""

import socket
from collections.abc import Iterator

from relayd.core.declaration.kernel_maps import PAIR, PAIR_KEY
from relayd.core.endpoint import Endpoint
from relayd.core.session import User
from relayd.core.views import KeptCounts
from relayd.core.wire import MAX_CONNECTION_ID, Port
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.mirror import Mirror

_Pair = tuple[int, int]
_PAIR_KEY = PAIR_KEY.packing()
_SLOTS = PAIR.packing(last="slots")
_NO_SLOTS = (0, 0)
_NOBODY = bytes(_SLOTS.size)
_AT_ONCE = 100
"""Removed in about 1 ms when all of them are bound."""


class Adoption:
    """What the predecessor left. Follows the table instead of the mirror until `finish`.

    Args:
        mirror: gets what is adopted; its slots are those of the maps.
        endpoints: the relay's sockets, in their order.
        kept: the counts that outlive the process.
    """

    def __init__(self, mirror: Mirror, endpoints: list[Endpoint], kept: KeptCounts) -> None:
        self.restored = 0
        self._mirror = mirror
        self._endpoints = endpoints
        self._kept = kept
        self._pairs: dict[_Pair, tuple[int, int]] = {}
        self._entries: dict[int, layout.Binding] = {}
        self._index_of: dict[int, int] = {}
        self._session_at: dict[int, int] = {}
        self._find(mirror.pairs, mirror.bindings)
        self._indexes = {entry.session_index for entry in self._entries.values()}
        """Of sessions that no restored binding is in."""
        mirror.slots.keep(set(self._entries))
        mirror.indexes.keep(self._indexes)

    def __len__(self) -> int:
        """Bindings that were found and neither restored nor discarded yet."""
        return len(self._entries)

    def _find(self, pairs: BpfMap, bindings: BpfMap) -> None:
        for key, value in pairs.items():
            pair = _PAIR_KEY.unpack(key)
            slots_of_it = value[: _SLOTS.size]
            if slots_of_it == _NOBODY:
                self._pairs[pair] = _NO_SLOTS
                continue
            slots = self._pairs[pair] = _SLOTS.unpack(slots_of_it)
            for port, slot in zip(Port, slots, strict=True):
                raw = bindings.lookup(slot.to_bytes(4, "little")) if slot else None
                entry = layout.Binding.from_buffer_copy(raw) if raw else None
                if entry is not None and self._usable(slot, entry, pair, port):
                    self._entries[slot] = entry

    def _usable(self, slot: int, entry: layout.Binding, pair: _Pair, port: Port) -> bool:
        """Whether an entry can be what a relay wrote for that user on that port: it has no checksum."""
        number = (entry.endpoint - 1) * len(Port) + port
        least_id, most_id = (1, MAX_CONNECTION_ID) if port is Port.CLIENT else (0, 0)
        return (
            (entry.user, entry.session) == pair
            and 0 <= number < len(self._endpoints)
            and entry.family in (socket.AF_INET, socket.AF_INET6)
            and any(entry.peer_port)
            and least_id <= entry.connection_id <= most_id
            and 0 < entry.session_index <= self._mirror.indexes.most
            and self._mirror.traffic.can_be(slot)
            # One index for a session, and one session for an index.
            and self._index_of.setdefault(entry.session, entry.session_index) == entry.session_index
            and self._session_at.setdefault(entry.session_index, entry.session) == entry.session
        )

    def authorized(self, user: User, admitted: bool) -> None:
        """Gives a user who is let in the bindings back that the kernel kept serving."""
        pair = user.token, user.session.token
        slots = self._pairs.pop(pair, None) if admitted else None
        if slots is None:
            self._mirror.authorized(user, admitted)
            return
        if slots == _NO_SLOTS:
            return  # as the map has it
        self._kept.bring_back(user)
        for port, slot in zip(Port, slots, strict=True):
            entry = self._entries.pop(slot, None)
            if entry is not None:
                self._restore(user, port, slot, entry)
        self._mirror.write_pair(user)

    def _restore(self, user: User, port: Port, slot: int, entry: layout.Binding) -> None:
        session, mirror = user.session, self._mirror
        row = mirror.rows.get(session)
        holder = session.players.get(entry.connection_id, user)
        taken = holder is not user
        if port is Port.SERVER:
            taken = session.host is not None or not mirror.table.may_host(user)
        if taken or not self._may_stay(user, entry) or (row is not None and row.index != entry.session_index):
            if user.traffic is not None:
                user.traffic.add(mirror.traffic.take_rest(slot))
            self._give_up(slot, entry)
            return
        endpoint = self._endpoints[(entry.endpoint - 1) * len(Port) + port]
        now = mirror.traffic.now()
        # Counts that were kept include what was taken over from the slot so far.
        mirror.traffic.go_on(slot, counts_are_kept=user.traffic is not None)
        address = layout.peer_address(entry)
        binding = mirror.table.restore(
            user, endpoint, address, connection_id=entry.connection_id, now=now, local=mirror.traffic.local(slot)
        )
        binding.last_seen = mirror.traffic.last_seen(slot) or now
        mirror.adopt(binding, slot, entry.session_index)
        self._indexes.discard(entry.session_index)
        mirror.take_counts(slot, binding)
        self.restored += 1

    def _may_stay(self, user: User, entry: layout.Binding) -> bool:
        """Whether the kernel may keep serving it under the settings of this process."""
        limits = self._mirror.table.limits
        ip_address = layout.peer_address(entry)[0]
        refused = (limits.pin_ip and ip_address != user.ip_address) or limits.denies(ip_address)
        # Only the engine keeps the rate of a whole session.
        return not refused and user.session.meter is None

    def finish(self) -> Iterator[None]:
        """The table is complete: removes what it does not name, and pauses after each batch."""
        mirror = self._mirror
        while self._pairs:
            # Removed before the pause: the table may name it again during that.
            some = [self._pairs.popitem() for _ in range(min(_AT_ONCE, len(self._pairs)))]
            mirror.pairs.delete_batch(b"".join(_PAIR_KEY.pack(*pair) for pair, _ in some))
            for _, slots in some:
                for slot in slots:
                    entry = self._entries.pop(slot, None)
                    if entry is not None:
                        self._give_up(slot, entry)
            yield
        while self._indexes:
            for index in [self._indexes.pop() for _ in range(min(_AT_ONCE, len(self._indexes)))]:
                mirror.sessions.put(index, bytes(layout.Session()))
                mirror.indexes.retire(index, lambda: None)
            yield

    def _give_up(self, slot: int, entry: layout.Binding) -> None:
        mirror = self._mirror
        if entry.connection_id:
            mirror.connections.delete(bytes(layout.ConnectionKey(entry.session, entry.connection_id)))
        else:
            mirror.sessions.put(entry.session_index, bytes(layout.Session(entry.session, self._host_slot(entry))))
        self._count_rest(slot, entry)
        mirror.slots.retire(slot, lambda: self._count_rest(slot, entry))

    def _host_slot(self, entry: layout.Binding) -> int:
        """Of another host, who may have come to an adopted session meanwhile; 0 for none."""
        session = self._mirror.table.by_token.get(entry.session)
        row = self._mirror.rows.get(session) if session is not None else None
        return row.host_slot if row is not None and row.index == entry.session_index else 0

    def _count_rest(self, slot: int, entry: layout.Binding) -> None:
        self._kept.count_left(entry.session, entry.user, self._mirror.traffic.take_rest(slot))
