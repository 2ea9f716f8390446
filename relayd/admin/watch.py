"""Has the engine see every datagram of a session for a while, so that `relayd capture` sees them as well.

What the kernel forwards never reaches a packet socket, and what the forwarding thread merges reaches it in pieces that
no peer ever sees. Each request holds for a few seconds: a capture that is killed leaves nothing behind.
"""

import asyncio
from typing import NamedTuple

from fastapi import APIRouter, Response

from relayd.admin.answers import SeenPeer, WatchedSession
from relayd.admin.responses import answered, no_session
from relayd.core.session import Session
from relayd.core.table import Table
from relayd.core.views import InterfaceState, KernelView
from relayd.log import TOKEN_DIGITS
from relayd.settings import RelaySettings

HOLDS_SECONDS = 5.0
_ON = (InterfaceState.FORWARDS, InterfaceState.LOSES)
"""Where the program is, and drops what never reaches a socket."""


class _Watch(NamedTuple):
    session: Session
    ends: asyncio.TimerHandle


def watch_routes(relay: RelaySettings, table: Table, kernel: KernelView | None) -> APIRouter:
    """`POST` and `DELETE /v1/sessions/{session_id}/watch`."""
    router = APIRouter()
    watches: dict[str, _Watch] = {}

    def end(session_id: str) -> None:
        watch = watches.pop(session_id)
        watch.ends.cancel()
        table.unwatch(watch.session, asyncio.get_running_loop().time())

    @router.post("/v1/sessions/{session_id}/watch")
    async def watch(session_id: str) -> Response:
        """Begins it or prolongs it, and says what datagrams of this session look like."""
        watch = watches.get(session_id)
        session = table.sessions.get(session_id) or (watch.session if watch is not None else None)
        if session is None:
            return no_session(session_id)
        loop = asyncio.get_running_loop()
        if watch is not None:
            watch.ends.cancel()
        watches[session_id] = _Watch(session, loop.call_later(HOLDS_SECONDS, end, session_id))
        over = table.sessions.get(session_id) is not session
        if not over:
            table.watch(session, loop.time())
        return answered(
            WatchedSession(
                server_port=relay.server_port,
                client_port=relay.client_port,
                token_ends_with=session.token % 10**TOKEN_DIGITS,
                fast_path=kernel is not None and any(one.state in _ON for one in kernel.interface_views),
                over=over,
                peers=_peers(table, session),
            )
        )

    @router.delete("/v1/sessions/{session_id}/watch")
    async def unwatch(session_id: str) -> Response:
        """Ends it before its time."""
        if session_id in watches:
            end(session_id)
        return Response(status_code=204)

    return router


def _peers(table: Table, session: Session) -> list[SeenPeer]:
    """Who is or was bound in the session, and who was refused in its name."""
    peers = {(binding.port, binding.address[0], binding.address[1]) for binding in session.bindings()}
    history = table.history.sessions.get(session.token)
    if history is not None and history.session_id == session.session_id:
        peers |= {(refusal.port, refusal.ip_address, refusal.udp_port) for refusal, _ in history.refusals}
        peers |= {
            (change.port, change.ip_address, change.udp_port)
            for change, _ in history.changes
            if change.port is not None
        }
    return [SeenPeer(port=port.label, ip=ip, udp_port=udp_port) for port, ip, udp_port in sorted(peers)]
