"""A session is searched for user tokens: who still gets in, who does not, and what is told."""

from collections.abc import Iterator
from itertools import count

import pytest

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.endpoint import Address
from relayd.core.guesses import Guesses, Noted
from relayd.core.limits import Limits
from relayd.core.lookups import Lookups
from relayd.core.session import Session
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from tests.support.relays import ALICE, ALICE_AT, BOB, BOB_AT, HOST, SESSION, STRANGER_AT, Relay, running, spec

INVALID = b"\x01\x03"
PER_SESSION, PER_SOURCE = 50, 20
OTHER_SESSION = 0xFEEDF00D


def searched(relay: Relay, guesses: int = 4 * PER_SESSION) -> Relay:
    """By somebody who invents another source for each guess."""
    for number in range(guesses):
        source: Address = (f"198.18.{number // 200}.{1 + number % 200}", 7)
        assert relay.player_pings(5_000_000 + number, source).verdict is Verdict.UNKNOWN_PAIR
    return relay


def searching(relay: Relay, source: Address = STRANGER_AT, guesses: int = 4 * PER_SOURCE) -> Relay:
    """By somebody from one source."""
    for number in range(guesses):
        assert relay.player_pings(5_000_000 + number, source).verdict is Verdict.UNKNOWN_PAIR
    return relay


def test_a_right_token_among_too_many_wrong_ones_is_worth_nothing() -> None:
    relay = searching(running())
    action = relay.player_pings(BOB, STRANGER_AT)
    assert (action.verdict, action.endpoint) == (Verdict.GUESS_LIMITED, None)
    assert relay.user(BOB).client_binding is None
    drops = relay.table.sessions["game"].drops
    assert drops == {Verdict.UNKNOWN_PAIR: 4 * PER_SOURCE, Verdict.GUESS_LIMITED: 1}


def test_one_source_holds_back_nobody_else_however_fast_it_is() -> None:
    relay = searching(running(), guesses=100_000)
    assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED


def test_a_search_from_invented_sources_finds_nothing_either() -> None:
    relay = searched(running())
    assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.GUESS_LIMITED
    assert relay.player_sends(user=BOB, source=BOB_AT).verdict is Verdict.GUESS_LIMITED
    assert relay.host_pings(BOB, BOB_AT).verdict is Verdict.GUESS_LIMITED


def test_who_is_bound_plays_on() -> None:
    relay = searched(running())
    assert relay.player_sends().verdict is Verdict.FORWARDED
    assert relay.host_sends(relay.user().connection_id).verdict is Verdict.FORWARDED


def test_who_comes_from_the_address_that_it_was_authorized_with_gets_in() -> None:
    users = (UserSpec(HOST, None), UserSpec(ALICE, None), UserSpec(BOB, BOB_AT[0]))
    relay = searched(Relay(specs=[SessionSpec("game", SESSION, users)]))
    assert relay.player_pings(BOB, STRANGER_AT).verdict is Verdict.GUESS_LIMITED
    assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED


def test_who_moves_to_another_port_of_its_address_is_not_held_back_and_one_elsewhere_is() -> None:
    relay = running()
    relay.now += 1.0
    searched(relay)
    assert relay.player_pings(source=STRANGER_AT).verdict is Verdict.GUESS_LIMITED
    assert relay.player_pings(source=(ALICE_AT[0], 5999)).verdict is Verdict.ANSWERED


def test_other_sessions_notice_nothing() -> None:
    relay = searched(Relay(specs=[spec(), spec("other", OTHER_SESSION)]))
    assert relay.player_pings(BOB, BOB_AT, OTHER_SESSION).verdict is Verdict.ANSWERED


def test_a_second_after_the_search_everybody_gets_in() -> None:
    relay = searching(searched(running(), 100_000))
    relay.now += 1.01
    assert relay.player_pings(BOB, STRANGER_AT).verdict is Verdict.ANSWERED


