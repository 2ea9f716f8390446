"""The admin HTTP server: metrics, health, live sessions, drain. Tokens are only shown shortened."""

import asyncio
from collections.abc import Callable
from typing import Annotated

import structlog
from fastapi import FastAPI, Query, Request, Response
from fastapi.responses import PlainTextResponse
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.middleware.base import RequestResponseEndpoint

from relayd import __version__
from relayd.admin.answers import Ports, SessionsPage
from relayd.admin.drain import Drain
from relayd.admin.explain.route import explain_route
from relayd.admin.live_sessions import describe_session, summarise_session
from relayd.admin.metrics.relay_metrics import RelayMetrics
from relayd.admin.responses import answered, no_session, said
from relayd.admin.status import describe_program, describe_relay
from relayd.admin.watch import watch_routes
from relayd.core.engine import Engine
from relayd.core.session import Session
from relayd.core.source_status import SourceStatus
from relayd.core.views import Absorb, AddressView, KernelView
from relayd.event_loop.pacing import in_slices
from relayd.settings import Settings

_log = structlog.get_logger()

_SETTING = "fast_path.interfaces: "
"""What begins a problem where it is said among those of other settings."""


def create_admin(
    *,
    settings: Settings,
    engine: Engine,
    source: SourceStatus,
    drain: Drain,
    metrics: RelayMetrics,
    absorb: Absorb,
    upgrade: Callable[[], str],
    addresses: AddressView,
    kernel: KernelView | None = None,
) -> FastAPI:
    """The admin application of a relay.

    `absorb` is called before anything is shown of a session; `upgrade` has the program replaced soon, or says why
    not.
    """
    relay = settings.relay
    app = FastAPI(title="relayd admin", version=__version__, docs_url=None, redoc_url=None)
    table = engine.table
    app.include_router(watch_routes(relay, table, kernel))
    app.include_router(explain_route(settings=settings, engine=engine, source=source, absorb=absorb, kernel=kernel))

    @app.middleware("http")
    async def refuse_other_sites(request: Request, answer: RequestResponseEndpoint) -> Response:
        """A page in a browser on this machine must not be able to drain the relay."""
        if request.method != "GET" and "origin" in request.headers:
            return said("not for web pages: send no Origin header", 403)
        return await answer(request)

    @app.exception_handler(Exception)
    async def say_what_failed(request: Request, error: Exception) -> Response:
        """A defect; the log has the rest."""
        _log.error("a request could not be answered", path=request.url.path, exc_info=error)
        return said("relayd failed to answer; its log says why", 500)

    @app.get("/metrics")
    async def scrape() -> Response:
        return Response(await metrics.render(), media_type=CONTENT_TYPE_LATEST)

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        away = ", ".join(addresses.away)
        if not addresses.reachable:
            return PlainTextResponse(f"this host has no address of relay.bind: {away}\n", status_code=503)
        if table.loaded:
            doubts = [f"the session source is not followed: {source.problem}"] if source.problem else []
            doubts += [f"relay.bind: this host does not have {away}"] if away else []
            return PlainTextResponse("\n".join(("ready", *doubts, *_problems(kernel), "")))
        return PlainTextResponse(f"no sessions yet: {source.problem or 'still reading them'}\n", status_code=503)

    @app.get("/v1/relay")
    async def about() -> Response:
        return answered(Ports(server_port=relay.server_port, client_port=relay.client_port))

    @app.get("/v1/sessions")
    async def sessions(
        limit: Annotated[int, Query(ge=1, le=1000)] = 1000,
        offset: Annotated[int, Query(ge=0)] = 0,
        active: bool = False,
    ) -> Response:
        """Sessions in summary; with ``active``, only those that somebody is bound in."""
        listed = list(table.sessions.values())
        if active:
            listed = [session async for session in in_slices(listed) if session.bound]
        page = listed[offset : offset + limit]
        absorb(page)
        shown = [summary async for summary in in_slices(map(summarise_session, page))]
        return answered(SessionsPage(total_count=len(listed), sessions=shown))

    @app.get("/v1/status")
    async def status() -> Response:
        absorb(())
        return answered(describe_relay(engine, source, kernel, asyncio.get_running_loop().time()))

    @app.get("/v1/sessions/{session_id}")
    async def session(session_id: str) -> Response:
        found: Session | None = table.sessions.get(session_id)
        if found is None:
            return no_session(session_id)
        absorb([found])
        return answered(describe_session(found, asyncio.get_running_loop().time(), table.presence))

    @app.post("/v1/upgrade")
    async def begin_upgrade() -> Response:
        why_not = upgrade()
        if why_not:
            return said(why_not, 409)
        return answered(describe_program())

    @app.get("/v1/drain")
    async def drain_status() -> Response:
        return answered(drain.status())

    @app.post("/v1/drain")
    async def begin_drain() -> Response:
        return answered(drain.begin())

    @app.delete("/v1/drain")
    async def undo_drain() -> Response:
        return answered(drain.undo())

    return app


def _problems(kernel: KernelView | None) -> list[str]:
    """Where the sockets serve what the fast path should: games go on, at a higher cost."""
    views = kernel.interface_views if kernel is not None else ()
    return [
        "; ".join(filter(None, (f"fast path: {one.problem.removeprefix(_SETTING)}", one.way_out)))
        for one in views
        if one.problem
    ]
