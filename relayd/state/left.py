"""The records that the predecessor left in the state file, each until it is taken out."""

from collections.abc import Iterator, Sequence

from relayd.core.counters import Traffic
from relayd.core.endpoint import Endpoint
from relayd.state import layout
from relayd.state.layout import Identity, Kind
from relayd.state.memory import StateMemory
from relayd.state.records import Records

Found = tuple[Identity, int]
"""A record, and its slot."""
_Pair = tuple[int, int]
"""Session and user token."""


class Left:
    """Reads them all, and removes those that cannot be right from the file at once.

    Args:
        state: the file.
        records: learns which places are free.
        endpoints: the sockets that bindings are numbered by; none where no binding may be restored.
    """

    def __init__(self, state: StateMemory, records: Records, endpoints: Sequence[Endpoint]) -> None:
        self.bindings: dict[_Pair, list[Found]] = {}
        self.accounts: dict[_Pair, Found] = {}
        self.set_aside: dict[_Pair, Found] = {}
        """Accounts whose users are in their sessions, but started new ones."""
        self._revoked: list[Found] = []
        """Counts of revoked users, by session. One session has two records if a user was revoked after a restart,
        before the predecessor's record was taken over."""
        self._former: list[Found] = []
        """What is left of sessions that ended."""
        self.counts: dict[tuple[int, bytes], Traffic] = {}
        """Counts of all records but bindings, by session token and span."""
        self.bindings_found = 0
        """How many bindings were found that can be right."""
        self._records = records
        self._endpoints = endpoints
        self._read(state)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return bool(self.bindings or self.accounts or self.set_aside or self._revoked or self._former)

    def account_of(self, session_token: int, user_token: int) -> int:
        """Slot of a user's account that nothing has taken over so far; 0 for none."""
        pair = session_token, user_token
        found = self.accounts.get(pair) or self.set_aside.get(pair)
        return found[1] if found is not None else 0

    def take_counted(self) -> Iterator[Found]:
        """Takes out everything but bindings, one by one."""
        for accounts in (self.accounts, self.set_aside):
            while accounts:
                yield accounts.popitem()[1]
        for records in (self._revoked, self._former):
            while records:
                yield records.pop()

    def _read(self, state: StateMemory) -> None:
        used = 1
        free: list[int] = []
        for slot, identity, counts in layout.records(state.memory, state.slots):
            if self._is_there(identity):
                self._records.empty(slot)
                continue
            # Up to the last one that is used, all that are not are free.
            free += range(used, slot)
            used = slot + 1
            if identity.kind is Kind.BINDING:
                self._add_binding(identity, slot)
                continue
            if identity.kind is Kind.ACCOUNT:
                self.accounts[identity.session, identity.user] = identity, slot
            else:
                (self._revoked if identity.kind is Kind.REVOKED else self._former).append((identity, slot))
            self.counts.setdefault((identity.session, identity.ip), Traffic()).count(*counts)
        self._records.begin_after(used, free)

    def _is_there(self, identity: Identity) -> bool:
        """Whether there was a record of the same before: of two in a damaged file, the first is used."""
        if identity.kind is Kind.BINDING:
            bindings = self.bindings.get((identity.session, identity.user), ())
            return any(other.port == identity.port for other, _ in bindings)
        return identity.kind is Kind.ACCOUNT and (identity.session, identity.user) in self.accounts

    def _add_binding(self, identity: Identity, slot: int) -> None:
        number = identity.endpoint
        # NOWHERE is the number of none.
        if number < len(self._endpoints) and self._endpoints[number].port == identity.port:
            self.bindings_found += 1
        else:
            # Written down at once: the next process would find it in a file that was used a moment before.
            identity = self._records.invalidate_address(slot, identity)
        self.bindings.setdefault((identity.session, identity.user), []).append((identity, slot))
