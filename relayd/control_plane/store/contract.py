"""What the control plane asks of a store; `sql_store.py` answers, over what `sqlite.py` opens."""

from collections.abc import Collection, Sequence
from typing import NamedTuple, Protocol

from relayd.control_plane.keys import StoredKey
from relayd.control_plane.models import NewUser, SessionPage
from relayd.control_plane.node_models import Heartbeat, NodeSessions
from relayd.control_plane.usage_models import UsageQuery, UsageSum
from relayd.core.relay_session import RelaySession, SessionUser
from relayd.core.usage import UsageRecord

SILENT_AFTER = 10.0
"""Seconds without a heartbeat after which a relay gets no new session, and another may take its name."""

SILENT_NODE_KEPT_FOR = 86_400.0
"""Seconds that a silent relay without sessions is remembered."""


Unwanted = Collection[tuple[str, int | None]]
"""Sessions by id with None, and users by their session's id and their token."""


class NewSession(NamedTuple):
    """A session to make: on a node, or failed with the reason."""

    users: Sequence[NewUser]
    node_id: str | None
    error: str | None
    webhook_url: str | None
    created_at: float


class NodeRecord(NamedTuple):
    """A relay as it last described itself."""

    node_id: str
    heartbeat: Heartbeat
    heard_at: float
    """Unix time of its last heartbeat."""
    revision: int
    """Newest change of its sessions."""


class Changed(NamedTuple):
    """What a write did: to which session, and whom to tell."""

    session: RelaySession
    node_id: str | None
    revision: int


class Authorized(NamedTuple):
    """A user let in."""

    changed: Changed
    user: SessionUser


class Heard(NamedTuple):
    """What a heartbeat brought about."""

    revision: int
    """Newest change of that relay's sessions."""
    ready: tuple[str, ...]
    """Sessions that became ready by it."""
    ended: tuple[str, ...]
    """Sessions removed because the relay ended them."""
    went_back: bool
    """Whether the relay has applied what this store had and lost."""
    taken_back: tuple[str, ...]
    """Sessions that it handed back and that are here now."""


class Untaken(NamedTuple):
    """Sessions that failed because their relay died before it had them."""

    node_id: str
    session_ids: tuple[str, ...]
    revision: int
    """Newest change of that relay's sessions."""


class Totals(NamedTuple):
    """How much there is."""

    sessions: int
    webhooks_waiting: int
    """Calls that are not answered yet."""


class Delivery(NamedTuple):
    """A webhook call to make."""

    webhook_id: str
    session_id: str
    url: str
    host: str
    """Of the URL."""
    body: str
    attempts: int
    """Made so far."""
    due_at: float
    created_at: float


class SessionStore(Protocol):
    """Sessions and relays. Every method may raise StoreUnavailableError, and does all or nothing of its work."""

    async def go_by(self, now: float) -> None:
        """To be called first, with the time of the clock that counts: what was noted for later is of another clock."""

    async def begin(self) -> None:
        """Notes that a control plane begins to work with it: what relays are told from now on has another `epoch`."""

    async def epoch(self) -> str:
        """Names this store's history; another store has another."""

    async def create(self, new: NewSession) -> Changed:
        """Makes a session with an id and tokens of its own."""

    async def get(self, session_id: str) -> RelaySession | None:
        """The session as the API shows it."""

    async def page(self, number: int, limit: int, after: int | None = None) -> SessionPage:
        """Sessions in the order of their creation: those behind the one with the number `after`.

        Without it, those behind as many as fit on the pages before.
        """

    async def authorize(self, session_id: str, ip: str) -> Authorized:
        """Lets one more user in. Raises NotFoundError, or ConflictError when the address is in already."""

    async def revoke(self, session_id: str, token: int) -> Changed:
        """Takes the user with that token out. Raises NotFoundError."""

    async def delete(self, session_id: str, now: float) -> Changed:
        """Removes the session. Raises NotFoundError."""

    async def heartbeat(self, node_id: str, heartbeat: Heartbeat, now: float, unwanted: Unwanted = ()) -> Heard:
        """Records what a relay says of itself, removes what it ended, makes ready what it has applied, and takes back
        what this store lost.

        Raises NodeTakenError.

        Args:
            node_id: the relay.
            heartbeat: what it says.
            now: Unix time.
            unwanted: sessions by id, and users by session and token, that it is not to bring back.
        """

    async def nodes(self) -> list[NodeRecord]:
        """All relays."""

    async def node_sessions(
        self, node_id: str, *, since: int, epoch: str | None, after: str | None, limit: int
    ) -> NodeSessions | None:
        """A page of a relay's sessions, or of what changed after `since`; None for an unknown relay."""

    async def fail_untaken(self, now: float) -> list[Untaken]:
        """Fails sessions that have waited too long for a silent relay, and takes them from that relay."""

    async def tidy(self, now: float) -> None:
        """Removes what no caller can ask for any more."""


class UsageStore(Protocol):
    """What sessions used, as relays reported it."""

    async def add_usage(self, node_id: str, records: Sequence[UsageRecord]) -> int:
        """Takes records, each once. Returns how many are new."""

    async def usage(self, query: UsageQuery) -> list[UsageSum]:
        """Sums by session and relay, in that order.

        Raises:
            InvalidRequestError: it takes too long to find out.
        """

    async def forget_usage(self, before: float) -> bool:
        """Forgets some of what ended before that Unix time. Returns whether there may be more."""


class KeyStore(Protocol):
    """API keys."""

    async def add_key(self, key: StoredKey) -> None:
        """Keeps a key."""

    async def key(self, key_id: str) -> StoredKey | None:
        """The key with that id."""

    async def keys(self) -> list[StoredKey]:
        """All keys, oldest first."""

    async def revoke_key(self, key_id: str) -> bool:
        """Forgets a key; False when there is none."""


class OutboxStore(Protocol):
    """Webhook calls that have not been answered yet."""

    async def webhook_secret(self) -> str:
        """The secret made with this store, for when none is configured."""

    async def upcoming(self, limit: int, busy_hosts: Sequence[str] = ()) -> list[Delivery]:
        """The calls due first, without those to these hosts."""

    async def postpone(self, webhook_id: str, due_at: float) -> None:
        """An attempt failed; the next is at that time."""

    async def settle(self, webhook_id: str) -> None:
        """Delivered, or given up."""


class Store(SessionStore, UsageStore, KeyStore, OutboxStore, Protocol):
    """All of it."""

    async def totals(self) -> Totals:
        """How much of it there is."""

    async def close(self) -> None:
        """Finishes writing and closes the store."""
