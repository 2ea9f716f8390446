"""Random sequences of steps: on every verdict and every byte, all engines agree with the core engine.

All of them are on a virtual clock and see the same times, to the nanosecond.
"""

from collections.abc import Iterator, Mapping

import pytest
from hypothesis import Phase, given, note, settings
from hypothesis import strategies as st

from relayd.core.wire import Port
from tests.scenarios import kernel_world
from tests.scenarios.kernel_world import Kernel
from tests.scenarios.play import LoopbackPlaces, Outcome, Places, Play, World
from tests.scenarios.scenario import HOST_TIMEOUT, REBIND_AFTER, SILENT, Scenario
from tests.scenarios.skips import needs_virtual_kernel, needs_virtual_thread
from tests.scenarios.socket_worlds import ThreadWorld
from tests.scenarios.steps import (
    OWN,
    PLAYERS,
    Begin,
    Bytes,
    Datagram,
    Drain,
    End,
    Peer,
    Ping,
    Raw,
    Revoke,
    Send,
    Step,
    ToHost,
    ToPlayer,
    Wait,
)
from tests.scenarios.worlds import EngineWorld, NaiveWorld
from tests.support.virtual_clock import TICK

USER_TIMEOUT, IDLE_TIMEOUT = 4.0, 16.0
TIMES: dict[str, object] = {"user_timeout": USER_TIMEOUT, "session_idle_timeout": IDLE_TIMEOUT}
FEW_GUESSES: dict[str, object] = {"guesses_per_second": 4, "guesses_per_source_per_second": 2}
LIMITS: list[dict[str, object]] = [
    {},
    TIMES,
    {"pin_ip": True},
    {"max_bound_users": 2},
    {"host_policy": "strict"},
    {"host_policy": "any"},
    {"denied_networks": ["10.77.0.52/31", "127.77.0.52", "f000::/6"]},
    {"user_datagrams_per_second": 4, "host_datagrams_per_second": 8},
    {"user_bytes_per_second": 1280, "host_bytes_per_second": 2560},
    {"session_datagrams_per_second": 8, "user_datagrams_per_second": 4},
    {"session_bytes_per_second": 2560, "host_datagrams_per_second": 4},
    {"refusals_per_second": 4, "refusals_per_source_per_second": 2},
    FEW_GUESSES,
    {"guesses_per_second": 2, "guesses_per_source_per_second": 4},
    {**TIMES, **FEW_GUESSES, "user_datagrams_per_second": 2, "max_bound_users": 3, "rebind_after": 0},
    {**FEW_GUESSES, "pin_ip": True, "connection_id_policy": "per_address"},
]
"""Rates, per second, that give times which are exact in a double."""
NAMED: list[dict[int, Peer]] = [{}, {0: Peer(0), 1: Peer(1, 2), 2: Peer(2)}]
"""From where users are authorized."""

_addresses = st.integers(0, 1).map(lambda moved: 2 * moved)
_families = st.sampled_from((4, 4, 6))
_no = st.none()
"""Where nothing else may be drawn."""
_members = st.integers(0, PLAYERS)
_users = st.one_of(*[_members] * 6, st.integers(PLAYERS + 1, PLAYERS + 20))
_own = st.builds(Peer, _users, st.just(OWN), _families, st.sampled_from((Port.SERVER, Port.CLIENT)))
_peers = st.one_of(*[st.builds(Peer, _users, _addresses, _families, _no)] * 12, _own)
_payloads = st.one_of(
    st.binary(max_size=20),
    st.just(b"\x01" + bytes(9)),
    st.just(b"\x01cookie..."),
    st.sampled_from((300, 1187)).map(bytes),
)
_datagrams: st.SearchStrategy[Datagram] = st.one_of(
    st.just(Ping()),
    st.builds(ToHost, _payloads),
    st.builds(ToPlayer, _members, _payloads, st.sampled_from((-1, -1, -2))),
    st.builds(Raw, st.binary(max_size=12)),
    st.builds(Bytes, st.binary(max_size=12)),
)
_sends = st.builds(Send, _peers, st.sampled_from((Port.SERVER, Port.CLIENT)), _datagrams, st.just(""), _no)
_waits = st.sampled_from(
    (
        TICK,
        TICK,
        0.125,
        0.25,
        REBIND_AFTER - TICK,
        REBIND_AFTER,
        HOST_TIMEOUT,
        USER_TIMEOUT,
        10.0 - TICK,
        10.0,
        IDLE_TIMEOUT,
        60.0,
    )
)
_happenings: st.SearchStrategy[Step] = st.one_of(
    *[st.builds(Wait, _waits)] * 4,
    st.builds(Revoke, _members),
    st.builds(Begin),
    st.builds(End),
    st.builds(Drain, st.booleans()),
)


@st.composite
def _repeated(draw: st.DrawFn) -> list[Step]:
    """One of them over and over, as whoever floods or does not understand a refusal."""
    again: list[Step] = [draw(_sends)] * draw(st.integers(2, 12))
    return again


@st.composite
def _games(draw: st.DrawFn) -> list[Step]:
    """A host and a player who play on."""
    host, player = draw(st.builds(Peer, st.integers(0, 1), _addresses, _families, _no)), draw(_peers)
    there = Send(host, Port.SERVER, Ping(), "")
    here = Send(player, Port.CLIENT, ToHost(draw(_payloads)), "")
    back = Send(host, Port.SERVER, ToPlayer(player.user, draw(_payloads)), "")
    return [there, there, here, here, back]


