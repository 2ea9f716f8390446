"""The figures that scenarios make of what the load generator saw."""

import multiprocessing
import os
import time

import numpy as np
import pytest

from bench import burst, latency, restart, throughput
from bench.cpu import CpuMeter, CpuTime, process_ns, with_children
from bench.load.content import Kinds, Order
from bench.load.run import Direction, Outcome
from bench.load.tally import Tally
from bench.measurement import Measurement
from bench.show import table
from bench.sizes import GAME, game_lengths
from bench.stage import USUAL
from tests.integration.captures import FISHNET_GAME, MIRROR_GAMES, load_capture

MS = 1_000_000


def outcome(sent: int = 1000, delivered: int = 1000, drain_seconds: float = 0.0, **times: list[list[int]]) -> Outcome:
    ways: dict[str, Direction] = {"to_host": "to_host", "to_player": "to_player"}
    return Outcome(
        {"to_host": Tally(sent, delivered, sent - delivered, 0, 0, 0)},
        1.0,
        drain_seconds,
        CpuTime(0, 0, 0),
        {ways[name]: (np.array(sent_ns), np.array(arrived_ns)) for name, (sent_ns, arrived_ns) in times.items()},
    )


def lengths_in(name: str) -> list[int]:
    """Payloads of a recorded game, as the relay got them."""
    return [len(one.payload) for one in load_capture(name).datagrams if one.arrived and one.is_data]


def test_the_lengths_are_those_of_the_recorded_games() -> None:
    lengths = sorted(length for name in MIRROR_GAMES for length in lengths_in(name))
    count = len(GAME)
    middles = [lengths[(2 * number + 1) * len(lengths) // (2 * count)] for number in range(count)]
    assert tuple(max(24, length) for length in middles) == GAME
    assert sorted(game_lengths()) == list(GAME)
    assert sum(game_lengths()) // count == 258
    assert max(lengths_in(FISHNET_GAME)) < max(GAME)


@pytest.mark.parametrize(
    ("given", "kept_up"),
    [
        (outcome(), True),
        (outcome(delivered=999), True),
        (outcome(delivered=998), False),
        (outcome(drain_seconds=0.1), False),
    ],
)
def test_what_is_lost_or_late_is_too_much(given: Outcome, kept_up: bool) -> None:
    assert throughput.kept_up(given) is kept_up


def test_quantiles_leave_out_what_did_not_arrive() -> None:
    quantiles = latency.quantiles_us(outcome(to_host=[[1000, 1000, 1000], [3000, 0, 5000]]))
    assert quantiles["p50"] == 3.0


def test_a_tick_lasts_until_its_last_datagram_is_there() -> None:
    sent, arrived = [0, 0, 10 * MS, 10 * MS], [2 * MS, 3 * MS, 0, 11 * MS]
    assert list(burst.until_last_ms(outcome(to_player=[sent, arrived]), 2)) == [3.0, 1.0]


def test_the_longest_gap_is_that_of_the_flow_that_hears_least() -> None:
    count = 4 * USUAL.flows
    sent = [number * MS for number in range(count)]
    whole = restart.longest_gap_ms(outcome(to_host=[sent, [at + 1 for at in sent]]))
    order = Order(USUAL.flows, USUAL.client_sockets, USUAL.block)
    silenced = [0 if order.flows[number % order.period] == 7 else at + 1 for number, at in enumerate(sent)]
    assert restart.longest_gap_ms(outcome(to_host=[sent, silenced])) == pytest.approx(count - 1)
    assert whole < 2 * USUAL.flows


def test_every_flow_gets_its_turn_and_every_length() -> None:
    order = Order(256, 32, 4)
    numbers = np.arange(256 * 127)
    flows = order.flows[numbers % order.period]
    assert set(np.bincount(flows.astype(np.int64))) == {127}
    assert {int(number) % 127 for number in numbers[flows == 5]} == set(range(127))
    assert (flows % 32 == numbers // 4 % 32).all()


@pytest.mark.parametrize("payload_bytes", [(23,), (24, 1188)])
def test_lengths_that_nothing_fits_in_are_refused(payload_bytes: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="24 to 1187 bytes"):
        Kinds(payload_bytes)


def work(seconds: float) -> None:
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def test_processor_time_is_that_of_the_processes_named() -> None:
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    try:
        assert process.pid in with_children(os.getpid())
        meter = CpuMeter([process.pid or 0], [os.getpid()])
        work(0.05)
        used = meter.stop()
        assert used.generator_ns >= 0.05e9
        assert used.total_ns == sum(used)
    finally:
        process.kill()
        process.join()
    assert process_ns(process.pid or 0) == 0


def test_the_table_has_a_row_for_each_metric_and_point() -> None:
    found = [
        Measurement("x", "one", "cost", "µs", 1234.5, "lower", "10k/s"),
        Measurement("x", "two", "cost", "µs", 0.1234, "lower", "10k/s"),
        Measurement("x", "two", "lost", "", 0, "lower"),
    ]
    assert [line.split() for line in table(found)] == [
        ["one", "two"],
        ["cost,", "µs", "10k/s", "1,234", "0.123"],
        ["lost", "0"],
    ]
