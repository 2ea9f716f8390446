"""Which relay a session goes to."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relayd.control_plane.fleet.placement import (
    Candidate,
    Position,
    Unplaceable,
    centre_of,
    distance_km,
    matches,
    place,
)
from relayd.control_plane.models import Filter, NewUser
from relayd.control_plane.store.contract import SILENT_AFTER

BERLIN = Position(52.52, 13.40)
PARIS = Position(48.86, 2.35)
POTSDAM = Position(52.39, 13.06)
TOKYO = Position(35.68, 139.69)


def relay(name: str, **changed: object) -> Candidate:
    return Candidate(name, {}, None, 100, 0, False, 0.0)._replace(**changed)  # type: ignore[arg-type]


def test_the_least_loaded_for_its_capacity_is_taken() -> None:
    small, big = relay("small", capacity=10, load=4), relay("big", capacity=1000, load=300)
    assert place([small, big], 2, [], None) == big


def test_without_a_bound_there_is_always_room_and_the_users_themselves_are_compared() -> None:
    endless = relay("endless", capacity=0, load=10**9)
    assert place([endless], 1000, [], None) == endless
    fuller, emptier = relay("fuller", capacity=0, load=7), relay("emptier", capacity=0, load=5)
    assert place([fuller, emptier], 2, [], None) == emptier
    # 4 users of 10 are a greater share than 5 of no bound, but fewer users.
    assert place([emptier, relay("bounded", capacity=10, load=4)], 2, [], None).node_id == "bounded"  # type: ignore[union-attr]
    assert place([relay("b", capacity=0), relay("a", capacity=0)], 2, [], None).node_id == "a"  # type: ignore[union-attr]


def test_a_far_relay_without_a_bound_does_not_change_how_the_near_ones_are_compared() -> None:
    small, big = relay("small", capacity=10, load=4, position=BERLIN), relay("big", load=5, position=POTSDAM)
    far = relay("far", capacity=0, position=TOKYO)
    assert place([small, far, big], 2, [], BERLIN) == big


def test_the_nearest_is_taken_when_coordinates_are_known() -> None:
    relays = [relay("berlin", position=BERLIN, load=90), relay("tokyo", position=TOKYO), relay("somewhere")]
    assert place(relays, 2, [], POTSDAM) == relays[0]


def test_load_decides_between_relays_about_as_near() -> None:
    relays = [relay("berlin", position=BERLIN, load=50), relay("potsdam", position=POTSDAM, load=10)]
    assert place(relays, 2, [], BERLIN) == relays[1]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"silence": SILENT_AFTER + 0.1}, "alive"),
        ({"draining": True}, "draining"),
        ({"load": 99}, "room"),
        ({"capacity": 1}, "room"),
        ({"attributes": {"city": "Rome"}}, "filters"),
    ],
)
def test_a_relay_that_cannot_take_it_is_named_as_the_reason(changed: dict[str, object], why: str) -> None:
    wanted = [Filter(field="city", values=["Berlin"], filter_type="any")]
    answer = place([relay("r", **{"attributes": {"city": "berlin"}, **changed})], 2, wanted, None)
    assert isinstance(answer, Unplaceable)
    assert why in answer.reason


def test_no_relay_at_all() -> None:
    assert isinstance(place([], 1, [], None), Unplaceable)


@pytest.mark.parametrize(
    ("kind", "values", "fits"),
    [
        ("any", ["Berlin", "Paris"], True),
        ("any", ["Rome"], False),
        ("all", ["BERLIN"], True),
        ("all", ["Berlin", "Paris"], False),
        ("not", ["Paris"], True),
        ("not", ["Berlin", "Paris"], False),
    ],
)
def test_filters(kind: str, values: list[str], fits: bool) -> None:
    condition = Filter.model_validate({"field": "city", "values": values, "filter_type": kind})
    assert matches(condition, {"city": "Berlin"}) is fits


def test_a_relay_without_the_attribute_fits_only_not() -> None:
    for kind, fits in (("any", False), ("all", False), ("not", True)):
        condition = Filter.model_validate({"field": "region", "values": ["x"], "filter_type": kind})
        assert matches(condition, {}) is fits


def test_the_centre_over_the_date_line_is_on_it() -> None:
    centre = centre_of(
        [NewUser(ip="1.1.1.1", latitude=0, longitude=179), NewUser(ip="1.1.1.2", latitude=0, longitude=-179)]
    )
    assert centre is not None
    assert abs(abs(centre.longitude) - 180) < 1e-6


def test_no_centre_without_coordinates_or_from_opposite_ends() -> None:
    assert centre_of([NewUser(ip="1.1.1.1"), NewUser(ip="1.1.1.2", latitude=1)]) is None
    assert (
        centre_of([NewUser(ip="1.1.1.1", latitude=90, longitude=0), NewUser(ip="::1", latitude=-90, longitude=0)])
        is None
    )


def test_a_known_distance() -> None:
    assert distance_km(BERLIN, PARIS) == pytest.approx(878, abs=3)


positions = st.builds(Position, st.floats(-90, 90), st.floats(-180, 180))


@given(positions, positions)
def test_distance_is_symmetric_and_bounded(one: Position, other: Position) -> None:
    there, back = distance_km(one, other), distance_km(other, one)
    assert math.isclose(there, back, abs_tol=1e-6)
    assert 0 <= there <= 6371 * math.pi + 1e-6


def has_room(candidate: Candidate) -> bool:
    return candidate.capacity == 0 or candidate.load + 3 <= candidate.capacity


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 20), st.booleans(), st.floats(0, 20)), max_size=6))
def test_whatever_is_chosen_can_take_it(states: list[tuple[int, int, bool, float]]) -> None:
    relays = [
        relay(str(number), capacity=capacity, load=load, draining=draining, silence=silence)
        for number, (capacity, load, draining, silence) in enumerate(states)
    ]
    able = [r for r in relays if not r.draining and r.silence <= SILENT_AFTER and has_room(r)]
    answer = place(relays, 3, [], None)
    assert (answer in able) if able else isinstance(answer, Unplaceable)
    assert place(relays[::-1], 3, [], None) == answer or not able
