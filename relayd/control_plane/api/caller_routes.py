"""What a caller asks about itself."""

from typing import Annotated

from fastapi import APIRouter, Depends, Request

from relayd.control_plane.api.answers import fails_with
from relayd.control_plane.api.caller import Callers
from relayd.control_plane.api.requests import needs_any_key
from relayd.control_plane.errors import InvalidRequestError
from relayd.control_plane.models import PublicIp

router = APIRouter(tags=["Relays"])


async def _caller(request: Request) -> str:
    callers: Callers = request.app.state.callers
    if request.client is None:
        raise InvalidRequestError("This connection has no address; call the API over TCP.")
    return callers.address(request.client.host, request.headers.getlist("x-forwarded-for"))


@router.get(
    "/v1/ip",
    operation_id="ip-get",
    summary="Your public address",
    dependencies=[needs_any_key()],
    response_model=PublicIp,
    responses=fails_with(),
)
async def public_ip(caller: Annotated[str, Depends(_caller)]) -> PublicIp:
    """The address that the request comes from: what a game that is its own backend names among `users`."""
    return PublicIp(public_ip=caller)
