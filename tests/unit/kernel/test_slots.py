"""Numbered places: given out once, and again only when no run of the program can know them."""

import pytest

from relayd.forwarding.kernel import slots
from relayd.forwarding.kernel.slots import Slots, all_runs_over
from tests.support import virtual_loop


def nothing() -> None:
    pass


def test_each_is_given_out_once_and_0_is_none() -> None:
    numbers = Slots(3)
    assert sorted(numbers.take() for _ in range(3)) == [1, 2, 3]
    assert numbers.take() == 0
    numbers.put_back(2)
    assert [numbers.take(), numbers.take()] == [2, 0]


def test_those_that_were_given_out_before_are_not_given_out() -> None:
    numbers = Slots(4)
    numbers.keep({1, 3})
    assert sorted((numbers.take(), numbers.take(), numbers.take())) == [0, 2, 4]


def test_one_that_is_retired_is_looked_at_once_more_before_it_is_given_out_again() -> None:
    numbers, looked = Slots(1), []
    number = numbers.take()
    numbers.retire(number, lambda: looked.append(numbers.take()))
    assert numbers.take() == 0
    retired = numbers.retired()
    assert numbers.retired() == []
    assert looked == []
    pauses = sum(1 for _ in numbers.free(retired))
    assert (looked, pauses, retired) == ([0], 1, [])
    assert numbers.take() == number


async def seconds_until_all_runs_are_over() -> float:
    began = virtual_loop.now()
    await all_runs_over()
    return virtual_loop.now() - began


def test_the_kernel_says_when_runs_are_over() -> None:
    assert slots._wait_in_kernel()
    assert virtual_loop.run(seconds_until_all_runs_are_over()) == 0.0


def test_where_it_cannot_say_so_the_longest_run_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.machine", lambda: "another")
    assert virtual_loop.run(seconds_until_all_runs_are_over()) == 2.0
