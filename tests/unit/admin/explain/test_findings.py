"""Facts in, findings out. The twelve causes from a real relay are in tests/integration/test_explain.py."""

import pytest

from relayd.admin.explain.causes import Cause, Finding
from relayd.admin.explain.facts import (
    Attempt,
    BindingFacts,
    Change,
    LossFacts,
    RelayFacts,
    SessionFacts,
    Situation,
    UserFacts,
)
from relayd.admin.explain.findings import explain
from relayd.admin.explain.target import read_target
from relayd.core.events import EventKind
from relayd.core.limits import Limits
from relayd.core.verdict import DROPS, Verdict
from relayd.core.wire import Port

RELAY = RelayFacts(32000, 32001, Limits())
TOKEN, HOST, ALICE = 2_947_710_588, 1_024_826_953, 3_957_046_943
BOUND = BindingFacts(Port.CLIENT, "198.51.100.4", 5000, 20.0, 0.2)
AS_HOST = BindingFacts(Port.SERVER, "203.0.113.1", 7777, 60.0, 0.1)


def user(token: int = ALICE, *bindings: BindingFacts, **more: int) -> UserFacts:
    return UserFacts("game", token, None, bindings, **more)


def situation(
    *users: UserFacts,
    asked: tuple[UserFacts, ...] = (),
    attempts: tuple[Attempt, ...] = (),
    changes: tuple[Change, ...] = (),
    players_ever: int = 1,
    relay: RelayFacts = RELAY,
) -> Situation:
    sessions = (SessionFacts("game", TOKEN, users, players_ever),) if users else ()
    return Situation(relay, "token …943", sessions, asked, attempts, changes)


def attempt(verdict: Verdict, **more: object) -> Attempt:
    usual = Attempt(verdict, Port.CLIENT, "198.51.100.4", 5000, ALICE, TOKEN, 70, 70, 10.0, 0.2, "game")
    return usual._replace(**more)  # type: ignore[arg-type]


def found(given: Situation) -> list[Cause]:
    return [finding.cause for finding in explain(given)]


def sentence(given: Situation) -> str:
    return explain(given)[0].sentence


def test_the_sentence_of_an_unknown_user() -> None:
    (finding,) = explain(situation(user(HOST), attempts=(attempt(Verdict.UNKNOWN_PAIR),)))
    assert finding == Finding(
        Cause.USER_TOKEN_UNKNOWN,
        "session game known, user token …943 unknown in it, 70 datagrams from 198.51.100.4 in 9.8 s,"
        " the last 0.2 s ago",
        "authorize the user in session game, or check that user and session token are not swapped",
        0.2,
    )


def test_attempts_from_many_ports_of_one_address_are_one_finding() -> None:
    many = tuple(attempt(Verdict.UNKNOWN_PAIR, udp_port=port, datagrams=2) for port in range(5000, 5010))
    (finding,) = explain(situation(user(HOST), attempts=many))
    assert "20 datagrams from 198.51.100.4" in finding.sentence


@pytest.mark.parametrize(
    "verdict", [one for one in DROPS if one.name not in ("SEND_FAILED", "SEND_QUEUE_FULL", "RELAY_AWAY")]
)
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("tokens", [True, False])
def test_every_verdict_is_put_into_words_without_a_token_in_full(verdict: Verdict, known: bool, tokens: bool) -> None:
    one = attempt(verdict) if tokens else attempt(verdict, user_token=None, session_token=None, session_id=None)
    findings = explain(situation(*([user(), user(HOST, AS_HOST)] if known else []), attempts=(one,)))
    assert findings
    for finding in findings:
        for token in (TOKEN, HOST, ALICE):
            assert str(token) not in finding.sentence + finding.advice


def test_a_refused_user_that_was_revoked_before() -> None:
    revoked = Change("game", EventKind.USER_REVOKED, ALICE, Port.CLIENT, "198.51.100.4", 5000, 1, 12.0)
    given = situation(user(HOST), attempts=(attempt(Verdict.UNKNOWN_PAIR),), changes=(revoked,))
    assert found(given) == [Cause.USER_REVOKED]
    assert "taken out of session game 12 s ago and still sends: 70 datagrams" in sentence(given)


