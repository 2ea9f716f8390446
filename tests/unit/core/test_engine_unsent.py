"""What is counted once more when the kernel did not take what the engine decided to send."""

import pytest

from relayd.core.endpoint import Endpoint
from relayd.core.engine import Action
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State
from tests.support.relays import CLIENT, SERVER, STRANGER_AT, Relay

REASONS = [Verdict.SEND_QUEUE_FULL, Verdict.SEND_FAILED]


@pytest.fixture
def relay() -> Relay:
    relay = Relay()
    relay.host_pings()
    relay.player_pings()
    return relay


def counts(relay: Relay, endpoint: Endpoint, *verdicts: Verdict) -> list[tuple[int, int]]:
    return [relay.count(endpoint.port, verdict) for verdict in verdicts]


@pytest.mark.parametrize("reason", REASONS)
def test_data_to_the_host_moves_from_forwarded_to_the_reason(relay: Relay, reason: Verdict) -> None:
    relay.player_sends(b"12345")
    action = relay.player_sends(b"123")
    total = relay.counted()
    relay.engine.unsent(CLIENT, 12, action, reason)
    assert counts(relay, CLIENT, Verdict.FORWARDED, reason) == [(1, 14), (1, 12)]
    assert relay.counted() == total
    session = relay.table.sessions["game"]
    traffic = session.traffic()
    assert (traffic.to_host_datagrams, traffic.to_host_bytes) == (1, 14)
    assert (traffic.to_player_datagrams, traffic.to_player_bytes) == (0, 0)
    assert session.drops == {reason: 1}


@pytest.mark.parametrize("reason", REASONS)
def test_data_to_a_player_moves_from_forwarded_to_the_reason(relay: Relay, reason: Verdict) -> None:
    number = relay.user().connection_id
    relay.host_sends(number, b"12345")
    action = relay.host_sends(number, b"123")
    total = relay.counted()
    relay.engine.unsent(SERVER, 16, action, reason)
    assert counts(relay, SERVER, Verdict.FORWARDED, reason) == [(1, 18), (1, 16)]
    assert relay.counted() == total
    traffic = relay.table.sessions["game"].traffic()
    assert (traffic.to_player_datagrams, traffic.to_player_bytes) == (1, 18)
    assert (traffic.to_host_datagrams, traffic.to_host_bytes) == (0, 0)


def test_an_answer_moves_from_answered_to_the_reason(relay: Relay) -> None:
    action = relay.player_pings()
    total = relay.counted()
    relay.engine.unsent(CLIENT, 9, action, Verdict.SEND_QUEUE_FULL)
    assert counts(relay, CLIENT, Verdict.ANSWERED, Verdict.SEND_QUEUE_FULL) == [(1, 9), (1, 9)]
    assert relay.counted() == total
    assert relay.table.sessions["game"].drops is None


def test_a_refusal_keeps_its_verdict_and_was_not_told(relay: Relay) -> None:
    action: Action = relay.player_pings(user=4, source=STRANGER_AT)
    told = relay.engine.counters.refusals_told[Port.CLIENT]
    assert told[State.INVALID] == 1
    relay.engine.unsent(CLIENT, 9, action, Verdict.SEND_FAILED)
    assert told[State.INVALID] == 0
    assert counts(relay, CLIENT, Verdict.UNKNOWN_PAIR, Verdict.SEND_FAILED) == [(1, 9), (0, 0)]
