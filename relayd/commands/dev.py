"""`relayd dev`: relay and control plane in one process to try things out with, and a simulated game through them."""

import asyncio
import os
import secrets
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

import httpx
import typer
from rich.console import Console

from relayd import log
from relayd.app import Relay
from relayd.commands.options import Config
from relayd.control_plane.api.caller import Callers
from relayd.control_plane.server import open_control_plane
from relayd.control_plane.service import ControlPlane
from relayd.core.relay_session import RelaySession, canonical_ip
from relayd.core.source_status import Load
from relayd.errors import FatalError
from relayd.event_loop.output import print_beside_the_loop
from relayd.event_loop.run import run_loop
from relayd.http.server import HttpServer
from relayd.http.socket_path import path_to_listen_on
from relayd.http.tcp import listen
from relayd.http.tls import Certificate, trusting
from relayd.session_source import SessionTable, Source
from relayd.session_source.control_plane.follow import ControlPlaneSource
from relayd.session_source.embedded import EmbeddedLink
from relayd.settings import Settings, load
from relayd.simulation.game import Game, GameKeys
from relayd.simulation.view import players_table, show

_SEATS_WITHOUT_GAME = 4
_LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104
_READY_CHECKS = 500
_READY_CHECK_SECONDS = 0.02
_PLACEMENTS = 10
_PLACEMENT_SECONDS = 1.0
"""A relay whose heartbeat is late, on a machine busy with something else, counts as dead until the next one."""


def dev(
    players: Annotated[int, typer.Option(min=0, max=500, help="Play a simulated game with this many players.")] = 0,
    for_seconds: Annotated[
        float | None,
        typer.Option("--for", min=0.5, metavar="SECONDS", help="End after this; status 0 only if nothing was lost."),
    ] = None,
    public_ip: Annotated[
        str | None, typer.Option("--public-ip", metavar="ADDRESS", help="What sessions name as the relay's address.")
    ] = None,
    port: Annotated[
        int | None, typer.Option(min=1, max=65534, help="UDP port for hosts; the one for players is the next.")
    ] = None,
    api_port: Annotated[int | None, typer.Option("--api-port", min=1, max=65535, help="TCP port of the API.")] = None,
    config: Config = None,
) -> None:
    """Runs both, and the game if it was asked for, until the time is over or Ctrl-C."""
    loaded = _chosen(load(config), public_ip, port, api_port)
    # Beside the live table of a game, lines about every binding would only disturb.
    log.configure("warning" if players else loaded.log.level, loaded.log.format)
    print_beside_the_loop()
    raise typer.Exit(run_loop(_serve_both(_for_a_laptop(loaded), players, for_seconds)))


async def _serve_both(settings: Settings, players: int, for_seconds: float | None) -> int:
    """Serves as `dev` does.

    Returns:
        The exit status: 0, or 1 if the game lost anything or did not let somebody in.
    """
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    certificate = Certificate.configured(settings.api.tls_certificate_file, settings.api.tls_key_file, "api")
    listener = listen(settings.api.bind, "api.bind", "choose another one with --api-port")
    key = secrets.token_hex(16)
    admin_path = path_to_listen_on(settings, os.environ, keeps_state=False)
    opening = open_control_plane(settings.api, token_bits=settings.limits.token_bits, extra_key=key)
    async with opening as (control_plane, app):
        api = HttpServer(
            app,
            listener,
            most_connections=settings.api.max_connections,
            is_proxy=Callers(settings.api.trusted_proxies).trusts,
            certificate=certificate,
        )
        relay = Relay(
            settings,
            admin_path=admin_path,
            make_source=partial(_embedded_source, control_plane),
            remove_fast_path=True,
            keeps_state=False,
        )
        relaying = asyncio.create_task(relay.serve())
        serving = asyncio.create_task(api.run_until_stopped())
        try:
            await relay.until_started(relaying)
            session = await _create_session(settings, key, players or _SEATS_WITHOUT_GAME)
            console = Console(highlight=False, soft_wrap=True, markup=False)
            _introduce(console, settings, relay.admin_socket, key, session)
            game = Game(_keys(settings, session)) if players else None
            fine = await _play(console, game, over, for_seconds)
        finally:
            relay.stop()
            control_plane.release()
            api.stop()
            await asyncio.gather(relaying, serving)
    return 0 if fine else 1


def _embedded_source(
    control_plane: ControlPlane, settings: Settings, table: SessionTable, load: Callable[[], Load]
) -> Source:
    link = EmbeddedLink(control_plane, settings.relay, settings.limits)
    source = settings.source
    return ControlPlaneSource(
        link=link,
        table=table,
        keeper=None,
        poll_interval=source.poll_interval,
        shrink_hold=source.shrink_hold,
        load=load,
    )


