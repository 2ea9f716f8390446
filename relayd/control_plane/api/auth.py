"""Who may do what: the key of a request, checked against those there are."""

import asyncio
from pathlib import Path

import structlog

from relayd.control_plane import keys
from relayd.control_plane.errors import ForbiddenError, UnauthenticatedError
from relayd.control_plane.keys import Scope
from relayd.control_plane.store.contract import KeyStore
from relayd.errors import ConfigurationError
from relayd.files import Stamp, stamp
from relayd.settings import read_secret

log = structlog.get_logger()

_LOOK_SECONDS = 1.0
"""How long a request waits for a look at the token file."""


class Authenticator:
    """Checks keys. A stored key is looked up for each request, so that revoking it takes effect at once."""

    def __init__(self, store: KeyStore, *, token_file: Path | None = None, extra_key: str | None = None) -> None:
        """The key in the file, and the extra one, have every scope.

        Raises:
            ConfigurationError: the file cannot be read, or has no key in it.
        """
        self._store = store
        self._file = token_file
        self._stamp: Stamp | None = None
        self._from_file: bytes | None = None
        self._look: asyncio.Task[None] | None = None
        self._extra = None if extra_key is None else keys.digest(extra_key)
        if token_file is not None:
            self._from_file = keys.digest(read_secret(token_file, "api.token_file"))
            self._stamp = stamp(token_file)

    async def require(self, authorization: str | None, scope: Scope | None, node_id: str | None = None) -> None:
        """Returns if the key in that Authorization header opens the route.

        Args:
            authorization: the header.
            scope: that the route needs; None: any key will do that is bound to no relay.
            node_id: the relay that the route is about; None: it is about none.

        Raises:
            UnauthenticatedError: there is no key, or it is unknown or revoked.
            ForbiddenError: it lacks the scope, or is bound to another relay.
            StoreUnavailableError: the store cannot say.
        """
        key = keys.bearer(authorization)
        if key is None:
            raise UnauthenticatedError("Send your API key in the header: Authorization: token KEY.")
        await self._read_again_if_changed()
        if any(known is not None and keys.same(key, known) for known in (self._from_file, self._extra)):
            return
        key_id = keys.key_id(key)
        stored = await self._store.key(key_id) if key_id else None
        if stored is None or not keys.same(key, stored.digest):
            raise UnauthenticatedError("That API key is unknown or was revoked; ask the operator for another.")
        if scope is not None and scope not in stored.scopes:
            raise ForbiddenError(f"This API key lacks the scope {scope}; use one that has it.")
        if stored.node is not None and stored.node != node_id:
            raise ForbiddenError(f"This API key is for the relay {stored.node} alone; use one that is for this.")

    async def _read_again_if_changed(self) -> None:
        """Looks at the file, in a thread: where its disk hangs, requests go on with the key that was known."""
        if self._file is None:
            return
        if self._look is None or self._look.done():
            self._look = asyncio.create_task(self._read_again(self._file))
        await asyncio.wait([self._look], timeout=_LOOK_SECONDS)

    async def _read_again(self, file: Path) -> None:
        found = await asyncio.to_thread(stamp, file)
        if found == self._stamp:
            return
        self._stamp = found
        try:
            self._from_file = keys.digest(await asyncio.to_thread(read_secret, file, "api.token_file"))
        except ConfigurationError as error:
            # Half-written or removed: the key that worked until now is kept until there is another.
            log.warning("token file unreadable", reason=str(error))
        else:
            log.info("token file read again")
