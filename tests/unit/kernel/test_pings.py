"""The PINGs that the kernel program answers: counted as the core would, and with it."""

import random
import struct
import time
from collections.abc import Iterator

import pytest

from relayd.core.pings import LONGEST_INTERVAL_NS, Pings
from relayd.core.session import Binding
from relayd.core.wire import Port, encode_ping
from tests.scenarios.rig import XDP_PASS, XDP_TX, Rig
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

SESSION, USER = 0xBEEF, 2
AT, ELSEWHERE = ("10.77.0.60", 8000), ("10.77.0.61", 8000)
PING = encode_ping(USER, SESSION)
_ENTRY = struct.Struct("<4Q")
Numbers = tuple[int, int, int, int]


@pytest.fixture
def rig() -> Iterator[Rig]:
    with Rig(limits={"rebind_after": 0, "connection_id_policy": "stable"}) as made:
        made.authorize(("s", SESSION, (1, USER)))
        yield made


def ping(rig: Rig, source: tuple[str, int] = AT) -> int:
    """One PING, wherever it is answered. Returns what the program did with it."""
    return rig.handle(rig.frame(*source, Port.CLIENT, PING))[0].exit


def binding_of(rig: Rig) -> Binding:
    binding = rig.table.by_token[SESSION].users[USER].client_binding
    assert binding is not None
    return binding


def slot_of(rig: Rig) -> int:
    return rig.fast_path.mirror.slot_of[binding_of(rig)]


def numbers(pings: Pings | None) -> Numbers:
    assert pings is not None
    return pings.last_ns, pings.heard, pings.missed, pings.jitter_sixteenths_ns


def answered(rig: Rig) -> Numbers:
    return numbers(rig.fast_path.mirror.traffic.pings(slot_of(rig)))


def set_answered(rig: Rig, entry: Numbers) -> None:
    rig.program.map("pings").put(slot_of(rig), _ENTRY.pack(*entry))


def test_the_arithmetic_is_that_of_the_core(rig: Rig) -> None:
    """The program's clock cannot be set, but when it heard the one before can be."""
    chance = random.Random(7)
    assert ping(rig) == XDP_PASS
    assert answered(rig) == (0, 0, 0, 0)
    for _ in range(300):
        longest = chance.choice((2_000_000_000, LONGEST_INTERVAL_NS * 2))
        ago_ns = chance.randrange(-50_000_000, longest)
        last_ns = max(0, time.monotonic_ns() - ago_ns)
        before = last_ns, chance.randrange(1 << 40), chance.randrange(1 << 40), chance.randrange(1 << 34)
        set_answered(rig, before)
        assert ping(rig) == XDP_TX
        after = answered(rig)
        if after[0] == before[0]:
            assert ago_ns < 0
            assert after == (before[0], before[1] + 1, *before[2:])
            continue
        core = Pings(*before)
        core.note(after[0])
        assert after == numbers(core)


def test_kernel_and_engine_together_hear_every_one(rig: Rig) -> None:
    """However a binding passes from one to the other."""
    exits = [ping(rig) for _ in range(3)]
    session = rig.table.by_token[SESSION]
    rig.table.watch(session, time.monotonic())
    exits += [ping(rig) for _ in range(2)]
    rig.table.unwatch(session, time.monotonic())
    rig.fast_path.mirror.flush()
    exits += [ping(rig), ping(rig, ELSEWHERE), ping(rig, ELSEWHERE)]
    up, here = XDP_PASS, XDP_TX
    assert exits == [up, here, here, up, up, here, up, here]
    assert numbers(rig.table.presence.pings(binding_of(rig)))[1] == len(exits)


def test_what_was_missed_stays_and_the_interval_across_a_change_is_not_counted(rig: Rig) -> None:
    for _ in range(2):
        ping(rig)
    _, heard, missed, jitter = answered(rig)
    assert (heard, missed, jitter) == (1, 0, 0)
    last_ns = time.monotonic_ns() - 3_000_000_000
    by_engine = binding_of(rig).pings
    assert by_engine is not None
    by_engine.last_ns = last_ns - 500_000_000
    set_answered(rig, (last_ns, 9, 4, 160))
    rig.table.watch(rig.table.by_token[SESSION], time.monotonic())
    ping(rig)
    assert numbers(rig.table.presence.pings(binding_of(rig)))[1:] == (11, 4, 160)


def test_one_that_goes_up_breaks_the_interval(rig: Rig) -> None:
    for _ in range(2):
        ping(rig)
    assert answered(rig)[0]
    assert rig.run(rig.frame(*AT, Port.CLIENT, PING + b"more")).exit == XDP_PASS
    assert answered(rig) == (0, 1, 0, 0)


def test_a_slot_that_is_given_out_again_begins_anew(rig: Rig) -> None:
    for _ in range(2):
        ping(rig)
    slot = slot_of(rig)
    rig.fast_path.mirror.traffic.begin(slot, None, 0.0)
    assert answered(rig) == (0, 0, 0, 0)


def test_they_outlive_the_process(rig: Rig) -> None:
    for _ in range(3):
        ping(rig)
    rig.start(adopt=True)
    rig.authorize(("s", SESSION, (1, USER)))
    assert ping(rig) == XDP_TX
    assert numbers(rig.table.presence.pings(binding_of(rig)))[1] == 3
