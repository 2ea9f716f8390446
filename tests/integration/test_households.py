"""How long a right player takes to get in beside others who send wrong tokens, on each engine. Printed: `pytest -s`."""

import itertools
import random
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.config import SessionKeys, new_session, with_forwarder
from tests.integration.fast_path import bpf_file_system, on_loopback, own_network
from tests.integration.peers import INVALID, PING, VALID, Player
from tests.integration.relay_process import RelayProcess
from tests.scenarios.skips import needs_kernel

DEFAULTS = {"guesses_per_source_per_second": 20, "guesses_per_second": 50, "refusals_per_source_per_second": 10}
HOUSEHOLD = "127.0.0.9"
SEARCHING = ("127.0.7.1", "127.0.7.2", "127.0.7.3")
SEARCH_SECONDS, GROUP_SECONDS = 8.0, 3.3
PLAYER_INTERVAL_SECONDS = 1 / 7
"""Between two datagrams of a real client that is not let in."""


@pytest.fixture(params=["native", "python", pytest.param("fp", marks=needs_kernel)])
def start(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[SessionKeys], RelayProcess]]:
    """Starts a relay with the limits that it has by default."""
    with ExitStack() as stack:
        sections = with_forwarder("auto" if request.param == "fp" else request.param, {"limits": dict(DEFAULTS)})
        if request.param == "fp":
            stack.enter_context(own_network())
            sections |= on_loopback(stack.enter_context(bpf_file_system(tmp_path / "bpf")))
        folder = tmp_path / "relay"
        folder.mkdir()
        yield lambda session: stack.enter_context(RelayProcess(folder, [session], sections))


@contextmanager
def sending(interval_seconds: float, *datagrams: Callable[[], object]) -> Iterator[None]:
    """Each of them again and again until the end of the block."""
    over = threading.Event()

    def work() -> None:
        while not over.wait(interval_seconds):
            for send in datagrams:
                send()

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def say(request: pytest.FixtureRequest, what: str) -> None:
    sys.stdout.write(f"\n{request.node.name}: {what}\n")


def until_in(player: Player) -> float:
    """Seconds until it is told Valid, sending as a client that is not let in does."""
    began = time.monotonic()
    while True:
        player.send_ping()
        try:
            if player.receive(PLAYER_INTERVAL_SECONDS) == VALID:
                return time.monotonic() - began
        except AssertionError:
            assert time.monotonic() < began + 60, "not let in within a minute"


def from_(ip: str, relay: RelayProcess, user: int, session: SessionKeys) -> Player:
    return Player(relay.address("client"), user, session.token, bind=(ip, 0))


def go_on(player: Player, relay: RelayProcess) -> None:
    """As for some seconds."""
    before = relay.counts()
    for _ in range(150):
        player.send_ping()
    relay.counted_since(before, 150)


def test_beside_a_stale_client_of_the_same_household(
    start: Callable[[SessionKeys], RelayProcess], request: pytest.FixtureRequest
) -> None:
    session = new_session("household", players=2)
    relay = start(session)
    wrong = next(token for token in itertools.count(1) if token not in session.users)
    with (
        from_(HOUSEHOLD, relay, wrong, session) as stale,
        from_(HOUSEHOLD, relay, session.players[0], session) as player,
        sending(1 / 30, stale.send_ping),
    ):
        assert stale.receive() == INVALID
        go_on(stale, relay)
        say(request, f"in after {until_in(player):.2f} s")


def test_beside_a_user_that_was_revoked_in_play(
    start: Callable[[SessionKeys], RelayProcess], request: pytest.FixtureRequest
) -> None:
    session = new_session("kicked", players=3)
    relay = start(session)
    with (
        from_(HOUSEHOLD, relay, session.players[0], session) as kicked,
        from_(HOUSEHOLD, relay, session.players[1], session) as player,
    ):
        kicked.ping_until(VALID)
        relay.write_sessions([SessionKeys(session.session_id, session.token, (session.host, *session.players[1:]))])
        answers = kicked.ping_until(INVALID)
        assert set(answers[:-1]) <= {VALID}, "never anything else"
        go_on(kicked, relay)
        with sending(1 / 60, kicked.send_ping):
            say(request, f"in after {until_in(player):.2f} s")


def test_beside_three_addresses_that_search(
    start: Callable[[SessionKeys], RelayProcess], request: pytest.FixtureRequest
) -> None:
    session = new_session("searched", players=2)
    relay = start(session)
    tokens = (token for token in itertools.count(1) if token not in session.users)
    with ExitStack() as stack:
        searchers = [stack.enter_context(from_(ip, relay, 1, session)) for ip in SEARCHING]

        def guess() -> None:
            for one in searchers:
                one.send(struct.pack("<II", next(tokens), session.token) + PING)

        player = stack.enter_context(from_(HOUSEHOLD, relay, session.players[0], session))
        # What they would have come to after a while: above the bound of the session, each within its own.
        for one in [stack.enter_context(from_(f"127.0.8.{last}", relay, 1, session)) for last in range(1, 11)]:
            for _ in range(12):
                one.send(struct.pack("<II", next(tokens), session.token) + PING)
        stack.enter_context(sending(1 / 19, guess))
        say(request, f"in after {until_in(player):.2f} s")


def test_how_many_tokens_a_search_tries_a_second(
    start: Callable[[SessionKeys], RelayProcess], request: pytest.FixtureRequest
) -> None:
    """All are right ones, so that each that is tried shows. Each comes for seconds, as from a clever searcher."""
    session = new_session("tried", players=1000)
    relay = start(session)
    wrong = (token for token in itertools.count(1) if token not in session.users)
    began = time.monotonic()
    sent = itertools.count()
    with ExitStack() as stack:
        searchers = [stack.enter_context(from_(f"127.0.8.{last}", relay, 1, session)) for last in range(1, 31)]

        trying: dict[int, Player] = {}

        def try_one(searcher: Player, token: int) -> None:
            searcher.send(struct.pack("<II", token, session.token) + PING)

        def search() -> None:
            first = int((time.monotonic() - began) / GROUP_SECONDS) * 2 * len(searchers)
            group = session.players[first : first + 2 * len(searchers)]
            for token in trying.keys() - set(group):
                trying.pop(token).close()
            for number, token in enumerate(group):
                if token not in trying:
                    # From a port of its own: where two are let in at one, the first is unbound a second later.
                    trying[token] = stack.enter_context(from_(f"127.0.8.{1 + number // 2}", relay, 1, session))
                try_one(trying[token], token)
                next(sent)
            for one in random.sample(searchers, 2):
                try_one(one, next(wrong))

        for _ in range(10):
            for one in searchers:
                try_one(one, next(wrong))
        before = relay.metrics()["relayd_users", "player"]
        began = time.monotonic()
        with sending(0.01, search):
            threading.Event().wait(SEARCH_SECONDS)
        lasted = time.monotonic() - began
        tried = relay.metrics()["relayd_users", "player"] - before
        say(request, f"{tried / lasted:.1f} tokens tried a second, with {next(sent) / lasted:.0f} datagrams a second")
        assert tried <= (DEFAULTS["guesses_per_second"] + 20) * (lasted + 1)
