"""Taking over what a process before this one left in the maps: pair by pair, as the session source names them again.

Until the source has spoken the kernel goes on serving whoever it served. Each pair the source still names gets its
binding back under the same connection id; the rest is taken out once the whole table is there.
"""

from collections.abc import Callable

from relayd.core.endpoint import Endpoint
from relayd.core.session import User
from relayd.core.wire import Port
from relayd.edge.xdp import layout
from relayd.edge.xdp.maps import BpfMap
from relayd.edge.xdp.mirror import Mirror

_Pair = tuple[int, int]


class Adoption:
    """What is left of a process before this one.

    Args:
        mirror: gets what is adopted; its slots are those of the maps.
        endpoints: the relay's sockets, in their order.
    """

    def __init__(self, mirror: Mirror, endpoints: list[Endpoint]) -> None:
        self.restored = 0
        self._mirror = mirror
        self._endpoints = endpoints
        self._left: dict[_Pair, tuple[int, int]] = {}
        self._entries: dict[int, layout.Binding] = {}
        self._indexes: set[int] = set()
        self._find(mirror.pairs, mirror.bindings)
        mirror.slots.keep(set(self._entries))
        mirror.indexes.keep(self._indexes)
        _exchange(mirror.table.on_authorized, mirror.authorized, self.authorized)

    def __len__(self) -> int:
        """Bindings that were found and neither restored nor given up yet."""
        return len(self._entries)

    def _find(self, pairs: BpfMap, bindings: BpfMap) -> None:
        for key, value in pairs.items():
            pair = layout.PairKey.from_buffer_copy(key)
            slots = tuple(layout.Pair.from_buffer_copy(value).slots)
            self._left[pair.user, pair.session] = slots[0], slots[1]
            for port, slot in zip(Port, slots, strict=True):
                raw = bindings.lookup(slot.to_bytes(4, "little")) if slot else None
                entry = layout.Binding.from_buffer_copy(raw) if raw else None
                if entry is not None and self._usable(entry, pair, port):
                    self._entries[slot] = entry
                    self._indexes.add(entry.session_index)

    def _usable(self, entry: layout.Binding, pair: layout.PairKey, port: Port) -> bool:
        number = (entry.endpoint - 1) * len(Port) + port
        return (entry.user, entry.session) == (pair.user, pair.session) and 0 <= number < len(self._endpoints)

    def authorized(self, user: User, added: bool) -> None:
        """In the place of the mirror's, as long as there is something to adopt."""
        pair = user.token, user.session.token
        slots = self._left.pop(pair, None) if added else None
        if slots is None:
            self._mirror.authorized(user, added)
            return
        for port, slot in zip(Port, slots, strict=True):
            entry = self._entries.pop(slot, None)
            if entry is not None:
                self._restore(user, port, slot, entry)
        self._mirror.write_pair(user)

    def _restore(self, user: User, port: Port, slot: int, entry: layout.Binding) -> None:
        session, mirror = user.session, self._mirror
        row = mirror.rows.get(session)
        taken = session.host is not None if port is Port.SERVER else entry.connection_id in session.players
        if taken or (row is not None and row.index != entry.session_index):
            self._give_up(slot, entry)
            return
        endpoint = self._endpoints[(entry.endpoint - 1) * len(Port) + port]
        now = mirror.traffic.now()
        binding = mirror.table.restore(user, endpoint, layout.peer_address(entry), entry.connection_id, now)
        binding.last_seen = mirror.traffic.last_seen(slot) or now
        if port is Port.CLIENT or user.client_binding is None:
            counts = binding.traffic
            counts.to_host_datagrams = counts.to_host_bytes = counts.to_player_datagrams = counts.to_player_bytes = 0
            mirror.traffic.restore(slot, counts)
        mirror.adopt(binding, slot, entry.session_index)
        mirror.absorb(session)
        self.restored += 1

    def finish(self) -> None:
        """The whole table is there: what it did not name is served no longer."""
        mirror = self._mirror
        for (user, session), slots in self._left.items():
            mirror.pairs.delete(user.to_bytes(4, "little") + session.to_bytes(4, "little"))
            for slot in slots:
                entry = self._entries.pop(slot, None)
                if entry is not None:
                    self._give_up(slot, entry)
        self._left.clear()
        used = {row.index for row in mirror.rows.values()}
        for index in self._indexes - used:
            mirror.sessions.put(index, bytes(layout.Session()))
            mirror.indexes.retire(index, lambda: None)
        self._indexes.clear()
        _exchange(mirror.table.on_authorized, self.authorized, mirror.authorized)

    def _give_up(self, slot: int, entry: layout.Binding) -> None:
        mirror = self._mirror
        if entry.connection_id:
            mirror.connections.delete(bytes(layout.ConnectionKey(entry.session, entry.connection_id)))
        else:
            mirror.sessions.put(entry.session_index, bytes(layout.Session(entry.session, 0)))
        mirror.slots.retire(slot, lambda: None)


_Listener = Callable[[User, bool], None]


def _exchange(listeners: list[_Listener], old: _Listener, new: _Listener) -> None:
    listeners[listeners.index(old)] = new
