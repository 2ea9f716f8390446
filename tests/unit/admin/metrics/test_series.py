"""Which sessions have series of their own, and that the sum of all is the relay's, always."""

from relayd.admin.metrics.series import OTHER_SESSIONS, SessionSeries
from relayd.core.counters import Traffic
from relayd.core.followers import Phase
from relayd.core.limits import Limits
from tests.support.relays import HOST, Relay, spec

FIRST, SECOND, THIRD = 0x1000, 0x2000, 0x3000


class World:
    """Three sessions, each with a host and a player, and room for the series of so many."""

    def __init__(self, most: int, *names: str) -> None:
        self.series = SessionSeries(most)
        self.tokens = dict(zip(names or ("one", "two", "three"), (FIRST, SECOND, THIRD), strict=False))
        self.relay = Relay(
            Limits(session_idle_timeout=60.0), [spec(name, token) for name, token in self.tokens.items()]
        )
        self.relay.table.followers.subscribe(Phase.READERS, self.series)

    def play(self, name: str, datagrams: int = 1) -> None:
        """Somebody comes, and so much is forwarded to the host."""
        token = self.tokens[name]
        at = token & 0xFF00
        self.relay.host_pings(session=token, source=("198.51.100.1", 1 + at))
        self.relay.player_pings(session=token, source=("203.0.113.1", 1 + at))
        for user in self.relay.table.by_token[token].users.values():
            if user.client_binding is not None:
                for _ in range(datagrams):
                    user.client_binding.traffic.to_host_datagrams += 1
                    user.client_binding.traffic.to_host_bytes += 10

    def end(self, *names: str) -> None:
        """They are in their source no more."""
        left = [spec(name, token) for name, token in self.tokens.items() if name not in names]
        self.relay.apply(*left)

    def read(self, forwarded: int) -> dict[str, tuple[int, int]]:
        """Datagrams and bytes to hosts by label, of a relay that forwarded so many."""
        total = Traffic()
        total.to_host_datagrams, total.to_host_bytes = forwarded, 10 * forwarded
        return {label: (traffic.to_host_datagrams, traffic.to_host_bytes) for label, traffic in self.series.read(total)}


def test_the_first_that_are_played_in_have_series_and_all_others_are_one() -> None:
    world = World(2)
    for name, datagrams in (("two", 5), ("three", 3), ("one", 2)):
        world.play(name, datagrams)
    assert world.read(10) == {"two": (5, 50), "three": (3, 30), OTHER_SESSIONS: (2, 20)}
    assert [session.session_id for session in world.series.sessions()] == ["two", "three"]


def test_one_that_nobody_ever_played_in_has_none() -> None:
    world = World(3)
    assert world.read(0) == {OTHER_SESSIONS: (0, 0)}


def test_the_series_of_one_that_ended_goes_and_what_it_counted_does_not_come_back_in_the_others() -> None:
    world = World(1)
    world.play("one", 7)
    world.play("two", 2)
    assert world.read(9) == {"one": (7, 70), OTHER_SESSIONS: (2, 20)}
    world.end("one")
    assert world.read(9) == {OTHER_SESSIONS: (2, 20)}, "else a counter of the others would jump"
    assert world.series.sessions() == [], "an ended session is not held on to"


def test_its_place_is_the_next_ones() -> None:
    world = World(1)
    world.play("one", 7)
    world.play("two", 2)
    world.end("one")
    world.play("three", 1)
    assert world.read(10) == {"three": (1, 10), OTHER_SESSIONS: (2, 20)}


def test_one_that_ends_for_nobody_is_there_goes_too() -> None:
    world = World(2)
    world.play("one", 7)
    for _ in range(2):  # first whoever played, then the session
        world.relay.now += 1000.0
        while world.relay.expire():
            pass
    assert world.read(7) == {OTHER_SESSIONS: (0, 0)}


def test_a_session_with_the_name_of_the_others_has_no_series_of_its_own() -> None:
    world = World(2, OTHER_SESSIONS)
    world.play(OTHER_SESSIONS, 4)
    assert world.read(4) == {OTHER_SESSIONS: (4, 40)}


def test_whoever_comes_back_takes_no_second_place() -> None:
    world = World(2)
    world.play("one", 1)
    world.relay.host_pings(user=HOST, session=FIRST, source=("198.51.100.9", 9))
    world.play("two", 1)
    assert set(world.read(2)) == {"one", "two", OTHER_SESSIONS}
