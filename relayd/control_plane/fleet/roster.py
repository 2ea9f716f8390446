"""The relays as the running control plane has them in memory: who is alive, who is about to have which users."""

import asyncio
import hashlib
from collections import deque
from collections.abc import Iterable

from relayd.control_plane.fleet.placement import Candidate, Position
from relayd.control_plane.node_models import FleetRelay, FleetRelays, Heartbeat
from relayd.control_plane.store.contract import SILENT_AFTER, NodeRecord

ASSIGNMENT_COUNTS_FOR = 30.0
"""Seconds that the users of a new session count as load of its relay on top of what it reports: the time from creation
until players are bound and show in a heartbeat. Those who are quick count twice meanwhile, which errs on the safe side.
"""

MOST_RELAYS_TOLD = 4096
"""Of more, relays are told the sockets of the first by name: some 400 KB, whenever one of them has others."""


class Fleet:
    """All relays, and the requests that wait for news for one of them."""

    def __init__(self, records: Iterable[NodeRecord]) -> None:
        self._records = {record.node_id: record for record in records}
        self._assigned: dict[str, deque[tuple[float, int]]] = {}
        self._pending: dict[str, int] = {}
        self._news: dict[str, asyncio.Event] = {}
        self._sockets: FleetRelays | None = None

    def __contains__(self, node_id: str) -> bool:
        return node_id in self._records

    def heard(self, record: NodeRecord) -> None:
        """A relay has described itself."""
        known = self._records.get(record.node_id)
        newest = max(record.revision, known.revision) if known else record.revision
        self._records[record.node_id] = record._replace(revision=newest)
        if known is None or _sockets_of(known.heartbeat) != _sockets_of(record.heartbeat):
            self._sockets = None
        if known and newest > known.revision:
            self._wake(record.node_id)

    def forget_silent(self, heard_before: float, kept: Iterable[NodeRecord]) -> None:
        """Forgets relays silent for that long which the store has forgotten too."""
        names = {record.node_id for record in kept}
        for node_id, record in list(self._records.items()):
            if node_id not in names and record.heard_at < heard_before:
                del self._records[node_id]
                self._sockets = None
                self._assigned.pop(node_id, None)
                self._pending.pop(node_id, None)

    def candidates(self, now: float) -> list[Candidate]:
        """All relays as placement wants them; `now` in Unix time."""
        return [
            Candidate(
                node_id=node_id,
                attributes=record.heartbeat.attributes,
                position=_position(record),
                capacity=record.heartbeat.capacity,
                load=record.heartbeat.load + self._pending_of(node_id, now),
                draining=record.heartbeat.draining,
                silence=now - record.heard_at,
            )
            for node_id, record in self._records.items()
        ]

    def sockets(self) -> FleetRelays:
        """Where all of them send from, those too that are silent here: their sockets may be as busy as ever."""
        if self._sockets is None:
            names = sorted(self._records)[:MOST_RELAYS_TOLD]
            told = [_sockets_of(self._records[name].heartbeat) for name in names]
            digest = hashlib.sha256(repr(told).encode()).hexdigest()[:16]
            relays = [FleetRelay(addresses=list(addresses), ports=list(ports)) for addresses, ports in told]
            self._sockets = FleetRelays(digest=digest, relays=relays)
        return self._sockets

    def by_status(self, now: float) -> dict[str, int]:
        """How many relays are online, draining and silent."""
        relays = dict.fromkeys(("online", "draining", "silent"), 0)
        for record in self._records.values():
            silent = now - record.heard_at > SILENT_AFTER
            relays["silent" if silent else "draining" if record.heartbeat.draining else "online"] += 1
        return relays

    def assign(self, node_id: str, users: int, now: float) -> None:
        """A new session with so many users goes to that relay."""
        self._assigned.setdefault(node_id, deque()).append((now, users))
        self._pending[node_id] = self._pending.get(node_id, 0) + users

    def revision(self, node_id: str) -> int:
        """The newest change of that relay's sessions."""
        return self._records[node_id].revision

    def changed(self, node_id: str, revision: int) -> None:
        """Something of that relay's sessions changed: wakes those who wait for it."""
        record = self._records.get(node_id)
        if record is not None and revision > record.revision:
            self._records[node_id] = record._replace(revision=revision)
            self._wake(node_id)

    async def news(self, node_id: str) -> None:
        """Returns after the next change for that relay."""
        await self._news.setdefault(node_id, asyncio.Event()).wait()

    def wake_all(self) -> None:
        """Wakes all that wait."""
        for node_id in list(self._news):
            self._wake(node_id)

    def _wake(self, node_id: str) -> None:
        # A new event for requests that come next: this one stays set for those that have it.
        waiting = self._news.pop(node_id, None)
        if waiting is not None:
            waiting.set()

    def _pending_of(self, node_id: str, now: float) -> int:
        assigned = self._assigned.get(node_id)
        while assigned and assigned[0][0] <= now - ASSIGNMENT_COUNTS_FOR:
            self._pending[node_id] -= assigned.popleft()[1]
        return self._pending.get(node_id, 0)


def _sockets_of(said: Heartbeat) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Addresses and ports of a relay: those that players are told, and those that its host has."""
    addresses = {said.ip, *said.own_addresses}
    ports = {said.server_port, said.client_port, *said.own_ports}
    return tuple(sorted(addresses)), tuple(sorted(ports))


def _position(record: NodeRecord) -> Position | None:
    latitude, longitude = record.heartbeat.latitude, record.heartbeat.longitude
    return None if latitude is None or longitude is None else Position(latitude, longitude)
