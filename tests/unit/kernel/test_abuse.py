"""What the kernel program does against abuse: rates, guessed tokens, sources that cannot be."""

import time

import pytest

from relayd.core.meter import NS_PER_SECOND
from relayd.core.session import Binding
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data
from tests.scenarios.rig import PORTS, RELAY, XDP_DROP, XDP_PASS, Rig
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

SESSION, OTHER_SESSION = 0xCAFE, 0xF00D
HOST, ALICE, BOB = 1, 2, 3
HOST_AT, ALICE_AT, BOB_AT, STRANGER_AT = (f"10.77.0.{last}" for last in (50, 51, 52, 99))
PING = encode_ping(ALICE, SESSION)
DATA = encode_player_data(ALICE, SESSION, b"\x01cookie")


def played(rig: Rig) -> Rig:
    """A game of a host and Alice; Bob has yet to come."""
    rig.authorize(("game", SESSION, (HOST, ALICE, BOB)), ("other", OTHER_SESSION, (HOST,)))
    for source, port, user in ((HOST_AT, Port.SERVER, HOST), (ALICE_AT, Port.CLIENT, ALICE)):
        for _ in range(2):
            rig.handle(rig.frame(source, 7000, port, encode_ping(user, SESSION)))
    return rig


def alice(rig: Rig) -> Binding:
    binding = rig.table.sessions["game"].users[ALICE].client_binding
    assert binding is not None
    return binding


def send(rig: Rig, source: str, user: int, session: int = SESSION, source_port: int = 7000) -> Verdict:
    run, action = rig.handle(rig.frame(source, source_port, Port.CLIENT, encode_ping(user, session)))
    verdict = action.verdict if action is not None else run.verdict
    assert verdict is not None
    return verdict


# Rates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rate", [{"user_datagrams_per_second": 3}, {"user_bytes_per_second": 1200}])
def test_a_burst_passes_and_the_rest_is_dropped_by_the_kernel(rate: dict[str, object]) -> None:
    with Rig(limits=rate) as rig:
        frame = played(rig).frame(ALICE_AT, 7000, Port.CLIENT, DATA)
        while (run := rig.run(frame)).verdict is not Verdict.RATE_LIMITED:
            assert run.verdict is Verdict.FORWARDED
        assert run.exit == XDP_DROP
        rig.fast_path.absorb(rig.table.sessions.values())
        assert (rig.table.sessions["game"].drops or {})[Verdict.RATE_LIMITED] == 1
        assert rig.engine.counters.datagrams[Port.CLIENT][Verdict.RATE_LIMITED] == 1
        noted = [(refusal.verdict, spell.times) for refusal, spell in rig.table.history.sessions[SESSION].refusals]
        assert noted == [(Verdict.RATE_LIMITED, 1)]
        assert rig.table.presence.last_heard(alice(rig)) > time.monotonic() - 60


def test_the_host_has_a_rate_of_its_own() -> None:
    with Rig(limits={"user_datagrams_per_second": 1}) as rig:
        session = played(rig).table.sessions["game"]
        frame = rig.frame(
            HOST_AT, 7000, Port.SERVER, encode_host_data(HOST, SESSION, session.users[ALICE].connection_id, b"x")
        )
        assert {rig.run(frame).verdict for _ in range(50)} == {Verdict.FORWARDED}


def test_what_was_let_through_goes_with_a_binding_from_engine_to_kernel_and_back() -> None:
    with Rig(limits={"user_datagrams_per_second": 1, "user_bytes_per_second": 5000}) as rig:
        binding, mirror = alice(played(rig)), rig.fast_path.mirror
        meter = binding.meter
        assert meter is not None
        mirror.unlink(binding)
        assert meter.bytes_due_ns > 0
        later_ns = meter.datagrams_due_ns = time.monotonic_ns() + 1000 * NS_PER_SECOND
        rig.table.watch(binding.user.session, time.monotonic())
        rig.table.unwatch(binding.user.session, time.monotonic())
        mirror.flush()
        assert rig.run(rig.frame(ALICE_AT, 7000, Port.CLIENT, PING)).verdict is Verdict.RATE_LIMITED
        meter.datagrams_due_ns = 0
        mirror.unlink(binding)
        assert meter.datagrams_due_ns == later_ns


def test_sessions_with_a_rate_are_left_to_the_engine() -> None:
    with Rig(limits={"session_datagrams_per_second": 1000}) as rig:
        assert played(rig).fast_path.bindings_served == 0
        assert rig.run(rig.frame(ALICE_AT, 7000, Port.CLIENT, PING)).exit == XDP_PASS


# Guesses -------------------------------------------------------------------------------------------------------

ONE_OF_THEM = {"unknown_per_source_per_second": 1, "unknown_per_second": 1}
"""That much is passed up, so that the engine alone would not notice a search."""


