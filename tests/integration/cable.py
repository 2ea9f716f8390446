"""Tests in networks of their own, such as a relay, a host beside it and a player at the other end of a cable.

The networks are made by this process if it may, else by one that is root of a user namespace.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.integration.config import SessionKeys, new_sessions, with_forwarder
from tests.integration.namespaces import (
    Namespace,
    as_root_of_a_user_namespace,
    connect,
    may_make_networks,
    missing_program,
)
from tests.integration.peers import OPENS_CONNECTION, VALID, Host, Player
from tests.integration.programs import REPOSITORY
from tests.integration.relay_process import RelayProcess, environment

INSIDE = "RELAY_TESTS_INSIDE_A_USER_NAMESPACE"
RELAY_IP = "10.77.0.1"
PLAYER_IP = "10.77.0.2"


class Cabled(NamedTuple):
    """A relay, a host beside it, and a player at the other end of a cable."""

    relay: RelayProcess
    here: Namespace
    there: Namespace
    session: SessionKeys
    host: Host
    player: Player
    connection_id: int


Test = Callable[[Path, str, pytest.FixtureRequest], None]


def with_cable(test: Callable[[Cabled], None]) -> Test:
    """Gives a test its networks, and what is in them."""

    def run(tmp_path: Path, forwarder: str, stack: ExitStack) -> None:
        test(_lay_cable(tmp_path, forwarder, stack))

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return with_networks(run)


def with_networks(test: Callable[[Path, str, ExitStack], None]) -> Test:
    """Lets a test make networks of its own, which end with the stack that it gets."""

    def run(tmp_path: Path, forwarder: str, request: pytest.FixtureRequest) -> None:
        if missing := missing_program():
            pytest.skip(f"not installed: {missing}")
        if may_make_networks():
            with ExitStack() as stack:
                test(tmp_path, forwarder, stack)
        else:
            _run_in_a_user_namespace(request.node.nodeid, tmp_path)

    run.__name__, run.__doc__ = test.__name__, test.__doc__
    return run


def _lay_cable(folder: Path, forwarder: str, stack: ExitStack) -> Cabled:
    session, *_ = keys = new_sessions("cabled", "another")
    overrides = with_forwarder(forwarder, {"relay": {"bind": ["127.0.0.1", RELAY_IP], "send_buffer_bytes": 1}})
    here, there = stack.enter_context(Namespace()), stack.enter_context(Namespace())
    connect(here, RELAY_IP, there, PLAYER_IP)
    relay = RelayProcess(folder, keys, overrides)
    here.run(relay.__enter__)
    stack.push(lambda *error: here.run(relay.__exit__, *error))
    host = stack.enter_context(here.run(relay.host, session))
    player = stack.enter_context(there.run(relay.player, session, ip=RELAY_IP))
    assert (host.ping(), player.ping()) == (VALID, VALID)
    player.say(OPENS_CONNECTION)
    return Cabled(relay, here, there, session, host, player, host.hear()[0])


def _run_in_a_user_namespace(test: str, folder: Path) -> None:
    options = ["-q", "-p", "no:cacheprovider", f"--basetemp={folder / 'inside'}"]
    command = as_root_of_a_user_namespace([sys.executable, "-m", "pytest", *options, test])
    if command is None or INSIDE in os.environ:
        pytest.skip("needs root, or user namespaces for everybody")
    done = subprocess.run(
        command, cwd=REPOSITORY, env={**environment(), INSIDE: "1"}, capture_output=True, text=True, check=False
    )
    if done.returncode != 0 or "1 passed" not in done.stdout:
        pytest.fail(done.stdout + done.stderr, pytrace=False)
