"""Who gets a place, and who gives it up."""

import random

from relayd.http.places import ANYBODYS, Places

MOST = 20


def test_one_address_has_half_of_them_and_gives_up_its_own() -> None:
    places: Places[object] = Places(MOST)
    assert [places.enter(("a", number), "a") for number in range(MOST // 2)] == [None] * (MOST // 2)
    assert places.enter("more", "a") == ("a", 0)
    assert places.enter("other", "b") is None
    assert len(places) == MOST // 2 + 1


def test_who_waits_for_an_answer_stays_and_one_more_does_not_come_in() -> None:
    places: Places[object] = Places(MOST)
    for number in range(MOST // 2):
        places.enter(number, "a")
        places.busy(number)
    assert places.enter("more", "a") == "more"
    places.idle(3)
    assert places.enter("more", "a") == 3


def test_of_all_the_longest_idle_of_the_most_crowded_address_goes() -> None:
    places: Places[object] = Places(MOST)
    places.enter("first", "b")
    for number in range(MOST // 2):
        places.enter(number, "a")
    for number in range(MOST // 2 - 1):
        places.enter(("c", number), f"c{number}")
    places.busy(0)
    places.busy(1)
    places.idle(1)
    assert places.enter("new", "d") == 2
    assert places.enter("newer", "e") == 3


def test_a_proxy_has_no_bound_of_its_own() -> None:
    places: Places[object] = Places(MOST)
    for number in range(MOST):
        assert places.enter(number, None) is None
        places.busy(number)
    assert places.enter("more", None) == "more"


def test_a_few_are_anybodys_where_there_are_few() -> None:
    places: Places[object] = Places(ANYBODYS)
    assert [places.enter(number, "a") for number in range(ANYBODYS)] == [None] * ANYBODYS
    assert places.enter("more", "a") == 0


def test_nothing_is_left_of_those_who_went() -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201
    chance = random.Random(seed)
    places: Places[object] = Places(MOST)
    there: set[object] = set()
    for number in range(5000):
        gone = places.enter(number, chance.choice(["a", "b", "c", None]))
        there.add(number)
        there.discard(gone)
        for change in (places.idle, places.busy, places.leave):
            if there and chance.random() < 0.4:
                one = chance.choice(sorted(there, key=str))
                change(one)
                if change == places.leave:
                    there.discard(one)
        assert len(places) == len(there) <= MOST
    for one in there:
        places.leave(one)
    assert (len(places), places._counts, places._idle) == (0, {}, {})
