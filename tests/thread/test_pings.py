"""The PINGs that the forwarding thread answers: counted as the core would, and with it."""

import ctypes
import random
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from relayd.core.pings import LONGEST_INTERVAL_NS, Pings
from relayd.core.session import Binding
from relayd.core.wire import Port, encode_ping
from tests.integration.programs import REPOSITORY
from tests.scenarios.play import Tokens
from tests.scenarios.scenario import Scenario
from tests.scenarios.skips import needs_virtual_thread
from tests.scenarios.socket_worlds import ThreadWorld
from tests.scenarios.steps import Peer
from tests.thread import compiled
from tests.thread.rig import ALICE, SESSION, VALID, C, Rig

PING = encode_ping(ALICE, SESSION)
_SHIM = """
#include "pings.h"
void note(struct pings *pings, __u64 now_ns) { pings_note(pings, now_ns); }
"""
Numbers = tuple[int, int, int, int]


@pytest.fixture(scope="module")
def note(tmp_path_factory: pytest.TempPathFactory) -> Callable[[ctypes.Array[ctypes.c_uint64], int], None]:
    """pings.h, compiled alone."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler (Debian: gcc)")
    folder: Path = tmp_path_factory.mktemp("pings")
    (folder / "shim.c").write_text(_SHIM, encoding="utf-8")
    header = REPOSITORY / "relayd/forwarding/thread"
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{header}"]
    subprocess.run([compiler, *options, str(folder / "shim.c"), "-o", str(folder / "shim.so")], check=True)
    function = ctypes.CDLL(str(folder / "shim.so")).note
    function.restype = None
    return lambda entry, now_ns: function(entry, ctypes.c_uint64(now_ns))


def test_the_arithmetic_is_that_of_the_core(note: Callable[[ctypes.Array[ctypes.c_uint64], int], None]) -> None:
    chance = random.Random(7)
    for _ in range(200):
        entry, core = (ctypes.c_uint64 * 4)(), Pings()
        now_ns = chance.randrange(1, 1 << 50)
        for _ in range(100):
            note(entry, now_ns)
            core.note(now_ns)
            assert tuple(entry) == numbers(core)
            longest = chance.choice((2_000_000_000, LONGEST_INTERVAL_NS * 2))
            now_ns = max(1, now_ns + chance.randrange(-50_000_000, longest))


def numbers(pings: Pings | None) -> Numbers:
    assert pings is not None
    return pings.last_ns, pings.heard, pings.missed, pings.jitter_sixteenths_ns


@compiled.needs_native
def test_the_thread_counts_what_it_answers() -> None:
    with Rig() as rig:
        alice, stranger = rig.peer(), rig.peer()
        slot = rig.bind(alice, C, ALICE)
        core = Pings()
        assert rig.forwarder.bare.pings(slot) == numbers(core)
        rig.send(stranger, C, PING)
        for _ in range(50):
            before = time.monotonic_ns()
            rig.send(alice, C, PING)
            assert alice.recv(100) == VALID
            found = rig.forwarder.bare.pings(slot)
            # It took the time in seconds, of which a double is true to a fraction of a microsecond.
            assert before - 1000 <= found[0] <= time.monotonic_ns() + 1000
            core.note(found[0])
            assert found == numbers(core)


@compiled.needs_native
def test_a_slot_that_is_given_out_again_begins_anew() -> None:
    with Rig() as rig:
        alice = rig.peer()
        slot = rig.bind(alice, C, ALICE)
        rig.send(alice, C, PING)
        assert alice.recv(100) == VALID
        rig.forwarder.remove(slot)
        assert rig.forwarder.bare.pings(slot)[1] == 1
        assert rig.bind(alice, C, ALICE) == slot
        assert rig.forwarder.bare.pings(slot) == (0, 0, 0, 0)


@needs_virtual_thread
def test_thread_and_engine_together_hear_every_one() -> None:
    """However a binding passes from one to the other."""
    tokens = Tokens()
    ping = tokens.header(1) + b"\x01"

    def answered(address: int) -> Binding:
        assert world.send(Peer(1, address), Port.CLIENT, ping).verdict == "answered"
        binding = session.users[tokens.users()[1]].client_binding
        assert binding is not None
        return binding

    with ThreadWorld(Scenario([])) as world:
        session = world.table.by_token[tokens.session]
        sent = 0
        for address in (0, 1, 0):
            world.wait(0.5)
            for _ in range(3):
                answered(address)
            world.table.watch(session, world.clock())
            for _ in range(2):
                answered(address)
            world.table.unwatch(session, world.clock())
            binding = answered(address)
            sent += 6
            assert numbers(world.table.presence.pings(binding))[1] == sent
