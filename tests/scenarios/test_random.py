"""Random sequences of steps: on every verdict and every byte the engine, the kernel program and the thread agree."""

import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, note, settings
from hypothesis import strategies as st

from relayd.core.wire import Port
from tests.scenarios.forwarder_world import ForwarderWorld
from tests.scenarios.scenarios import (
    HOST_TIMEOUT,
    PLAYERS,
    REBIND_AFTER,
    Bytes,
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
from tests.scenarios.skips import needs_kernel
from tests.scenarios.worlds import EngineWorld, KernelWorld, Outcome, Play, World
from tests.thread.compiled import needs_native

_peers = st.builds(
    Peer, st.integers(0, PLAYERS + 1), st.integers(0, 1).map(lambda moved: 2 * moved), st.sampled_from((4, 4, 6))
)
_payloads = st.one_of(st.binary(max_size=20), st.just(b"\x01" + bytes(9)), st.just(b"\x01cookie..."))
_datagrams = st.one_of(
    st.just(Ping()),
    st.builds(ToHost, _payloads),
    st.builds(ToPlayer, st.integers(0, PLAYERS), _payloads, st.sampled_from((-1, -1, -2))),
    st.builds(Raw, st.binary(max_size=12)),
    st.builds(Bytes, st.binary(max_size=12)),
)
_sends = st.builds(Send, _peers, st.sampled_from((Port.SERVER, Port.CLIENT)), _datagrams, st.just(""))
_steps = st.one_of(
    *[_sends] * 12,
    st.sampled_from((Wait(REBIND_AFTER + 0.01), Wait(HOST_TIMEOUT + 0.01))),
    st.builds(Revoke, st.integers(0, PLAYERS)),
)


_ATTEMPTS = 3
_WAITS = 3


def _with_few_waits(steps: list[Step]) -> list[Step]:
    """Without those that would only make it slow."""
    late = [number for number, step in enumerate(steps) if isinstance(step, Wait)][_WAITS:]
    return [step for number, step in enumerate(steps) if number not in late]


def outcomes(play: Play, steps: list[Step], before_step: Callable[[int], None]) -> list[Outcome]:
    """What became of each datagram; connection ids as the engine counts them, from 1."""
    found = []
    for number, step in enumerate(steps):
        before_step(number)
        if isinstance(step, Wait):
            play.world.wait(step.seconds)
        elif isinstance(step, Revoke):
            play.world.revoke(step.user)
        else:
            outcome = play.world.send(step.peer, step.port, play.encode(step.peer, step.datagram))
            found.append(_with_plain_id(play, step, outcome))
    return found


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


def agree(world: World, steps: list[Step]) -> bool:
    """Whether the engine alone finds the same.

    Neither kernel nor thread have another clock than their own, so the engine is given the times at which their steps
    were. A step that is held up just where a timeout ends can still fall on different sides of it; that does not happen
    each time, as a real disagreement does.
    """
    times: list[float] = []
    found = outcomes(Play(world), steps, lambda _number: times.append(time.monotonic()))
    engine = EngineWorld()

    def set_clock(number: int) -> None:
        engine.now = max(engine.now, times[number])

    engine.now = times[0]
    expected = outcomes(Play(engine), steps, set_clock)
    if found != expected:
        note(f"found  {found}")
        note(f"engine {expected}")
    return found == expected


# Each example waits in real time: to shrink one would take many minutes.
_a_few = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    print_blob=True,
    phases=(Phase.explicit, Phase.reuse, Phase.generate),
)
_sequences = st.lists(_steps, min_size=15, max_size=40).map(_with_few_waits)


@needs_kernel
@_a_few
@given(_sequences, st.sampled_from(("full", "partial", "none")))
def test_engine_and_kernel_agree(steps: list[Step], checksum: str) -> None:
    if checksum == "none" and any(isinstance(step, Send) and step.peer.family == 6 for step in steps):
        checksum = "full"

    def attempt() -> bool:
        with KernelWorld(checksum) as world:
            return agree(world, steps)

    assert any(attempt() for _ in range(_ATTEMPTS)), "they disagreed each time"


@needs_native
@_a_few
@given(_sequences, st.booleans())
def test_engine_and_forwarding_thread_agree(steps: list[Step], merge: bool) -> None:
    def attempt() -> bool:
        with ForwarderWorld(merge) as world:
            return agree(world, steps)

    assert any(attempt() for _ in range(_ATTEMPTS)), "they disagreed each time"
