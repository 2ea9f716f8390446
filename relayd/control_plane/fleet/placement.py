"""Which relay a new session goes to. Pure: the same candidates give the same answer."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from relayd.control_plane.models import Filter, NewUser
from relayd.control_plane.store.contract import SILENT_AFTER

DISTANCE_BUCKET_KM = 500.0
"""Relays in the same bucket count as equally near: 500 km are about 5 ms there and back through fibre, which no player
feels, while the fuller relay of two in one city would be felt."""

_EARTH_RADIUS_KM = 6371.0


class Position(NamedTuple):
    """Degrees."""

    latitude: float
    longitude: float


class Candidate(NamedTuple):
    """A relay as placement sees it."""

    node_id: str
    attributes: Mapping[str, str]
    position: Position | None
    capacity: int
    """Users it can take; 0: no bound."""
    load: int
    """Users it has, or is about to have."""
    draining: bool
    silence: float
    """Seconds since its last heartbeat."""


class Unplaceable(NamedTuple):
    """No relay can take the session; the reason is one sentence for the caller."""

    reason: str


def place(
    candidates: Sequence[Candidate], users: int, filters: Sequence[Filter], centre: Position | None
) -> Candidate | Unplaceable:
    """The relay for a session of that many users around that centre, or why there is none.

    Nearest first, in steps of `DISTANCE_BUCKET_KM`, so that load still decides between relays about as near; then the
    least share of its capacity in use; then by name, so that the answer does not depend on the order of the candidates.
    A relay of unknown position comes after those whose position is known.

    A relay without a bound has no share. With one among the nearest, the users themselves are compared for all of them:
    as if all were machines of one size, which spreads players evenly over those nothing better is known of.
    """
    alive = [one for one in candidates if one.silence <= SILENT_AFTER]
    if not alive:
        return Unplaceable(
            "No relay is alive; start one, or wait for its next heartbeat, then create the session again."
        )
    fitting = [one for one in alive if all(matches(condition, one.attributes) for condition in filters)]
    if not fitting:
        return Unplaceable("No relay that is alive fits the filters; loosen them and create the session again.")
    staying = [one for one in fitting if not one.draining]
    if not staying:
        return Unplaceable("Every relay that fits is draining; wait for another one and create the session again.")
    roomy = [one for one in staying if not one.capacity or one.load + users <= one.capacity]
    if not roomy:
        return Unplaceable(
            f"No relay that fits has room for {users} more users; add a relay, or create the session again later."
        )
    least_far = min(_bucket(one.position, centre) for one in roomy)
    nearest = [one for one in roomy if _bucket(one.position, centre) == least_far]
    if all(one.capacity for one in nearest):
        return min(nearest, key=lambda one: (one.load / one.capacity, one.node_id))
    return min(nearest, key=lambda one: (one.load, one.node_id))


def matches(condition: Filter, attributes: Mapping[str, str]) -> bool:
    """Whether a relay with these attributes fits the condition; upper and lower case are the same.

    any: its value is one of those listed; all: its value equals every one listed (an attribute that lists several
    values, separated by commas, has each of them); not: it has none of those listed. A relay without the attribute has
    no value, so it fits only `not`.
    """
    has = {part.strip().casefold() for part in attributes.get(condition.field, "").split(",")} - {""}
    wanted = {value.strip().casefold() for value in condition.values}
    match condition.filter_type:
        case "any":
            return not wanted.isdisjoint(has)
        case "all":
            return wanted <= has
        case "not":
            return wanted.isdisjoint(has)


def centre_of(users: Sequence[NewUser]) -> Position | None:
    """The middle of the users whose coordinates are known; None when no user's are.

    The mean of unit vectors rather than of degrees: the mean of longitudes 179 and −179 is 180, not 0.
    """
    x = y = z = 0.0
    for user in users:
        if user.latitude is None or user.longitude is None:
            continue
        latitude, longitude = math.radians(user.latitude), math.radians(user.longitude)
        x += math.cos(latitude) * math.cos(longitude)
        y += math.cos(latitude) * math.sin(longitude)
        z += math.sin(latitude)
    if math.hypot(x, y, z) < 1e-9:  # nobody's position is known, or they cancel out: opposite ends of the earth
        return None
    return Position(math.degrees(math.atan2(z, math.hypot(x, y))), math.degrees(math.atan2(y, x)))


def distance_km(one: Position, other: Position) -> float:
    """Great-circle distance in kilometres, by the haversine formula."""
    latitude_1, latitude_2 = math.radians(one.latitude), math.radians(other.latitude)
    half_latitude = (latitude_2 - latitude_1) / 2
    half_longitude = math.radians(other.longitude - one.longitude) / 2
    h = math.sin(half_latitude) ** 2 + math.cos(latitude_1) * math.cos(latitude_2) * math.sin(half_longitude) ** 2
    return 2 * _EARTH_RADIUS_KM * math.asin(math.sqrt(min(1.0, h)))


def _bucket(position: Position | None, centre: Position | None) -> float:
    if centre is None:
        return 0
    if position is None:
        return math.inf
    return distance_km(position, centre) // DISTANCE_BUCKET_KM