def test_a_search_that_goes_on_leaves_no_gap() -> None:
    """At four times the rate, and a right token after each guess, from another address each time, for ten seconds."""
    relay = running()
    searched(relay)
    for number in range(40 * PER_SESSION):
        relay.now += 1 / (4 * PER_SESSION)
        relay.player_pings(9_000_000 + number, (f"198.19.{number // 200}.{1 + number % 200}", 7))
        elsewhere = f"198.20.{number // 200}.{1 + number % 200}", 7
        assert relay.player_pings(BOB, elsewhere).verdict is Verdict.GUESS_LIMITED


def test_a_player_who_was_authorized_too_late_gets_in_at_once() -> None:
    """As the real client sends: 7 datagrams a second for almost the 10 s after which it gives up."""
    relay = Relay(specs=[spec(users=(HOST, ALICE))])
    for _ in range(69):
        assert relay.player_sends(user=BOB, source=BOB_AT).verdict is Verdict.UNKNOWN_PAIR
        relay.now += 1 / 7
    relay.apply(spec())
    relay.host_pings()
    assert relay.player_sends(user=BOB, source=BOB_AT).verdict is Verdict.FORWARDED


def test_a_whole_party_behind_one_address_gets_in_too() -> None:
    party = range(3000, 3040)
    relay = Relay(specs=[spec(users=(HOST,))])
    for _ in range(14):
        for user in party:
            relay.player_sends(user=user, source=(BOB_AT[0], user))
        relay.now += 1 / 7
    relay.apply(spec(users=(HOST, *party)))
    relay.host_pings()
    relay.now += 1.0
    for user in party:
        assert relay.player_sends(user=user, source=(BOB_AT[0], user)).verdict is Verdict.FORWARDED


def test_above_the_rate_nothing_is_told_and_nobody_is_asked() -> None:
    relay = Relay(Limits(refusals_per_second=1_000_000, refusals_per_source_per_second=1_000_000))
    told = [relay.player_pings(5_000_000 + number, STRANGER_AT).datagram for number in range(1000)]
    assert told[: PER_SOURCE + 1] == [INVALID] * (PER_SOURCE + 1)
    assert set(told[PER_SOURCE + 1 :]) == {b""}


def test_nothing_tells_a_right_token_from_a_wrong_one() -> None:
    relay = searching(Relay(Limits(pin_ip=True)))
    relay.engine.draining = True
    wrong, right = relay.player_pings(77, STRANGER_AT), relay.player_pings(BOB, STRANGER_AT)
    assert wrong[1:] == right[1:]


def test_with_an_address_of_ipv6_the_network_is_the_source() -> None:
    relay = running()
    for number in range(4 * PER_SOURCE):
        relay.player_pings(5_000_000 + number, (f"2001:db8::{number:x}", 7, 0, 0))
    assert relay.player_pings(BOB, ("2001:db8::ffff", 7, 0, 0)).verdict is Verdict.GUESS_LIMITED
    assert relay.player_pings(BOB, ("2001:db8:0:1::1", 7, 0, 0)).verdict is Verdict.ANSWERED


def test_unknown_sessions_are_no_guesses() -> None:
    relay = running()
    for number in range(1000):
        relay.player_pings(ALICE, STRANGER_AT, session=1 + number)
    assert relay.player_pings(BOB, STRANGER_AT).verdict is Verdict.ANSWERED


@pytest.mark.parametrize("noted", [Noted(2000.0, 0.0, 0), Noted(0.0, 2000.0, 0)])
def test_what_a_fast_path_noted_counts_as_well(noted: Noted) -> None:
    relay = running()

    class FastPath:
        def noted(self, ip_address: str, session: Session) -> Noted:
            assert (ip_address, session.session_id) == (BOB_AT[0], "game")
            return noted

    fast_path = FastPath()
    relay.engine.guesses.register(fast_path)
    assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.GUESS_LIMITED
    relay.engine.guesses.unregister(fast_path)
    assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED


def test_memory_is_bounded_whatever_sources_are_invented() -> None:
    specs = [spec(f"game-{number}", 1 + number) for number in range(1000)]
    relay = Relay(specs=specs)
    addresses = count(1 << 24)
    for session in range(1, 1001):
        for _ in range(30):
            address = next(addresses)
            source: Address = (".".join(str(address >> shift & 255) for shift in (24, 16, 8, 0)), 7)
            relay.player_pings(77, source, session)
    assert len(relay.engine.guesses._sources) == 10_000