def test_a_user_that_was_refused_before_it_was_revoked() -> None:
    revoked = Change("game", EventKind.USER_REVOKED, ALICE, None, "", 0, 1, 0.1)
    given = situation(user(HOST), attempts=(attempt(Verdict.UNKNOWN_PAIR),), changes=(revoked,))
    assert found(given) == [Cause.USER_TOKEN_UNKNOWN]


@pytest.mark.parametrize(
    ("kind", "why"),
    [(EventKind.SESSION_REMOVED, "its source names it no longer"), (EventKind.SESSION_IDLE, "nobody was there")],
)
@pytest.mark.parametrize("still_sends", [True, False])
def test_how_a_session_ended(kind: EventKind, why: str, still_sends: bool) -> None:
    end = Change("game", kind, None, None, "", 0, 1, 45.0)
    attempts = (attempt(Verdict.SESSION_ENDED),) if still_sends else ()
    given = situation(attempts=attempts, changes=(end,))
    assert found(given) == [Cause.SESSION_ENDED]
    assert f"ended 45 s ago, {why}" in sentence(given)
    assert ("still sends" in sentence(given)) == still_sends


def test_an_ended_session_that_is_refused_as_unknown_after_a_minute() -> None:
    end = Change("game", EventKind.SESSION_REMOVED, None, None, "", 0, 1, 90.0)
    assert found(situation(attempts=(attempt(Verdict.UNKNOWN_PAIR),), changes=(end,))) == [Cause.SESSION_ENDED]


def test_a_host_that_is_asked_about_while_another_has_its_place() -> None:
    ping = attempt(Verdict.HOST_CONFLICT, port=Port.SERVER, data_datagrams=0)
    given = situation(user(), user(HOST, AS_HOST), attempts=(ping,))
    assert found(given) == [Cause.HOST_CONFLICT]
    assert "wants to be host of session game, but user …953 is the host, heard 0.1 s ago" in sentence(given)


def test_a_player_that_has_sent_data_is_no_host_on_the_wrong_port() -> None:
    lonely = user(ALICE, BOUND, lost_without_host=1)
    given = situation(lonely, asked=(lonely,), attempts=(attempt(Verdict.NO_HOST),))
    assert found(given) == [Cause.NO_HOST]


def test_one_ping_says_nothing_about_the_port() -> None:
    just_came = user(ALICE, BOUND._replace(bound_seconds_ago=0.2))
    assert found(situation(just_came, asked=(just_came,))) == [Cause.NO_HOST]


def test_a_bound_user_that_falls_silent() -> None:
    silent = user(ALICE, BOUND._replace(heard_seconds_ago=12.0))
    given = situation(silent, user(HOST, AS_HOST), asked=(silent,))
    assert found(given) == [Cause.SILENT]
    assert "bound from 198.51.100.4 5000, heard 12 s ago" in sentence(given)


def test_a_user_that_was_unbound_for_its_silence() -> None:
    gone = user()
    change = Change("game", EventKind.USER_SILENT, ALICE, Port.CLIENT, "198.51.100.4", 5000, 1, 300.0)
    given = situation(gone, user(HOST, AS_HOST), asked=(gone,), changes=(change,))
    assert found(given) == [Cause.SILENT]
    assert "was unbound 5 min ago, after 30 s of silence at 198.51.100.4 5000" in sentence(given)


def test_a_user_whose_mapping_went_to_another_one() -> None:
    gone = user()
    change = Change("game", EventKind.USER_DISPLACED, ALICE, Port.CLIENT, "198.51.100.4", 5000, 1, 300.0)
    given = situation(gone, user(HOST, AS_HOST), asked=(gone,), changes=(change,))
    assert found(given) == [Cause.SILENT]
    why = "not heard for a second after another user came to 198.51.100.4 5000"
    assert f"was unbound 5 min ago, {why}" in sentence(given)


