import pytest

from relayd.core.connection_id import ConnectionIdPolicy
from relayd.core.events import EventKind
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from tests.support.relays import ALICE, ALICE_AT, ALICE_MOVED, BOB, BOB_AT, ONGOING, OPENING, Relay

KCP, STABLE, PER_ADDRESS = ConnectionIdPolicy.KCP, ConnectionIdPolicy.STABLE, ConnectionIdPolicy.PER_ADDRESS


def relay_with(policy: ConnectionIdPolicy) -> Relay:
    relay = Relay(Limits(connection_id_policy=policy))
    relay.host_pings()
    relay.player_sends(OPENING)
    relay.now += 1
    return relay


@pytest.mark.parametrize(
    ("policy", "payload", "changes"),
    [
        (KCP, OPENING, True),
        (KCP, ONGOING, False),
        (KCP, b"\x01\0\0\0", False),
        (STABLE, OPENING, False),
        (STABLE, ONGOING, False),
        (PER_ADDRESS, OPENING, True),
        (PER_ADDRESS, ONGOING, True),
    ],
)
def test_the_id_after_a_move(policy: ConnectionIdPolicy, payload: bytes, changes: bool) -> None:
    relay = relay_with(policy)
    before = relay.user().connection_id
    relay.player_sends(payload, source=ALICE_MOVED)
    assert (relay.user().connection_id != before) is changes


@pytest.mark.parametrize("policy", ConnectionIdPolicy)
def test_the_first_binding_is_not_given_two_ids(policy: ConnectionIdPolicy) -> None:
    relay = Relay(Limits(connection_id_policy=policy))
    relay.player_sends(OPENING)
    assert relay.user().connection_id == 1


def test_kcp_only_the_first_data_from_a_new_address_decides() -> None:
    relay = relay_with(KCP)
    relay.player_sends(ONGOING, source=ALICE_MOVED)
    before = relay.user().connection_id
    relay.player_sends(OPENING, source=ALICE_MOVED)
    assert relay.user().connection_id == before


def test_kcp_a_ping_from_the_new_address_decides_nothing() -> None:
    relay = relay_with(KCP)
    before = relay.user().connection_id
    relay.player_pings(source=ALICE_MOVED)
    assert relay.user().connection_id == before
    relay.player_sends(OPENING, source=ALICE_MOVED)
    assert relay.user().connection_id != before
    assert relay.kinds()[-1] is EventKind.CONNECTION_RENEWED


def test_kcp_zero_cookies_from_the_known_address_change_nothing() -> None:
    relay = relay_with(KCP)
    before = relay.user().connection_id
    relay.player_sends(OPENING)
    assert relay.user().connection_id == before


def test_kcp_decides_even_while_there_is_no_host() -> None:
    relay = Relay()
    relay.player_pings()
    relay.now += 1
    assert relay.player_sends(OPENING, source=ALICE_MOVED).verdict is Verdict.NO_HOST
    assert relay.user().connection_id == 2


@pytest.mark.parametrize(("policy", "kept"), [(KCP, False), (STABLE, True), (PER_ADDRESS, False)])
def test_the_id_of_a_player_who_comes_back_with_a_new_connection_after_the_time_out(
    policy: ConnectionIdPolicy, kept: bool
) -> None:
    relay = relay_with(policy)
    before = relay.user().connection_id
    relay.now += 30
    relay.expire()
    assert relay.user().client_binding is None
    relay.player_sends(OPENING)
    assert (relay.user().connection_id == before) is kept


def test_a_retired_id_delivers_to_nobody() -> None:
    relay = relay_with(KCP)
    retired = relay.user().connection_id
    relay.player_sends(OPENING, source=ALICE_MOVED)
    assert relay.host_sends(retired).verdict is Verdict.UNKNOWN_CONNECTION
    assert relay.host_sends(relay.user().connection_id).to == ALICE_MOVED


def test_the_host_sees_the_new_id_at_once() -> None:
    relay = relay_with(KCP)
    action = relay.player_sends(OPENING, source=ALICE_MOVED)
    assert action.datagram == b"\x02" + relay.user().connection_id.to_bytes(4, "little") + OPENING
    assert relay.user().connection_id == 2


def test_an_id_in_use_in_the_session_is_not_given_again() -> None:
    numbers = iter([7, 7, 7, 8])
    relay = Relay(new_connection_id=lambda: next(numbers))
    relay.player_pings(ALICE, ALICE_AT)
    relay.player_pings(BOB, BOB_AT)
    assert (relay.user(ALICE).connection_id, relay.user(BOB).connection_id) == (7, 8)


def test_the_id_of_a_player_who_left_is_kept_for_it() -> None:
    numbers = iter([7, 7, 8])
    relay = Relay(new_connection_id=lambda: next(numbers))
    relay.player_pings(ALICE, ALICE_AT)
    relay.now += 30
    relay.expire()
    relay.player_pings(BOB, BOB_AT)
    relay.player_pings(ALICE, ALICE_AT)
    assert (relay.user(ALICE).connection_id, relay.user(BOB).connection_id) == (7, 8)


def test_the_host_as_such_gets_no_id() -> None:
    relay = Relay()
    relay.host_pings()
    assert relay.table.sessions["game"].players == {}
