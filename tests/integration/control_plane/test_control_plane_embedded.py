"""Inside another process' loop, as `relayd dev` runs it."""

import asyncio
import signal
import socket

import httpx
import uvloop

from bench.ports import free_port
from relayd.control_plane.models import CreateRequest
from relayd.control_plane.node_models import Heartbeat
from relayd.control_plane.server import open_control_plane
from relayd.http.server import HttpServer
from relayd.http.tcp import listen
from relayd.settings import ApiSettings


def test_service_and_server_in_a_loop_of_ours() -> None:
    async def work() -> None:
        address = f"127.0.0.1:{free_port(socket.SOCK_STREAM)}"
        listener = listen(address, "api.bind")
        before = signal.getsignal(signal.SIGTERM)
        async with open_control_plane(ApiSettings(database=":memory:"), extra_key="made-here") as (plane, app):
            server = HttpServer(app, listener, most_connections=10)
            serving = asyncio.create_task(server.run_until_stopped())
            beat = Heartbeat(ip="127.0.0.1", host="localhost", server_port=1, client_port=2, capacity=9, load=0)
            newest = await plane.heartbeat("here", beat)
            session = await plane.create(CreateRequest.model_validate({"users": ["127.0.0.1"]}))
            page = await plane.node_sessions("here", since=newest.revision, epoch=newest.epoch)
            assert [one.session_id for one in page.sessions] == [session.session_id]
            assert page.sessions[0].spec() is not None
            await plane.heartbeat("here", beat.model_copy(update={"epoch": page.epoch, "revision": page.revision}))
            async with httpx.AsyncClient(trust_env=False, headers={"Authorization": "token made-here"}) as client:
                answer = await client.get(f"http://{address}/v1/relays/sessions/{session.session_id}")
                assert answer.json()["status"] == "Ready"
            assert signal.getsignal(signal.SIGTERM) is before
            held = asyncio.create_task(
                plane.heartbeat(
                    "here", beat.model_copy(update={"epoch": page.epoch, "revision": page.revision}), wait=30
                )
            )
            await asyncio.sleep(0)
            plane.release()
            server.stop()
            await asyncio.wait_for(asyncio.gather(serving, held), 5)

    uvloop.run(work())
