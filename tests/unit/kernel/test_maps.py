"""Maps in the kernel: many entries at once, and counts that two processes read one after the other."""

import struct
from collections.abc import Iterator

import pytest

from relayd.core.counters import Counters
from relayd.core.declaration.common import TOTAL
from relayd.core.declaration.kernel_maps import PAIR_KEY
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.forwarding.kernel.counters import Totals
from relayd.forwarding.kernel.libbpf import BpfError
from relayd.forwarding.kernel.maps import BpfMap
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from tests.scenarios.skips import needs_kernel

pytestmark = needs_kernel

VALUE = struct.pack("<II", 1, 2)


@pytest.fixture(name="program")
def _program() -> Iterator[KernelProgram]:
    program = KernelProgram.load(Sizes(64, 8))
    yield program
    program.close()


def keys(*numbers: int) -> bytes:
    return b"".join(PAIR_KEY.packing().pack(number, 7) for number in numbers)


def test_entries_that_are_not_there_do_not_keep_the_others(program: KernelProgram) -> None:
    pairs = program.map("pairs")
    pairs.update_batch(keys(*range(20)), 20 * VALUE)
    pairs.delete_batch(keys(100, 0, 1, 101, 102, 2, 103))
    assert {key for key, _ in pairs.items()} == {keys(number) for number in range(3, 20)}
    pairs.delete_batch(keys(*range(3, 20)))
    assert list(pairs.items()) == []


def test_entries_that_cannot_be_removed_are_an_error(program: KernelProgram) -> None:
    pairs = BpfMap("pairs", program.map("pairs").fd)
    pairs.fd = -1
    with pytest.raises(BpfError, match="map pairs: remove entries"):
        pairs.delete_batch(keys(1))


def test_what_was_taken_over_is_not_counted_again_by_the_next_process(program: KernelProgram) -> None:
    totals, taken_over = program.map("totals"), program.map("totals_taken_over")
    first = Counters()
    before = Totals(totals, taken_over, first)
    processors = before.processors
    for number in range(len(Port) * len(Verdict)):
        counted = TOTAL.packing().pack(number + 1, 100 * number)
        totals.update(number.to_bytes(4, "little"), counted + bytes((processors - 1) * TOTAL.size_bytes))
    before.absorb()
    assert first.datagrams[Port.CLIENT][Verdict.FORWARDED] == len(Verdict) + 1
    assert first.bytes[Port.CLIENT][Verdict.FORWARDED] == 100 * len(Verdict)

    second = Counters()
    after = Totals(totals, taken_over, second)
    after.go_on()
    after.absorb()
    assert not any(map(any, (*second.datagrams, *second.bytes)))
    assert after.by_kernel(Port.CLIENT, Verdict.FORWARDED) == len(Verdict) + 1, "nor is it taken for damaged"
