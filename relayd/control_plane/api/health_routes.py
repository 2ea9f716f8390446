"""How the control plane fares, for whoever runs it: no key, and no part of the API."""

import asyncio

from fastapi import FastAPI
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import PlainTextResponse, Response

from relayd.control_plane.errors import StoreUnavailableError
from relayd.control_plane.metrics import Reading, render
from relayd.control_plane.service import ControlPlane
from relayd.control_plane.store.contract import Totals
from relayd.log import lines_lost

STORE_PATIENCE_SECONDS = 5.0
"""A database on a disk that hangs is as good as none; who asks waits no longer than load balancers do."""


def add_health(app: FastAPI, plane: ControlPlane) -> None:
    """Adds /healthz, /readyz and /metrics."""

    @app.get("/healthz")
    async def healthz() -> Response:
        return PlainTextResponse("ok\n")

    @app.get("/readyz")
    async def readyz() -> Response:
        if plane.stopping:
            return PlainTextResponse("stopping\n", status_code=503)
        try:
            await _totals(plane)
        except StoreUnavailableError as error:
            return PlainTextResponse(f"not ready: {error}\n", status_code=503)
        return PlainTextResponse("ready\n")

    @app.get("/metrics")
    async def metrics() -> Response:
        totals: Totals | None
        try:
            totals = await _totals(plane)
        except StoreUnavailableError:
            totals = None
        shown = render(Reading(totals, plane.relays_by_status(), plane.deliveries, lines_lost()))
        return Response(shown, media_type=CONTENT_TYPE_LATEST)


async def _totals(plane: ControlPlane) -> Totals:
    try:
        async with asyncio.timeout(STORE_PATIENCE_SECONDS):
            return await plane.totals()
    except TimeoutError:
        raise StoreUnavailableError(
            f"The session store does not answer within {STORE_PATIENCE_SECONDS:.0f} s; look at its disk."
        ) from None
