"""However changes and pages interleave, a relay that reads deltas ends up with what is there."""

import asyncio
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from relayd.control_plane.errors import ConflictError
from relayd.control_plane.models import NewUser
from relayd.control_plane.node_models import Heartbeat, NodeSessions
from relayd.control_plane.store.contract import NewSession
from relayd.control_plane.store.sqlite import SqliteStore

NODES = ("a", "b")
steps = st.lists(
    st.tuples(st.sampled_from(["create", "authorize", "revoke", "delete", "read"]), st.integers(0, 1000)), max_size=40
)


class Relay:
    """Reads its sessions page by page, one page a step."""

    def __init__(self, store: SqliteStore, name: str) -> None:
        self.store, self.name = store, name
        self.epoch: str | None = None
        self.revision = 0
        self.table: dict[str, frozenset[int]] = {}
        self.pages: list[NodeSessions] = []

    async def step(self) -> bool:
        """Reads one page; True when it was the last one and all are applied."""
        after = self.pages[-1].next if self.pages else None
        page = await self.store.node_sessions(self.name, since=self.revision, epoch=self.epoch, after=after, limit=2)
        assert page is not None
        assert not self.pages or page.full == self.pages[0].full
        self.pages.append(page)
        if page.next is not None:
            return False
        if self.pages[0].full:
            self.table = {}
        for one in self.pages:
            for gone in one.removed:
                self.table.pop(gone, None)
            for session in one.sessions:
                self.table[session.session_id] = frozenset(user.authorization_token for user in session.session_users)
        self.epoch, self.revision = self.pages[0].epoch, self.pages[0].revision
        self.pages = []
        return True

    async def finish(self) -> None:
        while not await self.step():
            pass


async def play(script: list[tuple[str, int]]) -> None:
    store = SqliteStore(":memory:")
    try:
        beat = Heartbeat(ip="203.0.113.7", host="r", server_port=1, client_port=2, capacity=10, load=0)
        truth: dict[str, dict[str, set[int]]] = {node: {} for node in NODES}
        relays = [Relay(store, node) for node in NODES]
        for node in NODES:
            await store.heartbeat(node, beat, 0.0)
        for what, number in script:
            node = NODES[number % 2]
            mine: list[Any] = sorted(truth[node])
            if what == "read":
                await relays[number % 2].step()
            elif what == "create":
                made = (await store.create(NewSession([NewUser(ip="1.1.1.1")], node, None, None, 0.0))).session
                truth[node][made.session_id] = set()
            elif mine:
                chosen = mine[number % len(mine)]
                if what == "delete":
                    await store.delete(chosen, 0.0)
                    del truth[node][chosen]
                elif what == "authorize":
                    try:
                        user = (await store.authorize(chosen, f"10.0.0.{number % 5}")).user
                    except ConflictError:
                        continue
                    truth[node][chosen].add(user.authorization_token)
                elif truth[node][chosen]:
                    token = min(truth[node][chosen])
                    await store.revoke(chosen, token)
                    truth[node][chosen].discard(token)
        for relay in relays:
            await relay.finish()  # the pages it was in the middle of
            await relay.finish()  # what changed meanwhile
            assert set(relay.table) == set(truth[relay.name])
            for session_id, tokens in truth[relay.name].items():
                assert tokens < relay.table[session_id]
                assert len(relay.table[session_id]) == len(tokens) + 1  # the host
    finally:
        await store.close()


@settings(max_examples=100, deadline=None)
@given(steps)
def test_a_relay_ends_up_with_what_is_there(script: list[tuple[str, int]]) -> None:
    asyncio.run(play(script))
