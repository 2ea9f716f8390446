"""Estimates from PINGs: what is missed, what is jitter, and what is neither."""

import pytest

from relayd.core.pings import LONGEST_INTERVAL_NS, PERIOD_NS, Pings, together
from relayd.core.session import Binding
from tests.support.relays import ALICE_AT, ALICE_MOVED, Relay

BEGIN_NS = 7_000_000_000


def after(*intervals_seconds: float) -> Pings:
    pings = Pings()
    now_ns = BEGIN_NS
    pings.note(now_ns)
    for interval in intervals_seconds:
        now_ns += round(interval * 1e9)
        pings.note(now_ns)
    return pings


def numbers(pings: Pings | None) -> tuple[int, int, int, int] | None:
    return None if pings is None else (pings.last_ns, pings.heard, pings.missed, pings.jitter_sixteenths_ns)


@pytest.mark.parametrize(
    ("interval", "missed"),
    [(0.0, 0), (0.1, 0), (0.5, 0), (0.749, 0), (0.75, 1), (1.0, 1), (1.2, 1), (1.25, 2), (10.0, 19), (29.99, 59)],
)
def test_what_a_gap_says_of_loss(interval: float, missed: int) -> None:
    pings = after(interval)
    assert (pings.heard, pings.missed) == (2, missed)
    assert pings.loss == missed / (2 + missed)


def test_without_any_nothing_is_said() -> None:
    assert (Pings().loss, Pings().interval_jitter_seconds, together(Pings(), None)) == (0.0, 0.0, None)


def test_whoever_was_away_lost_nothing() -> None:
    pings = after(0.5, LONGEST_INTERVAL_NS / 1e9, 0.5)
    assert (pings.heard, pings.missed, pings.jitter_sixteenths_ns) == (4, 0, 0)


def test_even_pings_have_no_jitter_whatever_is_lost() -> None:
    assert after(0.5, 1.0, 0.5, 1.5, 0.5).interval_jitter_seconds == 0.0


def test_jitter_goes_a_sixteenth_of_the_way_to_each_deviation() -> None:
    assert after(0.54).interval_jitter_seconds == pytest.approx(0.04 / 16)
    assert after(0.46).interval_jitter_seconds == pytest.approx(0.04 / 16)
    assert after(0.54, 0.5).interval_jitter_seconds == pytest.approx(0.04 / 16 * 15 / 16)
    assert after(*[0.52, 0.48] * 200).interval_jitter_seconds == pytest.approx(0.02, rel=1e-3)


def test_a_clock_that_seems_to_go_back_says_nothing() -> None:
    pings = after(0.5)
    before = pings.last_ns
    pings.note(before - 1)
    assert numbers(pings) == (before, 3, 0, 0)


def test_what_several_heard_is_added_and_the_last_has_the_jitter() -> None:
    first, last = Pings(BEGIN_NS, 5, 2, 160), Pings(BEGIN_NS + PERIOD_NS, 3, 1, 320)
    for parts in ((first, last), (last, first), (None, last, Pings(), first)):
        assert numbers(together(*parts)) == (BEGIN_NS + PERIOD_NS, 8, 3, 320)
    assert numbers(first) == (BEGIN_NS, 5, 2, 160)


def alice(relay: Relay) -> Binding:
    binding = relay.table.by_token[0xCAFEBABE].users[1001].client_binding
    assert binding is not None
    return binding


def test_the_engine_notes_the_pings_it_answers() -> None:
    relay = Relay()
    relay.player_sends(b"data binds too")
    assert relay.table.presence.pings(alice(relay)) is None
    for _ in range(4):
        relay.player_pings()
        relay.now += 1.0
    assert numbers(relay.table.presence.pings(alice(relay))) == (int((relay.now - 1) * 1e9), 4, 3, 0)


def test_a_player_who_moves_goes_on() -> None:
    relay = Relay()
    relay.player_pings(source=ALICE_AT)
    relay.now += 1.0
    relay.player_pings(source=ALICE_MOVED)
    pings = relay.table.presence.pings(alice(relay))
    assert pings is not None
    assert (pings.heard, pings.missed) == (2, 1)


def test_the_interval_across_a_change_of_engines_is_not_counted() -> None:
    relay = Relay()
    relay.player_pings()
    binding = alice(relay)
    relay.now += 5.0
    binding.take_pings(Pings(int((relay.now - 1) * 1e9), 8, 1, 32))
    relay.player_pings()
    assert numbers(binding.pings) == (int(relay.now * 1e9), 9 + 1, 1, 32)


def test_who_was_not_heard_elsewhere_either_has_none() -> None:
    relay = Relay()
    relay.player_sends(b"data")
    alice(relay).take_pings(Pings())
    assert alice(relay).pings is None
