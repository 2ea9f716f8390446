"""The REST API over the service, as an application."""

from fastapi import FastAPI
from starlette.responses import JSONResponse, Response

from relayd import __version__
from relayd.control_plane.api import caller_routes, docs_page, health_routes, node_routes, session_routes, usage_routes
from relayd.control_plane.api.answers import add_error_handlers
from relayd.control_plane.api.auth import Authenticator
from relayd.control_plane.api.caller import Callers
from relayd.control_plane.api.openapi import Json, describe
from relayd.control_plane.service import ControlPlane

ROUTERS = (session_routes.router, caller_routes.router, usage_routes.router, node_routes.router)


def create_app(control_plane: ControlPlane, authenticator: Authenticator, callers: Callers) -> FastAPI:
    """The app. It neither starts nor stops the control plane."""
    app = _routed()
    app.state.control_plane = control_plane
    app.state.authenticator = authenticator
    app.state.callers = callers
    add_error_handlers(app, ROUTERS)
    api = describe(app, ROUTERS)

    @app.get("/openapi.json")
    async def openapi_json() -> Response:
        return JSONResponse(api)

    docs_page.add_page(app, api)
    health_routes.add_health(app, control_plane)
    return app


def document() -> Json:
    """What the app serves as /openapi.json."""
    return describe(_routed(), ROUTERS)


def _routed() -> FastAPI:
    app = FastAPI(
        title="relayd control plane",
        version=__version__,
        description="Relay sessions: create one, wait until it is ready, hand its tokens to host and players.",
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in ROUTERS:
        app.include_router(router)
    return app