@st.composite
def _searches(draw: st.DrawFn) -> list[Step]:
    """Somebody tries one user token after another, and maybe finds one."""
    source = draw(st.builds(Peer, _members, _addresses, _families, _no))
    tried = range(PLAYERS + 1, PLAYERS + 1 + draw(st.integers(2, 12)))
    users = [*tried, source.user][: draw(st.sampled_from((None, None, -1)))]
    return [Send(source._replace(user=user), Port.CLIENT, Ping(), "") for user in users]


@st.composite
def _knocks(draw: st.DrawFn) -> list[Step]:
    """A right token that keeps coming, while others are tried."""
    source = draw(st.builds(Peer, _members, _addresses, _families, _no))
    elsewhere = draw(st.builds(Peer, _members, _addresses, _families, _no))
    wait, guesses = draw(st.sampled_from((0.25, 0.5, 1.0, 1.0 + TICK))), draw(st.integers(0, 12))
    steps: list[Step] = []
    for number in range(draw(st.integers(3, 14))):
        users = range(100 + guesses * number, 100 + guesses * (number + 1))
        steps += [Send(elsewhere._replace(user=user), Port.CLIENT, Ping(), "") for user in users]
        steps += [Send(source, Port.CLIENT, Ping(), ""), Wait(wait)]
    return steps


_one: st.SearchStrategy[list[Step]] = st.one_of(*[_sends] * 6, _happenings).map(lambda step: [step])
_parts = st.one_of(*[_one] * 12, _repeated(), _games(), _searches(), _knocks())
_sequences = st.lists(_parts, min_size=8, max_size=40).map(lambda parts: [step for part in parts for step in part])


@st.composite
def relays(draw: st.DrawFn) -> Scenario:
    """What is to happen, at a relay with some limits."""
    return Scenario(draw(_sequences), draw(st.sampled_from(LIMITS)), named=draw(st.sampled_from(NAMED)))


def outcomes(world: World, steps: list[Step]) -> Iterator[tuple[Step, Outcome]]:
    """What became of each datagram; connection ids by their number, from 1, among those of a player."""
    play = Play(world)
    for step in steps:
        if isinstance(step, Send):
            outcome = world.send(step.peer, step.port, play.encode(step.peer, step.datagram))
            yield step, _with_plain_id(play, step, outcome)
        else:
            play.happen(step)


def _with_plain_id(play: Play, step: Send, outcome: Outcome) -> Outcome:
    if outcome.heard is None or outcome.verdict != "forwarded" or step.port is Port.SERVER:
        return outcome
    to, datagram = outcome.heard
    connection = int.from_bytes(datagram[1:5], "little")
    known = play.connections.setdefault(step.peer.user, [])
    if connection not in known:
        known.append(connection)
    plain = len(known) if connection == known[-1] else 0
    return Outcome(outcome.verdict, (to, datagram[:1] + bytes([plain]) + datagram[5:]))


def assert_agrees(world: World, relay: Scenario, places: Places) -> None:
    """The engine alone finds the same."""
    note(f"limits {relay.limits}, authorized from {relay.named}")
    found = outcomes(world, relay.steps)
    expected = outcomes(EngineWorld(relay, places), relay.steps)
    for number, ((step, here), (_, there)) in enumerate(zip(found, expected, strict=True)):
        assert here == there, f"datagram {number}, {step}: {here}, and the engine says {there}"


# To shrink a failure takes minutes and finds little: the steps are printed as they were.
_many = settings(phases=(Phase.explicit, Phase.reuse, Phase.generate))


@settings(_many, max_examples=200)
@given(relays())
def test_engine_and_naive_relay_agree(relay: Scenario) -> None:
    assert_agrees(NaiveWorld(relay), relay, Places())


@pytest.fixture(scope="module")
def kernel() -> Iterator[Kernel]:
    with kernel_world.loaded() as kernel:
        yield kernel


@needs_virtual_kernel
@settings(_many, max_examples=100)
@given(relays(), st.sampled_from(("full", "partial", "none")))
def test_engine_and_kernel_program_agree(kernel: Kernel, relay: Scenario, checksum: str) -> None:
    assert_agrees(kernel.world(relay, checksum), relay, Places())


@needs_virtual_kernel
@settings(_many, max_examples=50)
@given(relays(), st.sampled_from(("full", "partial", "none")))
def test_they_agree_where_the_program_passes_no_unknown_token_up(
    kernel: Kernel, relay: Scenario, checksum: str
) -> None:
    limits: Mapping[str, object] = {**relay.limits, "refusals_per_second": 0}
    silent = relay._replace(limits=limits, fast_path=SILENT)
    assert_agrees(kernel.world(silent, checksum), silent, Places())


@needs_virtual_thread
@settings(_many, max_examples=100)
@given(relays(), st.booleans())
def test_engine_and_forwarding_thread_agree(relay: Scenario, merge: bool) -> None:
    with ThreadWorld(relay, merge) as world:
        assert_agrees(world, relay, LoopbackPlaces())
