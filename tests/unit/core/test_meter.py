import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relayd.core.limits import Limits
from relayd.core.meter import NS_PER_SECOND, Meter, Rate
from relayd.core.wire import Port

rates = st.builds(Rate, st.sampled_from([0, 1, 3, 7, 1000, 10_000_000]), st.sampled_from([0, 1200, 9999, 10**10]))
sends = st.lists(st.tuples(st.integers(9, 1200), st.integers(0, 2 * NS_PER_SECOND)), max_size=40)


def test_a_second_s_worth_at_once_and_then_at_its_rate() -> None:
    meter = Meter(Rate(3, 0))
    assert [meter.take(9, 10.0) for _ in range(4)] == [True, True, True, False]
    assert [meter.take(9, 10.25), meter.take(9, 10.34), meter.take(9, 10.34)] == [False, True, False]


def test_bytes_are_bounded_too_and_what_does_not_fit_leaves_room_for_what_does() -> None:
    meter = Meter(Rate(1000, 1200))
    assert [meter.take(1100, 10.0), meter.take(101, 10.0), meter.take(100, 10.0)] == [True, False, True]
    assert meter.take(9, 10.0) is False


def test_no_more_than_one_second_s_worth_is_saved_up() -> None:
    meter = Meter(Rate(2, 0))
    assert [meter.take(9, 1e6) for _ in range(3)] == [True, True, False]


def test_another_engine_goes_on_where_one_stopped() -> None:
    first, second = Meter(Rate(2, 5000)), Meter(Rate(2, 5000))
    assert [first.take(9, 10.0), first.take(9, 10.0)] == [True, True]
    second.datagrams_due_ns, second.bytes_due_ns = first.datagrams_due_ns, first.bytes_due_ns
    assert second.take(9, 10.0) is False


@given(rates, sends)
def test_never_more_than_the_burst_and_the_rate(rate: Rate, steps: list[tuple[int, int]]) -> None:
    meter = Meter(rate)
    now_ns = datagrams = size_bytes = 0
    for size, pause_ns in steps:
        now_ns += pause_ns
        if meter.take(size, now_ns / NS_PER_SECOND):
            datagrams, size_bytes = datagrams + 1, size_bytes + size
        seconds = 1 + now_ns / NS_PER_SECOND
        # An interval is cut to whole nanoseconds.
        assert not rate.datagrams or datagrams <= rate.datagrams * seconds * (1 + 1e-6) + 1e-6
        assert not rate.bytes or size_bytes <= rate.bytes * seconds * (1 + 1e-6) + len(steps)


@given(rates, st.integers(9, 1200), st.integers(1, 30))
def test_who_keeps_to_the_rate_is_never_refused(rate: Rate, size: int, count: int) -> None:
    meter = Meter(rate)
    pause = max(1 / rate.datagrams if rate.datagrams else 0, size / rate.bytes if rate.bytes else 0) * (1 + 1e-6)
    assert all(meter.take(size, 10.0 + number * pause) for number in range(count))


def test_each_port_has_its_rate() -> None:
    limits = Limits(user_datagrams_per_second=1, host_datagrams_per_second=2, session_bytes_per_second=5000)
    assert limits.user_rate(Port.CLIENT).datagrams == 1
    assert limits.user_rate(Port.SERVER).datagrams == 2
    assert limits.session_rate == Rate(0, 5000)


@pytest.mark.parametrize("key", ["user_bytes_per_second", "host_bytes_per_second", "session_bytes_per_second"])
def test_a_rate_that_keeps_the_longest_datagram_out_is_refused(key: str) -> None:
    with pytest.raises(ValidationError, match="at least 1200"):
        Limits.model_validate({key: 1199})
    assert getattr(Limits.model_validate({key: 1200}), key) == 1200
