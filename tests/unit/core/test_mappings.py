"""A NAT's mapping that goes to another player: who is unbound, and who is not."""

from relayd.core.events import EventKind
from relayd.core.mappings import MOST_DOUBTED
from relayd.core.pings import Pings
from relayd.core.session import Binding
from relayd.core.verdict import Verdict
from relayd.core.wire import encode_ping
from tests.support.relays import (
    ALICE,
    ALICE_AT,
    ALICE_MOVED,
    BOB,
    BOB_AT,
    CLIENT,
    HOST,
    OTHER_CLIENT,
    SESSION,
    Relay,
    running,
    spec,
)

OTHERS, CAROL = 0xD0D0, 3001


def displaced(relay: Relay) -> list[int]:
    """Tokens of users who lost their mapping."""
    events = [event for event in relay.events if event.kind is EventKind.USER_DISPLACED]
    return [event.binding.user.token for event in events if event.binding is not None]


def after(relay: Relay, seconds: float) -> list[int]:
    relay.now += seconds
    while relay.expire():
        pass
    return displaced(relay)


def test_who_is_silent_for_a_second_after_another_user_came_is_unbound() -> None:
    relay = running()
    relay.now += 7
    relay.player_pings(BOB, ALICE_AT)
    assert relay.table.next_deadline() == relay.now + 1
    assert after(relay, 0.999) == []
    assert after(relay, 0.001) == [ALICE]
    assert relay.user(ALICE).client_binding is None
    assert relay.user(BOB).client_binding is not None


def test_who_is_heard_there_within_that_second_stays() -> None:
    relay = running()
    relay.now += 7
    relay.player_pings(BOB, ALICE_AT)
    relay.now += 0.999
    relay.player_pings()
    assert after(relay, 20) == []


def test_each_further_user_asks_anew() -> None:
    relay = Relay(specs=[spec(users=(HOST, ALICE, BOB, CAROL))])
    relay.player_pings()
    relay.player_pings(BOB, ALICE_AT)
    relay.now += 0.5
    relay.player_pings()
    relay.player_pings(CAROL, ALICE_AT)
    relay.now += 0.25
    relay.player_pings(BOB, ALICE_AT)
    # BOB was heard since CAROL came, and ALICE was not.
    assert after(relay, 0.75) == [ALICE]


def test_a_user_of_another_session_counts_as_well() -> None:
    relay = Relay(specs=[spec(), spec("other", OTHERS, (HOST, CAROL))])
    relay.player_pings()
    relay.player_pings(CAROL, ALICE_AT, OTHERS)
    assert after(relay, 1) == [ALICE]


def test_one_who_moves_there_counts_and_one_who_left_is_not_looked_for() -> None:
    relay = running()
    relay.player_pings(BOB, BOB_AT)
    relay.now += 0.5
    relay.player_pings(BOB, ALICE_AT)
    relay.now += 0.5
    assert relay.player_pings(ALICE, ALICE_MOVED).verdict is Verdict.ANSWERED
    assert after(relay, 20) == []


def test_another_of_the_relays_sockets_is_another_place() -> None:
    relay = running()
    relay.now += 7
    relay.send(OTHER_CLIENT, encode_ping(BOB, SESSION), ALICE_AT)
    relay.host_pings(HOST, ALICE_AT)
    assert after(relay, 20) == []


def test_two_who_are_restored_at_one_place_are_left_alone() -> None:
    relay = Relay()
    for number, user in enumerate((ALICE, BOB), 1):
        relay.table.restore(relay.user(user), CLIENT, ALICE_AT, connection_id=number, now=relay.now)
    assert after(relay, 20) == []


class Elsewhere:
    """Another engine, which hears everybody."""

    def __init__(self, heard_at: float) -> None:
        self.heard_at = heard_at

    def last_heard(self, _binding: Binding) -> float:
        return self.heard_at

    def pings(self, _binding: Binding) -> Pings | None:
        return None


def test_all_engines_are_asked() -> None:
    relay = running()
    relay.player_pings(BOB, ALICE_AT)
    relay.table.presence.register(Elsewhere(relay.now + 0.25))
    assert after(relay, 1) == []


def test_a_pause_of_the_relay_is_nobodys_silence() -> None:
    relay = running()
    relay.table.presence.awake(relay.now)
    relay.player_pings(BOB, ALICE_AT)
    assert after(relay, 5) == []
    assert relay.table.next_deadline() == relay.now + 1
    relay.table.presence.awake(relay.now)
    assert after(relay, 0.999) == []
    relay.table.presence.awake(relay.now)
    assert after(relay, 0.001) == [ALICE]


def test_of_many_at_one_place_the_last_are_looked_at() -> None:
    tokens = range(1, MOST_DOUBTED + 5)
    relay = Relay(specs=[spec(users=tokens)])
    for token in tokens[:-1]:
        relay.player_pings(token, ALICE_AT)
    relay.now += 0.5
    for token in tokens[:-1]:
        relay.player_pings(token, ALICE_AT)
    assert after(relay, 0.75) == []
    relay.player_pings(tokens[-1], ALICE_AT)
    assert after(relay, 1) == [*tokens[-1 - MOST_DOUBTED : -1]]


def test_nothing_is_kept_of_who_is_gone() -> None:
    relay = running()
    relay.player_pings(BOB, ALICE_AT)
    relay.apply()
    after(relay, 1)
    assert not relay.table._mappings._at
    assert relay.table._mappings.next_due() is None