async def _create_session(settings: Settings, key: str, players: int) -> RelaySession:
    """Creates a session as a game's backend does: over the API, then asks until it is ready."""
    api = settings.api
    url = f"{api.url}/v1/relays/sessions"
    verify = trusting(api.tls_certificate_file, "api.tls_certificate_file") if api.tls_certificate_file else True
    async with httpx.AsyncClient(headers={"authorization": f"token {key}"}, verify=verify, trust_env=False) as client:
        for _ in range(_PLACEMENTS):
            answer = await client.post(url, json={"users": [{"ip": "127.0.0.1"}] * (1 + players)})
            session = await _settled(client, url, answer)
            if not session.error:
                return session
            await asyncio.sleep(_PLACEMENT_SECONDS)
    raise FatalError(f"the control plane cannot place a session: {session.error}")


async def _settled(client: httpx.AsyncClient, url: str, answer: httpx.Response) -> RelaySession:
    """A new session once it is ready, or cannot be placed."""
    for _ in range(_READY_CHECKS):
        session = RelaySession.model_validate(answer.raise_for_status().json())
        if session.ready or session.error:
            return session
        await asyncio.sleep(_READY_CHECK_SECONDS)
        answer = await client.get(f"{url}/{session.session_id}")
    raise FatalError("the relay did not take the session within 10 s")


async def _play(console: Console, game: Game | None, over: asyncio.Event, for_seconds: float | None) -> bool:
    """Until ``over`` or the time is up. True unless the game was flawed."""
    tasks = [asyncio.create_task(game.play()), asyncio.create_task(show(game))] if game else []
    with suppress(TimeoutError):
        await asyncio.wait_for(over.wait(), for_seconds)
    if game is None:
        return True
    game.stop()
    playing, showing = tasks
    await playing
    showing.cancel()
    await asyncio.wait([showing])
    console.print(players_table(game))
    fine = game.flawless
    console.print("every player was let in and nothing was lost" if fine else "the game was NOT flawless, see above")
    return fine


def _chosen(settings: Settings, public_ip: str | None, port: int | None, api_port: int | None) -> Settings:
    """The settings with what the command line says instead."""
    relay: dict[str, object] = {}
    if public_ip is not None:
        try:
            relay["public_ip"] = canonical_ip(public_ip)
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--public-ip") from None
    if port is not None:
        relay |= {"server_port": port, "client_port": port + 1}
    api = {}
    if api_port is not None:
        api["bind"] = f"{settings.api.bind.rpartition(':')[0]}:{api_port}"
    return settings.model_copy(
        update={"relay": settings.relay.model_copy(update=relay), "api": settings.api.model_copy(update=api)}
    )


def _for_a_laptop(settings: Settings) -> Settings:
    """What suits trying things out, unless the configuration says otherwise.

    A session stays however long nobody plays, nothing is kept on disk, and webhooks may go to this machine.
    """
    limits, api = settings.limits, settings.api
    if "session_idle_timeout" not in limits.model_fields_set:
        limits = limits.model_copy(update={"session_idle_timeout": 0.0})
    if "database" not in api.model_fields_set:
        api = api.model_copy(update={"database": ":memory:"})
    if "webhook_allow_private" not in api.model_fields_set:
        api = api.model_copy(update={"webhook_allow_private": True})
    return settings.model_copy(update={"limits": limits, "api": api})


def _introduce(
    console: Console, settings: Settings, admin_socket: Path | None, key: str, session: RelaySession
) -> None:
    relay = settings.relay
    host, *players = session.session_users
    server_port, client_port = relay.named_ports
    console.print(f"relay       {relay.public_ip}, server port {server_port}, client port {client_port}")
    console.print(f"admin       {settings.admin.url}/metrics")
    if admin_socket is not None:
        console.print(f"commands    RELAYD_ADMIN__SOCKET={admin_socket} relayd top")
        console.print(f"            curl --unix-socket {admin_socket} http://localhost/v1/sessions")
    console.print(f"API         {settings.api.url}, described at {settings.api.url}/docs")
    console.print(f"API token   {key}")
    console.print(f"session     {session.session_id}, authorization token {session.authorization_token}")
    console.print(f"host        user authorization token {host.authorization_token}")
    tokens = ", ".join(str(player.authorization_token) for player in players)
    console.print(f"players     user authorization tokens {tokens}")
    console.print()
    console.print("another session, and its relay and tokens once it is ready:")
    console.print(
        f"curl -H 'Authorization: token {key}' -H 'Content-Type: application/json'"
        f""" -d '{{"users": [{{"ip": "127.0.0.1"}}, {{"ip": "127.0.0.1"}}]}}' {settings.api.url}/v1/relays/sessions"""
    )
    console.print(f"curl -H 'Authorization: token {key}' {settings.api.url}/v1/relays/sessions/SESSION_ID")
    console.print()


def _keys(settings: Settings, session: RelaySession) -> GameKeys:
    relay = settings.relay
    local = _LOOPBACK.get(relay.bind[0], relay.bind[0])
    host, *players = session.session_users
    return GameKeys(
        (local, relay.server_port),
        (local, relay.client_port),
        session.authorization_token or 0,
        host.authorization_token,
        tuple(player.authorization_token for player in players),
    )