def test_a_source_is_noted_also_while_others_search_the_session() -> None:
    relay = running()
    assert relay.player_pings(5_000_000, STRANGER_AT).verdict is Verdict.UNKNOWN_PAIR
    searched(relay)
    searching(relay)
    # The excess in the session is forgotten after a second, however large it was; that of the source began later.
    relay.now += 0.5
    for number in range(PER_SOURCE):
        relay.player_pings(6_000_000 + number, STRANGER_AT)
    relay.now += 0.75
    assert relay.player_pings(BOB, STRANGER_AT).verdict is Verdict.GUESS_LIMITED
    assert relay.player_pings(BOB, ("198.51.100.9", 7)).verdict is Verdict.ANSWERED


def test_of_too_many_sources_the_one_first_heard_is_forgotten() -> None:
    relay = running()
    session, bob = relay.table.sessions["game"], relay.user(BOB)
    guesses = Guesses(Limits(guesses_per_second=1_000_000), most_sources=2)
    for ip_address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
        for number in range(4 * PER_SOURCE):
            guesses.note(session, 5_000_000 + number, ip_address, relay.now)
    held_back = [guesses.holds_back(bob, Port.CLIENT, (f"192.0.2.{last}", 7), relay.now) for last in (1, 2, 3)]
    assert held_back == [False, True, True]


def test_of_too_many_wrong_tokens_the_one_heard_longest_ago_counts_as_a_guess_again() -> None:
    session = running().table.sessions["game"]
    guesses = Guesses(Limits(), most_tried=2)
    for token in (1, 2, 1, 3):
        guesses.note(session, token, "192.0.2.1", 1000.0)
    due = session.guesses_due
    guesses.note(session, 1, "192.0.2.1", 1000.0)
    assert session.guesses_due == due
    guesses.note(session, 2, "192.0.2.1", 1000.0)
    assert session.guesses_due > due


def test_a_stale_client_keeps_nobody_of_its_household_out() -> None:
    """One wrong token, 30 times a second for 10 s, and four others behind the same address."""
    relay = running()
    for number in range(300):
        assert relay.player_pings(77, (BOB_AT[0], 7)).verdict is Verdict.UNKNOWN_PAIR
        relay.now += 1 / 30
        if number == 150:
            assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED
    assert relay.host_pings(BOB, BOB_AT).verdict is not Verdict.GUESS_LIMITED


def test_a_stale_client_is_told_the_same_each_time() -> None:
    relay = Relay(Limits(refusals_per_source_per_second=100))
    for _ in range(600):
        assert relay.player_pings(77, STRANGER_AT).datagram == INVALID
        relay.now += 1 / 60


def test_the_same_token_in_another_session_or_from_another_network_is_another_guess() -> None:
    relay = Relay(specs=[spec(), spec("other", OTHER_SESSION)])
    relay.player_pings(77, STRANGER_AT)
    first = relay.table.sessions["game"].guesses_due
    relay.player_pings(77, STRANGER_AT, OTHER_SESSION)
    relay.player_pings(77, BOB_AT)
    assert relay.table.sessions["game"].guesses_due > first
    assert relay.table.sessions["other"].guesses_due > 0


def test_a_revoked_user_is_told_so_at_once_and_guesses_nothing() -> None:
    asked: list[int] = []
    relay = Relay(lookups=Lookups(lambda: asked.append(1)))
    relay.host_pings()
    relay.player_pings()
    relay.apply(spec(users=(HOST, BOB)))
    for _ in range(59 * 7):
        action = relay.player_sends()
        assert (action.verdict, action.datagram) == (Verdict.UNKNOWN_PAIR, INVALID)
        relay.now += 1 / 7
    assert (asked, relay.table.sessions["game"].guesses_due, relay.table.sessions["game"].strangers) == ([], 0.0, 0)
    relay.now += 1.1
    relay.player_sends()
    assert asked, "after a minute it is a token like any other"


def test_who_is_authorized_again_plays_again() -> None:
    relay = running()
    relay.apply(spec(users=(HOST, BOB)))
    relay.apply(spec())
    assert relay.player_sends().verdict is Verdict.FORWARDED


