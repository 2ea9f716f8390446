"""A relay's table, state and usage records without sockets, which can be killed at any moment, and who adds them up."""

import asyncio
from collections.abc import Iterable, Iterator
from pathlib import Path

from relayd.control_plane.store import usage_sums
from relayd.control_plane.store.sqlite import prepared_connection
from relayd.control_plane.usage_models import UsageQuery
from relayd.core.desired import SessionSpec, Snapshot
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.usage import Counts, UsageBatch, UsageDelayedError
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from relayd.forwarding.python.udp import RecordKeeper
from relayd.settings import Settings
from relayd.state.memory import StateMemory
from relayd.state.records import Records
from relayd.state.restoration import Restoration
from relayd.usage.metering import Metering
from tests.support.relays import ids_in_order

ENDPOINTS = [Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)]


class Consumer:
    """A control plane's database, which fails as it is told."""

    def __init__(self) -> None:
        self.connection = prepared_connection(":memory:")
        self.connection.begin()
        self.takes = True
        self.answers = True

    async def take(self, batch: UsageBatch) -> None:
        if self.takes:
            usage_sums.add(self.connection, "relay", batch.records)
        if not (self.takes and self.answers):
            raise UsageDelayedError("as it was told", 0.0)

    def sums(self) -> dict[str, Counts]:
        return {one.session_id: one.counts for one in usage_sums.sums(self.connection, UsageQuery(limit=1000))}

    def sums_of_records(self) -> dict[str, Counts]:
        """The same by way of each single record."""
        query = UsageQuery(since=0.0, limit=1000)
        return {one.session_id: one.counts for one in usage_sums.sums(self.connection, query)}

    def all_ended(self) -> bool:
        return all(one.ended for one in usage_sums.sums(self.connection, UsageQuery(limit=1000)))


class UsageWorld:
    """A relay that forwards by Python alone. `forwarded` is what its records have to add up to in the end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings.model_validate({"state": {"directory": folder}, "usage": {"interval": 1}})
        self.consumer = Consumer()
        self.forwarded: dict[str, Counts] = {}
        self.now = 1000.0
        self.wall = 1.7e9
        self.loaded = False
        self.boot()

    def boot(self) -> None:
        self.metering = Metering(
            settings=self.settings,
            kept=True,
            absorb=lambda _: None,
            settled=lambda _: True,
            taker=self.consumer,
            wall_clock=lambda: self.wall,
        )
        self._state = StateMemory(self.folder, 1)
        self.records = Records(self._state, lambda: self.now, spans=self.metering)
        self.table = Table(Limits(rebind_after=0), ids_in_order())
        self.engine = Engine(self.table)
        self.records.follow(self.table.followers)
        self.table.followers.subscribe(Phase.THREADS, RecordKeeper(self.records))
        self._restoration = Restoration(
            state=self._state,
            records=self.records,
            table=self.table,
            endpoints=ENDPOINTS,
            counters=self.engine.counters,
            now=lambda: self.now,
            longest_silence_seconds=30.0,
        )
        self.loaded = False

    def kill(self) -> None:
        """What a crash leaves, once what is due soon is written: descriptors are closed, and nothing else is done."""
        self._write_what_is_due()
        self.metering._journal.close()
        self.records.close()

    def _write_what_is_due(self) -> None:
        journal = self.metering._journal
        if journal._soon.is_set():
            asyncio.run(journal.write_all())

    def apply(self, specs: Iterable[SessionSpec]) -> None:
        self.table.apply(Snapshot.of(list(specs)), self.now)
        if not self.loaded:
            self.loaded = True
            self._restoration.finish()
            for _ in self.metering.going_on():
                pass

    def apply_in_steps(self, specs: Iterable[SessionSpec]) -> Iterator[None]:
        """As `apply`, but what a process before left is given up step by step."""
        self.table.apply(Snapshot.of(list(specs)), self.now)
        self.loaded = True
        yield from self._restoration.finishing()
        yield from self.metering.going_on()

    def tick(self, interval_is_over: bool = False) -> None:
        self.records.beat()
        asyncio.run(self.metering.tick(interval_is_over))

    def send(self) -> bool:
        """Hands a batch over. False if there is none."""
        return asyncio.run(self.metering.sender.send())

    def send_all(self) -> None:
        self.consumer.takes = self.consumer.answers = True
        while self.send():
            pass

    def host_pings(self, session: int, host: int) -> None:
        self._handle(ENDPOINTS[0], encode_ping(host, session), ("10.0.0.1", 1), "")

    def player_sends(self, session_id: str, session: int, player: int, size: int = 10, port: int = 7) -> None:
        datagram = encode_player_data(player, session, bytes((1, 9, 9, 9, 9)) + bytes(size))
        self._handle(ENDPOINTS[1], datagram, ("10.0.0.2", port + player), session_id)

    def host_sends(self, session_id: str, session: int, host: int, connection_id: int) -> None:
        datagram = encode_host_data(host, session, connection_id, b"hello")
        self._handle(ENDPOINTS[0], datagram, ("10.0.0.1", 1), session_id)

    def _handle(self, endpoint: Endpoint, datagram: bytes, source: tuple[str, int], session_id: str) -> None:
        action = self.engine.handle(endpoint, datagram, source, self.now)
        if action.player is not None:
            self.records.account(action.player.user)
        if action.verdict is Verdict.FORWARDED:
            size = len(datagram)
            more = Counts(1, size, 0, 0) if endpoint.port is Port.CLIENT else Counts(0, 0, 1, size)
            self.forwarded[session_id] = self.forwarded.get(session_id, Counts()).plus(more)
