import pytest

from relayd.core.shrink_guard import ShrinkGuard


@pytest.mark.parametrize(("present", "missing"), [(0, 0), (1, 0), (2, 1), (10, 5), (11, 5)])
def test_up_to_half_may_go_at_once(present: int, missing: int) -> None:
    assert ShrinkGuard(10).seconds_left(present, missing, 1.0) == 0


@pytest.mark.parametrize(("present", "missing"), [(1, 1), (2, 2), (10, 6), (11, 6)])
def test_more_than_half_has_to_stay_so(present: int, missing: int) -> None:
    guard = ShrinkGuard(10)
    assert guard.seconds_left(present, missing, 100.0) == 10
    assert guard.seconds_left(present, missing, 104.0) == 6
    assert guard.seconds_left(present, missing, 110.0) == 0


def test_a_full_state_in_between_begins_the_wait_anew() -> None:
    guard = ShrinkGuard(10)
    guard.seconds_left(10, 10, 100.0)
    assert guard.seconds_left(10, 0, 105.0) == 0
    assert guard.seconds_left(10, 10, 106.0) == 10


def test_after_it_was_believed_the_next_one_waits_again() -> None:
    guard = ShrinkGuard(10)
    guard.seconds_left(10, 10, 100.0)
    assert guard.seconds_left(10, 10, 110.0) == 0
    assert guard.seconds_left(10, 10, 111.0) == 10


def test_a_hold_of_zero_believes_at_once() -> None:
    assert ShrinkGuard(0).seconds_left(10, 10, 100.0) == 0