def test_a_search_that_the_kernel_keeps_from_the_engine_finds_nothing_all_the_same() -> None:
    with Rig(fast_path=dict(ONE_OF_THEM)) as rig:
        played(rig)
        for guess in range(60):
            send(rig, STRANGER_AT, 1000 + guess)
        assert rig.engine.counters.datagrams[Port.CLIENT][Verdict.UNKNOWN_PAIR] <= 2
        assert send(rig, STRANGER_AT, BOB) is Verdict.GUESS_LIMITED
        # It came from one source, and nobody else is held back.
        assert send(rig, BOB_AT, BOB) is Verdict.ANSWERED
        assert send(rig, ALICE_AT, ALICE) is Verdict.ANSWERED


@pytest.mark.parametrize("family", [4, 6])
def test_a_search_from_invented_sources(family: int) -> None:
    with Rig(fast_path=dict(ONE_OF_THEM)) as rig:
        played(rig)
        for guess in range(150):
            send(rig, f"10.77.1.{1 + guess}" if family == 4 else f"fd77:0:0:{guess:x}::1", 1000 + guess)
        assert send(rig, BOB_AT, BOB) is Verdict.GUESS_LIMITED
        assert send(rig, ALICE_AT, ALICE) is Verdict.ANSWERED


def test_unknown_sessions_and_ended_ones_are_no_guesses() -> None:
    with Rig(fast_path=dict(ONE_OF_THEM)) as rig:
        guesses = rig.program.map("guesses")
        played(rig)
        assert len(dict(guesses.items())) == 2
        for session in range(100):
            send(rig, STRANGER_AT, ALICE, 5000 + session)
        assert send(rig, STRANGER_AT, BOB) is Verdict.ANSWERED
        rig.authorize(("game", SESSION, (HOST, ALICE)))
        assert [int.from_bytes(key, "little") for key, _ in guesses.items()] == [SESSION]


def test_a_new_process_forgets_the_sessions_of_the_one_before() -> None:
    with Rig() as rig:
        played(rig)
        rig.start(adopt=True)
        assert dict(rig.program.map("guesses").items()) == {}
        rig.authorize(("other", OTHER_SESSION, (HOST,)))
        assert len(dict(rig.program.map("guesses").items())) == 1


def test_without_room_for_a_session_the_engine_goes_by_what_it_sees() -> None:
    with Rig(authorized=2, bound=4, fast_path={"unknown_per_source_per_second": 100}) as rig:
        rig.authorize(*((f"game-{number}", 100 + number, (HOST, ALICE)) for number in range(3)))
        rig.fast_path._write_control()
        for guess in range(60):
            send(rig, STRANGER_AT, 1000 + guess, 102)
        assert send(rig, STRANGER_AT, ALICE, 102) is Verdict.GUESS_LIMITED


# Sources -------------------------------------------------------------------------------------------------------

BAD = [
    (STRANGER_AT, 0),
    ("224.0.0.1", 7000),
    ("255.255.255.255", 7000),
    ("240.0.0.1", 7000),
    ("0.0.0.0", 7000),
    ("ff02::1", 7000),
    ("::", 7000),
    (RELAY[4], PORTS[Port.CLIENT]),
    (RELAY[6], PORTS[Port.SERVER]),
    ("127.0.0.1", PORTS[Port.CLIENT]),
    ("127.9.9.9", PORTS[Port.CLIENT]),
]


@pytest.mark.parametrize(("source", "source_port"), BAD)
def test_bad_sources_are_dropped_by_kernel_and_engine_alike(source: str, source_port: int) -> None:
    with Rig(limits={"rebind_after": 3600.0}) as rig:
        played(rig)
        for user in (77, BOB, ALICE):
            frame = rig.frame(source, source_port, Port.CLIENT, encode_ping(user, SESSION))
            run = rig.run(frame)
            assert (run.exit, run.verdict) == (XDP_DROP, Verdict.BAD_SOURCE)
        endpoint = rig.endpoints[2 * (":" in source) + Port.CLIENT]
        action = rig.engine.handle(endpoint, PING, (source, source_port, 0, 0)[: 4 if ":" in source else 2], 1e9)
        assert action.verdict is Verdict.BAD_SOURCE


@pytest.mark.parametrize(
    ("source", "source_port"),
    [
        # Below and above the relay's ports in either byte.
        *((RELAY[4], port) for port in (1, 255, 256, 7000, 65280, 65535)),
        (STRANGER_AT, PORTS[Port.CLIENT]),
        ("223.255.255.255", 7000),
    ],
)
def test_others_only_look_like_it(source: str, source_port: int) -> None:
    with Rig() as rig:
        played(rig)
        assert send(rig, source, BOB, source_port=source_port) is Verdict.ANSWERED
