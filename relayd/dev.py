"""`relayd dev`: a relay to try things out with, and a simulated game through it."""

import asyncio
import secrets
import signal
from contextlib import suppress
from typing import NamedTuple

from rich.console import Console

from relayd.app import Relay
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.wire import MAX_TOKEN
from relayd.edge.source.embedded import EmbeddedSource
from relayd.settings import Settings
from relayd.simulation.game import Game, GameKeys
from relayd.simulation.view import players_table, show

_SEATS_WITHOUT_GAME = 4


class DevOptions(NamedTuple):
    """Options of the command."""

    players: int
    for_seconds: float | None


async def run_dev(settings: Settings, options: DevOptions) -> int:
    """Runs a relay with one session, and the game if it was asked for, until the time is over or Ctrl-C.

    Returns:
        The exit status: 0, or 1 if the game lost anything or did not let somebody in.
    """
    seats = options.players or _SEATS_WITHOUT_GAME
    session = SessionSpec("dev", _new_token(), tuple(UserSpec(_new_token(), None) for _ in range(1 + seats)))
    relay = Relay(
        _for_a_laptop(settings), lambda _settings, table, _load: EmbeddedSource(Snapshot.of([session]), table), True
    )
    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    serving = asyncio.create_task(relay.serve())
    await relay.until_started(serving)
    console = Console(highlight=False, soft_wrap=True)
    _introduce(console, settings, session)
    game = Game(_keys(settings, session)) if options.players else None
    try:
        fine = await _play(console, game, over, options.for_seconds)
    finally:
        relay.stop()
        await serving
    return 0 if fine else 1


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


def _for_a_laptop(settings: Settings) -> Settings:
    """The session of `relayd dev` stays however long nobody plays, unless the configuration says otherwise."""
    if "session_idle_timeout" in settings.limits.model_fields_set:
        return settings
    limits = settings.limits.model_copy(update={"session_idle_timeout": 0.0})
    return settings.model_copy(update={"limits": limits})


def _introduce(console: Console, settings: Settings, session: SessionSpec) -> None:
    relay = settings.relay
    host, *players = session.users
    console.print(f"relay       {relay.public_ip}, server port {relay.server_port}, client port {relay.client_port}")
    console.print(f"admin       http://{settings.admin.bind}/metrics and /v1/sessions")
    console.print(f"session     authorization token {session.token}")
    console.print(f"host        user authorization token {host.token}")
    console.print(f"players     user authorization tokens {', '.join(str(player.token) for player in players)}")
    console.print()


def _keys(settings: Settings, session: SessionSpec) -> GameKeys:
    relay = settings.relay
    local = next((address for address in relay.bind if address not in ("0.0.0.0", "::")), "127.0.0.1")  # noqa: S104
    host, *players = session.users
    return GameKeys(
        (local, relay.server_port),
        (local, relay.client_port),
        session.token,
        host.token,
        tuple(player.token for player in players),
    )


def _new_token() -> int:
    return 1 + secrets.randbelow(MAX_TOKEN)