def test_of_too_many_revoked_users_the_first_is_forgotten() -> None:
    session = Session("game", SESSION, 0.0)
    for token in (1, *range(1, 1026)):
        session.remember_revoked(token, 60.0)
    assert [session.was_revoked(token, 1.0) for token in (1, 2, 1025)] == [False, True, True]


def test_who_was_bound_somewhere_before_may_come_back_from_there_while_the_session_is_searched() -> None:
    relay = running()
    for last in range(2, 6):
        relay.now += 1.0
        assert relay.player_pings(source=(f"203.0.113.{last}", 5001)).verdict is Verdict.ANSWERED
    relay.now += 1.0
    searched(relay)
    assert relay.user().familiar == ("203.0.113.5", "203.0.113.4", "203.0.113.3", "203.0.113.2")
    assert relay.player_pings().verdict is Verdict.GUESS_LIMITED, "five addresses ago"
    assert relay.player_pings(source=("203.0.113.2", 9)).verdict is Verdict.ANSWERED


def searching_on(relay: Relay, a_second: int, seconds: float) -> Iterator[None]:
    """A search by ever new tokens, from so many addresses that each stays within its own rate."""
    sources = -(-a_second // (PER_SOURCE - 1))
    strangers = relay.table.sessions["game"].strangers
    for number in range(strangers, strangers + round(a_second * seconds)):
        relay.player_pings(5_000_000 + number, (f"192.0.2.{number % sources}", 7))
        relay.now += 1 / a_second
        yield


def seconds_until_in(relay: Relay, attack_per_second: int, player_per_second: int, at_most: float) -> float:
    """How long a player from an unknown address takes; the search was there before it."""
    for _ in searching_on(relay, attack_per_second, 10.0):
        pass
    began, due = relay.now, relay.now
    for _ in searching_on(relay, attack_per_second, at_most):
        if relay.now >= due:
            due += 1 / player_per_second
            if relay.player_pings(BOB, BOB_AT).verdict is Verdict.ANSWERED:
                return relay.now - began
    return at_most


def test_a_right_token_that_keeps_coming_gets_in_while_others_search() -> None:
    waited = seconds_until_in(running(), 57, 7, 10.0)
    assert 2.5 <= waited <= 3.0


def test_the_more_strangers_there_are_the_longer_it_has_to_come() -> None:
    waited = seconds_until_in(running(), 1000, 7, 30.0)
    assert 1000 / (7 * 20) <= waited <= 1000 / (7 * 20) + 1.0


def test_a_pause_begins_it_anew() -> None:
    relay = running()
    searched(relay)
    for number, _ in enumerate(searching_on(relay, 100, 20.0)):
        if number % 500 < 180:
            assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.GUESS_LIMITED


def test_what_a_fast_path_dropped_of_the_session_counts_against_it() -> None:
    relay = searched(running())

    class FastPath:
        strangers = 0

        def noted(self, ip_address: str, session: Session) -> Noted:
            del ip_address, session
            self.strangers += 10_000
            return Noted(0.0, relay.now + 2, self.strangers)

    relay.engine.guesses.register(FastPath())
    for _ in range(100):
        assert relay.player_pings(BOB, BOB_AT).verdict is Verdict.GUESS_LIMITED
        relay.now += 0.1


@pytest.mark.parametrize("a_second", [300, 2000, 20_000])
def test_a_search_that_repeats_its_tokens_tries_no_more_than_twenty_a_second(a_second: int) -> None:
    """All of the tokens are right ones, so that each that would have been tried shows."""
    party = range(3000, 3000 + 4 * a_second)
    relay = Relay(specs=[spec(users=(HOST, *party))])
    searched(relay)
    until, seconds, sent = relay.now + 5.0, 5.0, 0
    times = 20
    """How often each comes in three seconds, a group of them at a time."""
    group = 3 * a_second // times
    while relay.now < until:
        first = sent // (times * group) * group
        relay.player_pings(party[(first + sent % group) % len(party)], ("192.0.2.5", 7))
        relay.player_pings(5_000_000 + sent, (f"198.18.{sent % 250}.{sent // 250 % 250}", 7))
        relay.now += 1 / a_second
        sent += 1
    assert relay.table.bound[Port.CLIENT] <= 20 * seconds
