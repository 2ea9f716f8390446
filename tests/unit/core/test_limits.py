import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from relayd.core.limits import Limits, RefusalLimiter, TokenBucket, network_of


def test_a_bucket_begins_full_and_refills_at_its_rate() -> None:
    bucket = TokenBucket(2, 10.0)
    assert [bucket.take(10.0) for _ in range(3)] == [True, True, False]
    assert bucket.take(10.25) is False
    assert bucket.take(10.5) is True
    assert bucket.take(10.5) is False


def test_a_bucket_holds_no_more_than_one_second() -> None:
    bucket = TokenBucket(2, 0.0)
    assert [bucket.take(1000.0) for _ in range(3)] == [True, True, False]


def test_time_that_runs_backwards_adds_nothing_and_takes_nothing() -> None:
    bucket = TokenBucket(1, 10.0)
    assert bucket.take(10.0) is True
    assert bucket.take(0.0) is False
    assert bucket.take(10.5) is False
    assert bucket.take(11.0) is True


def test_a_rate_of_zero_lets_nothing_through() -> None:
    assert TokenBucket(0, 0.0).take(1e9) is False


def limiter(total: int, per_source: int, max_sources: int = 10_000) -> RefusalLimiter:
    limits = Limits(refusals_per_second=total, refusals_per_source_per_second=per_source)
    return RefusalLimiter(limits, max_sources)


def test_refusals_are_bounded_per_source() -> None:
    refusals = limiter(100, 2)
    assert [refusals.allows("a", 1.0) for _ in range(3)] == [True, True, False]
    assert refusals.allows("b", 1.0) is True


def test_refusals_are_bounded_in_all() -> None:
    refusals = limiter(3, 2)
    assert [refusals.allows(source, 1.0) for source in "abcd"] == [True, True, True, False]
    assert refusals.allows("d", 2.0) is True


def test_a_source_over_its_rate_uses_nothing_of_the_total() -> None:
    refusals = limiter(2, 1)
    assert [refusals.allows("a", 1.0) for _ in range(5)] == [True, False, False, False, False]
    assert refusals.allows("b", 1.0) is True


def test_memory_is_bounded_and_the_first_heard_is_forgotten() -> None:
    refusals = limiter(1000, 1, max_sources=3)
    for source in ("a", "b", "c", "d"):
        assert refusals.allows(source, 1.0) is True
    assert len(refusals._sources) == 3
    assert refusals.allows("b", 1.0) is False
    assert refusals.allows("a", 1.0) is True


def test_beyond_the_total_no_source_is_forgotten_for_a_new_one() -> None:
    refusals = limiter(2, 1, max_sources=2)
    for source in ("a", "b", "c", "d", "e"):
        refusals.allows(source, 1.0)
    assert set(refusals._sources) == {"a", "b"}


@pytest.mark.parametrize(
    "key", [name for name in Limits.model_fields if name not in ("connection_id_policy", "pin_ip")]
)
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "soon"])
def test_limits_refuse_what_is_out_of_range(key: str, value: object) -> None:
    with pytest.raises(ValidationError, match=key):
        Limits.model_validate({key: value})


def test_a_user_timeout_of_zero_is_refused() -> None:
    with pytest.raises(ValidationError, match="user_timeout"):
        Limits(user_timeout=0)


@given(st.lists(st.sampled_from((0, 1, 0xDB8, 0xFFFF)), min_size=8, max_size=8))
def test_a_network_is_the_first_half_of_an_ipv6_address(groups: list[int]) -> None:
    address = ipaddress.IPv6Address(b"".join(group.to_bytes(2, "big") for group in groups))
    assert network_of(str(address)) == ":".join(f"{group:x}" for group in groups[:4])
    assert network_of("203.0.113.7") == "203.0.113.7"
