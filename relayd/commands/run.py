"""`relayd run`: a relay as a process, with its signals, its service manager and the sockets that were kept for it."""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

import typer

from relayd import log
from relayd.app import Relay
from relayd.commands.options import Config
from relayd.event_loop.output import drain_outputs
from relayd.event_loop.run import run_loop
from relayd.http.socket_path import path_to_listen_on, runtime_directory
from relayd.settings import Settings, load
from relayd.supervision.kept_sockets import take_kept_sockets
from relayd.supervision.liveness import EXTENSION
from relayd.supervision.service_manager import ServiceManager
from relayd.supervision.successor import Successor

_SWITCH_SECONDS = 0.0005


def run(
    config: Config = None,
    detach_on_exit: Annotated[
        bool, typer.Option("--detach-on-exit", help="Take the kernel fast path off at the end, instead of leaving it.")
    ] = False,
) -> None:
    """Serves until a signal ends it, or an upgrade replaces it."""
    loaded = load(config)
    log.configure(loaded.log.level, loaded.log.format)
    successor = run_loop(_serve(loaded, detach_on_exit, config))
    if successor is not None:
        drain_outputs()
        successor.replace_this_program()


async def _serve(loaded: Settings, remove_fast_path: bool, config: Path | None) -> Successor | None:
    """SIGINT ends it, SIGTERM as the settings say; SIGHUP has it read its source again.

    Args:
        loaded: the whole configuration.
        remove_fast_path: see `Relay`.
        config: see `Relay`.

    Returns:
        What is to replace this program, if it ended for an upgrade.
    """
    environment = dict(os.environ)
    # So that no thread keeps the loop waiting for the interpreter's lock: 5 ms is the default.
    sys.setswitchinterval(_SWITCH_SECONDS)
    manager = ServiceManager.from_environment(os.environ)
    if manager is not None:
        # The first, before anything that may take a while on a busy machine.
        manager.tell(EXTENSION)
    admin_path = path_to_listen_on(loaded, environment)
    relay = Relay(
        loaded,
        admin_path=admin_path,
        remove_fast_path=remove_fast_path,
        in_memory=runtime_directory(environment),
        manager=manager,
        kept=take_kept_sockets(os.environ, loaded.relay, manager, admin_path),
        environment=environment,
        config=config,
    )
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, relay.terminate)
    loop.add_signal_handler(signal.SIGINT, relay.stop)
    loop.add_signal_handler(signal.SIGHUP, relay.reload)
    await relay.serve()
    if relay.successor is not None:
        relay.successor.hold_reloads()
    return relay.successor
