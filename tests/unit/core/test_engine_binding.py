"""Who may bind where, and when a binding moves: addresses, hosts, pin_ip, draining, a full relay."""

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.events import EventKind
from relayd.core.host_policy import HostPolicy
from relayd.core.limits import Limits
from relayd.core.session import Binding
from relayd.core.verdict import Verdict
from relayd.core.wire import encode_ping
from tests.support.relays import (
    ALICE,
    ALICE_AT,
    ALICE_MOVED,
    BOB,
    BOB_AT,
    HOST,
    HOST_AT,
    ONGOING,
    OTHER_CLIENT,
    SESSION,
    STRANGER_AT,
    Relay,
    full,
    pinned,
    running,
    spec,
)


def test_a_player_moves_when_the_old_address_was_silent_long_enough() -> None:
    relay = running()
    relay.now += 0.25
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ADDRESS_CONFLICT
    relay.now += 0.25
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED
    assert relay.player_pings(source=STRANGER_AT).verdict is Verdict.ADDRESS_CONFLICT
    assert relay.table.bound == [1, 1]


def test_who_is_still_heard_at_the_old_address_is_the_player_and_the_other_one_is_refused_for_a_minute() -> None:
    """A thief of tokens sends all the time, and its victim PINGs every half second."""
    relay = running()
    verdicts = set()
    for _ in range(110):
        relay.now += 0.5
        relay.player_pings(source=ALICE_MOVED)
        verdicts.add(relay.player_pings().verdict)
        assert relay.user().client_binding.address == ALICE_AT  # type: ignore[union-attr]  # it is bound
    assert verdicts == {Verdict.ANSWERED}
    assert relay.kinds().count(EventKind.USER_RETURNED) == 1


def test_a_thief_who_changes_its_port_gets_no_further() -> None:
    """Its victim's PINGs come a little more than half a second apart; it sends just before each, from another port."""
    relay = running()
    bound_by_thief = 0
    for number in range(100):
        relay.now += 0.55
        relay.player_pings(source=(STRANGER_AT[0], 1 + number))
        binding = relay.user().client_binding
        assert binding is not None
        bound_by_thief += binding.address != ALICE_AT
        assert relay.player_pings().verdict is Verdict.ANSWERED
    assert bound_by_thief == 1


def test_a_player_who_moved_itself_gets_its_place_back_from_a_thief() -> None:
    relay = running()
    relay.now += 1
    relay.player_pings(source=ALICE_MOVED)
    relay.now += 0.6
    assert relay.player_pings(source=STRANGER_AT).verdict is Verdict.ANSWERED
    for _ in range(100):
        relay.now += 0.5
        assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED
        assert relay.player_pings(source=STRANGER_AT).verdict is Verdict.ADDRESS_CONFLICT


def test_the_oldest_of_many_places_is_forgotten() -> None:
    relay = running()
    places = [(ALICE_AT[0], port) for port in range(1, 7)]
    for place in places:
        relay.now += 0.5
        relay.player_pings(source=place)
    assert relay.player_pings().verdict is Verdict.ADDRESS_CONFLICT, "six places ago"
    assert relay.player_pings(source=places[1]).verdict is Verdict.ANSWERED


def test_who_is_authorized_with_another_address_is_told_to_those_who_serve_it() -> None:
    relay = running()
    for named in (ALICE_MOVED[0], ALICE_MOVED[0], "192.0.2.9"):
        relay.apply(SessionSpec("game", SESSION, (UserSpec(HOST, None), UserSpec(ALICE, named), UserSpec(BOB, None))))
    assert relay.kinds().count(EventKind.USER_NAMED) == 2
    assert relay.player_pings(source=("192.0.2.9", 7)).verdict is Verdict.ANSWERED


def test_a_conflict_does_not_count_as_a_sign_of_life_of_the_old_address() -> None:
    relay = running()
    relay.now += 0.25
    relay.player_pings(source=ALICE_MOVED)
    relay.now += 0.25
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED


def test_rebind_after_zero_moves_at_once() -> None:
    relay = Relay(Limits(rebind_after=0))
    relay.player_pings()
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED


