"""When an interface is said to lose what the kernel program sends by it, and for how long the sockets serve then."""

import pytest

from relayd.forwarding.kernel.loss import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, LossWatch


def after_a_second(sent: int, lost: int) -> bool:
    """Whether the program still sends by an interface that did so in its first second."""
    watch = LossWatch(10.0)
    assert watch.note(11.0, sent, lost) is not watch.forwards
    return watch.forwards


@pytest.mark.parametrize(
    ("sent", "lost", "forwards"),
    [
        (100_000, 0, True),
        (100_000, 1_000, True),
        (100_000, 1_001, False),
        (102_000, 2_000, False),
        (102_000, 1_999, True),
        (300_000, 150_000, True),
        (5_000, 50, True),
        (5_000, 51, False),
        (1_000, 50, True),
        (6, 2, True),
        (2, 2, True),
        (6, 3, False),
        (7, 3, True),
        (40, 40, False),
        (0, 0, True),
    ],
)
def test_more_than_one_percent_and_a_few_or_half_of_what_little_there_is(sent: int, lost: int, forwards: bool) -> None:
    assert after_a_second(sent, lost) is forwards


def test_one_that_is_only_overloaded_goes_on_until_it_delivers_little() -> None:
    watch = LossWatch(0.0)
    for second in range(1, 30):
        assert not watch.note(float(second), 400_000, 250_000)
    assert watch.note(30.0, 150_000, 120_000)


def test_one_percent_is_that_of_a_second_and_all_of_it_shows_at_once() -> None:
    watch = LossWatch(0.0)
    assert not watch.note(0.1, 2_000, 60)
    assert not watch.note(1.0, 20_000, 0), "60 of 22,000"
    assert not watch.note(1.1, 2_000, 60), "a window of its own"
    assert watch.note(1.2, 200, 1_100)
    assert not watch.forwards


def test_one_who_only_pings_is_noticed_too() -> None:
    watch = LossWatch(0.0)
    assert not watch.note(1.0, 2, 2)
    assert watch.note(2.0, 2, 2)
    well = LossWatch(0.0)
    for second in range(1, 100):
        assert not well.note(float(second), 2, 0 if second % 4 else 1), "one in eight"


def test_it_is_tried_again_after_pauses_that_grow_while_it_goes_on() -> None:
    watch = LossWatch(0.0)
    now, pauses = 0.0, []
    for _ in range(8):
        assert watch.note(now, 10, 10)
        pauses.append(watch.again_at - now)
        assert not watch.note(watch.again_at - 0.5, 0, 0)
        now = watch.again_at
        assert watch.note(now, 0, 0)
        assert watch.forwards
    assert pauses[:3] == [FIRST_PAUSE_SECONDS, 2 * FIRST_PAUSE_SECONDS, 4 * FIRST_PAUSE_SECONDS]
    assert pauses[-1] == LONGEST_PAUSE_SECONDS


def test_one_that_did_well_for_as_long_as_it_had_paused_is_as_good_as_new() -> None:
    watch = LossWatch(0.0)
    watch.note(0.0, 10, 10)
    watch.note(watch.again_at, 0, 0)
    watch.note(watch.again_at, 10, 10)
    back = watch.again_at
    watch.note(back, 0, 0)
    assert watch.note(back + 2 * FIRST_PAUSE_SECONDS + 1, 10, 10)
    assert watch.again_at == back + 3 * FIRST_PAUSE_SECONDS + 1


def test_it_is_on_trial_until_it_has_sent_for_a_while() -> None:
    watch = LossWatch(0.0)
    for number in range(1000):
        watch.note(number / 10, 0, 0)
    assert watch.on_trial, "nothing was sent"
    for number in range(100):
        watch.note(100 + number / 10, 5, 0)
    assert not watch.on_trial
    watch.note(200.0, 500, 500)
    assert not watch.on_trial, "the sockets serve"
    watch.note(watch.again_at, 0, 0)
    assert watch.on_trial


def test_what_is_lost_while_the_sockets_serve_is_not_the_programs_but_for_what_was_under_way() -> None:
    watch = LossWatch(0.0)
    assert watch.counts
    watch.note(1.0, 10, 10)
    assert watch.counts
    watch.note(2.0, 0, 4)
    assert not watch.counts