def test_conflicts_that_only_the_kernel_saw() -> None:
    bound = user(ALICE, BOUND._replace(conflicts_by_kernel=40))
    given = situation(bound, user(HOST, AS_HOST), asked=(bound,))
    assert found(given) == [Cause.ADDRESS_CONFLICT, Cause.GETS_THROUGH]
    assert "the kernel dropped 40 datagrams from other addresses" in sentence(given)


def test_what_is_long_ago_comes_last() -> None:
    bound = user(ALICE, BOUND)
    past = attempt(Verdict.NO_HOST, first_seconds_ago=200.0, last_seconds_ago=100.0)
    given = situation(bound, user(HOST, AS_HOST), asked=(bound,), attempts=(past,))
    assert found(given) == [Cause.GETS_THROUGH, Cause.NO_HOST]


def test_a_source_that_is_not_followed_comes_first() -> None:
    stale = RELAY._replace(source_problem="no answer", source_age_seconds=400.0)
    bound = user(ALICE, BOUND)
    given = situation(bound, user(HOST, AS_HOST), asked=(bound,), relay=stale)
    assert found(given) == [Cause.SOURCE_STALE, Cause.GETS_THROUGH]
    assert "has not been followed for 7 min: no answer" in sentence(given)


@pytest.mark.parametrize(
    ("ago", "kernel_sends", "causes"),
    [
        (1.0, True, [Cause.LOST_BY_INTERFACE]),
        (10.0, True, [Cause.LOST_BY_INTERFACE, Cause.GETS_THROUGH]),
        (1.0, False, [Cause.LOST_BY_INTERFACE, Cause.GETS_THROUGH]),
        (90.0, False, [Cause.GETS_THROUGH, Cause.LOST_BY_INTERFACE]),
    ],
)
def test_while_an_interface_loses_what_is_sent_nobody_is_said_to_get_through(
    ago: float, kernel_sends: bool, causes: list[Cause]
) -> None:
    loses = RELAY._replace(losses=(LossFacts("eth0", 47_261, ago, kernel_sends, "turn it off"),))
    bound = user(ALICE, BOUND)
    given = situation(bound, user(HOST, AS_HOST), asked=(bound,), relay=loses)
    assert found(given) == causes
    (lost,) = (finding for finding in explain(given) if finding.cause is Cause.LOST_BY_INTERFACE)
    assert lost.sentence.startswith("eth0 lost 47261 datagrams that the kernel sent by it")
    assert ("the sockets serve there since" in lost.sentence) is not kernel_sends
    assert lost.advice == "turn it off"


def test_before_there_are_sessions() -> None:
    assert found(situation(relay=RELAY._replace(loaded=False))) == [Cause.NO_SESSIONS_YET, Cause.NOTHING_KNOWN]


def test_what_the_kernel_dropped_is_said_where_nothing_is_known() -> None:
    given = situation(relay=RELAY._replace(unknown_by_kernel=9))
    assert "the kernel dropped 9 datagrams of unknown users" in sentence(given)


def test_very_many_who_were_never_heard_are_one_finding() -> None:
    users = tuple(user(ALICE + number) for number in range(100))
    (finding,) = explain(situation(*users, asked=users))
    assert finding.cause is Cause.NOT_HEARD
    assert "and 95 more" in finding.sentence


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("2947710588", "token …588"),
        ("4294967296", "session 4294967296"),
        ("198.51.100.4", "198.51.100.4"),
        ("198.51.100.4:5000", "198.51.100.4 5000"),
        ("198.51.100.4 5000", "198.51.100.4 5000"),
        ("::ffff:198.51.100.4", "198.51.100.4"),
        ("2001:DB8::1", "2001:db8::1"),
        ("[2001:db8::1]:70", "2001:db8::1 70"),
        ("999.1.1.1:5", "session 999.1.1.1:5"),
        ("²", "session ²"),
        ("game-S", "session game-S"),
    ],
)
def test_targets_as_they_are_typed(text: str, words: str) -> None:
    target = read_target(f" {text}\n")
    assert target.words == words
    assert target.session_id == text