def test_another_socket_of_the_port_is_another_address_and_answers_leave_from_it() -> None:
    relay = running()
    ping = encode_ping(ALICE, SESSION)
    assert relay.send(OTHER_CLIENT, ping, ALICE_AT).verdict is Verdict.ADDRESS_CONFLICT
    relay.now += 1
    assert relay.send(OTHER_CLIENT, ping, ALICE_AT).endpoint == OTHER_CLIENT
    assert relay.host_sends(relay.user().connection_id).endpoint == OTHER_CLIENT


def test_a_host_that_moves_stays_host() -> None:
    relay = running()
    relay.now += 1
    relay.host_pings(source=STRANGER_AT)
    assert relay.player_sends().to == STRANGER_AT


def test_another_user_becomes_host_after_the_hosts_silence() -> None:
    relay = running()
    relay.now += 9.75
    assert relay.host_pings(BOB, BOB_AT).verdict is Verdict.HOST_CONFLICT
    relay.now += 0.25
    assert relay.host_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED
    assert relay.player_sends().to == BOB_AT
    assert relay.host_pings(ALICE, STRANGER_AT).verdict is Verdict.HOST_CONFLICT
    assert relay.table.bound == [1, 1]


def test_the_declared_host_takes_the_role_back_at_once() -> None:
    relay = running()
    relay.now += 10
    relay.host_pings(BOB, BOB_AT)
    assert relay.host_pings().verdict is Verdict.ANSWERED
    assert relay.player_sends().to == HOST_AT
    assert relay.kinds()[-2:] == [EventKind.HOST_REPLACED, EventKind.USER_BOUND]


def test_who_is_declared_host_later_ends_the_role_of_another_where_nobody_else_may_have_it() -> None:
    for policy, bound in ((HostPolicy.STRICT, [0, 1]), (HostPolicy.PREFERRED, [1, 1]), (HostPolicy.ANY, [1, 1])):
        relay = Relay(Limits(host_policy=policy))
        relay.host_pings()
        relay.player_pings()
        relay.apply(spec(users=(BOB, HOST, ALICE)))
        assert relay.table.bound == bound, policy


def test_a_host_may_change_even_at_a_full_relay() -> None:
    relay = full()
    relay.now += 10
    assert relay.host_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED
    assert relay.table.bound == [1, 0]


def test_a_user_may_be_host_and_player() -> None:
    relay = Relay()
    relay.host_pings(ALICE)
    action = relay.player_sends(ONGOING)
    assert (action.verdict, action.to) == (Verdict.FORWARDED, HOST_AT)


def test_a_player_who_left_and_is_host_now_does_not_hear_itself() -> None:
    relay = Relay()
    relay.player_pings(HOST, HOST_AT)
    number = relay.user(HOST).connection_id
    relay.now += 30
    relay.expire()
    assert relay.host_sends(number).verdict is Verdict.UNKNOWN_CONNECTION


def test_pin_ip_lets_the_named_address_in_from_any_port() -> None:
    relay = pinned()
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED


def test_pin_ip_refuses_a_user_without_an_address() -> None:
    relay = Relay(Limits(pin_ip=True))
    assert relay.player_pings().verdict is Verdict.ADDRESS_REFUSED


def test_pin_ip_also_refuses_to_move_a_bound_user_elsewhere() -> None:
    relay = pinned()
    relay.player_pings()
    relay.now += 5
    assert relay.player_pings(source=STRANGER_AT).verdict is Verdict.ADDRESS_REFUSED


def test_draining_lets_sessions_that_run_go_on() -> None:
    relay = running()
    relay.engine.draining = True
    assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED
    relay.now += 1
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED


class AheadOfTheClock:
    """An engine that heard everybody a moment after now."""

    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def last_heard(self, binding: Binding) -> float:
        return self._relay.now + 0.001

    def pings(self, binding: Binding) -> None:
        return None


def test_a_user_moves_at_once_though_it_was_heard_by_a_clock_that_is_ahead() -> None:
    relay = Relay(Limits(rebind_after=0.0, host_timeout=0.0))
    relay.player_pings()
    relay.host_pings()
    relay.table.presence.register(AheadOfTheClock(relay))
    assert relay.player_pings(source=ALICE_MOVED).verdict is Verdict.ANSWERED
    assert relay.host_pings(user=BOB, source=BOB_AT).verdict is Verdict.ANSWERED
