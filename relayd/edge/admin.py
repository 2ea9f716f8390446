"""The admin HTTP server: metrics, health, live sessions, drain. Tokens are only shown shortened."""

import asyncio
from typing import Annotated, Any

from fastapi import FastAPI, Query, Response
from fastapi.responses import JSONResponse, PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST

from relayd import __version__
from relayd.core.engine import Engine
from relayd.core.session import Session
from relayd.edge.kernel_view import KernelView
from relayd.edge.live import describe_session, summarise_session
from relayd.edge.metrics import RelayCollector, render
from relayd.edge.source import SourceStatus


def create_admin(
    engine: Engine, source: SourceStatus, collector: RelayCollector, kernel: KernelView | None = None
) -> FastAPI:
    """The admin application of a relay."""
    app = FastAPI(title="relayd admin", version=__version__, docs_url=None, redoc_url=None)
    table = engine.table

    @app.get("/metrics")
    async def metrics() -> Response:
        return Response(render(collector), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        if table.loaded:
            return PlainTextResponse("ready\n")
        return PlainTextResponse(f"no sessions yet: {source.problem or 'still reading them'}\n", status_code=503)

    @app.get("/v1/sessions")
    async def sessions(
        limit: Annotated[int, Query(ge=1, le=10_000)] = 1000, offset: Annotated[int, Query(ge=0)] = 0
    ) -> dict[str, Any]:
        page = list(table.sessions.values())[offset : offset + limit]
        if kernel is not None:
            kernel.absorb(page)
        return {"total_count": len(table.sessions), "sessions": [summarise_session(session) for session in page]}

    @app.get("/v1/sessions/{session_id}")
    async def session(session_id: str) -> Response:
        found: Session | None = table.sessions.get(session_id)
        if found is None:
            return JSONResponse({"message": f"no session {session_id} in the table"}, status_code=404)
        if kernel is not None:
            kernel.absorb([found])
        return JSONResponse(describe_session(found, asyncio.get_running_loop().time(), table.heard))

    def drain_status() -> dict[str, Any]:
        active = sum(session.bound > 0 for session in table.sessions.values()) if engine.draining else None
        return {"draining": engine.draining, "active_sessions": active, "bound_users": sum(table.bound)}

    @app.post("/v1/drain")
    async def drain() -> dict[str, Any]:
        engine.draining = True
        return drain_status()

    @app.delete("/v1/drain")
    async def undo_drain() -> dict[str, Any]:
        engine.draining = False
        return drain_status()

    return app
