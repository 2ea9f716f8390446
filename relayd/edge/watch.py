"""Has the engine see every datagram of a session for a while, so that `relayd capture` sees them as well.

What the kernel forwards never reaches a packet socket, and what the forwarding thread merges does so in pieces that no
peer ever sees. Each request holds for a few seconds: a capture that is killed leaves nothing behind.
"""

import asyncio
from typing import Any

from fastapi import APIRouter, Response
from fastapi.responses import JSONResponse

from relayd.core.session import Session
from relayd.core.table import Table
from relayd.core.views import KernelView
from relayd.log import TOKEN_DIGITS
from relayd.settings import RelaySettings

HOLDS_SECONDS = 5.0


def watch_routes(relay: RelaySettings, table: Table, kernel: KernelView | None) -> APIRouter:
    """`POST` and `DELETE /v1/sessions/{session_id}/watch`."""
    router = APIRouter()
    ends: dict[Session, asyncio.TimerHandle] = {}

    def end(session: Session) -> None:
        del ends[session]
        table.unwatch(session, asyncio.get_running_loop().time())

    @router.post("/v1/sessions/{session_id}/watch")
    async def watch(session_id: str) -> Response:
        """Begins it or prolongs it, and says what datagrams of this session look like."""
        session = table.sessions.get(session_id)
        if session is None:
            return JSONResponse({"message": f"no session {session_id} in the table"}, status_code=404)
        loop = asyncio.get_running_loop()
        if session in ends:
            ends[session].cancel()
        ends[session] = loop.call_later(HOLDS_SECONDS, end, session)
        table.watch(session, loop.time())
        return JSONResponse(
            {
                "server_port": relay.server_port,
                "client_port": relay.client_port,
                "token_ends_with": session.token % 10**TOKEN_DIGITS,
                "fast_path": kernel is not None and kernel.up,
                "peers": _peers(table, session),
            }
        )

    @router.delete("/v1/sessions/{session_id}/watch")
    async def unwatch(session_id: str) -> Response:
        """Ends it before its time."""
        session = table.sessions.get(session_id)
        if session is not None and session in ends:
            ends[session].cancel()
            end(session)
        return Response(status_code=204)

    return router


def _peers(table: Table, session: Session) -> list[dict[str, Any]]:
    """Who is bound in the session, and who was refused in its name."""
    peers = {(binding.port, binding.address[0], binding.address[1]) for binding in session.bindings()}
    history = table.history.sessions.get(session.token)
    if history is not None:
        peers |= {(refusal.port, refusal.ip_address, refusal.udp_port) for refusal, _ in history.refusals}
    return [{"port": port.label, "ip": ip, "udp_port": udp_port} for port, ip, udp_port in sorted(peers)]
