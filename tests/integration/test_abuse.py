"""What is done to a relay that no game does, against the real program: it holds, and others play on."""

import random
import re
import socket
import struct
from pathlib import Path

import pytest

from relayd.core.limits import Limits
from tests.integration import holding
from tests.integration.config import SessionKeys, new_session, new_token
from tests.integration.conftest import StartRelay
from tests.integration.invented import needs_invented_sources, send_from
from tests.integration.peers import DATA, INVALID, OPENS_CONNECTION, PING, VALID, Host, Player
from tests.integration.relay_process import RelayProcess, counted, datagrams_in, difference
from tests.integration.waiting import eventually

pytestmark = pytest.mark.usefixtures("forwarder")

GUESSES = 200
RATES = {key: Limits.model_fields[key].default for key in ("guesses_per_second", "guesses_per_source_per_second")}
ELSEWHERE = "127.0.0.2"
MEMORY_NOISE_BYTES = 3 << 20
"""Of allocators; what is left of one flood would be many times that."""


def guess(relay: RelayProcess, keys: SessionKeys, guesser: Player, count: int) -> int:
    """Has unknown user tokens tried and then the right one, in vain; returns how many of them were answered."""
    before = relay.counts()
    # So that it finds all at once, or the time for what is judged at leisure would allow for more.
    with holding.all_of(relay):
        for _ in range(count):
            guesser.send(struct.pack("<II", new_token(), keys.token) + PING)
        right = guesser.send_ping()
    moved = relay.counted_since(before, count + 1)
    assert moved["client unknown_pair"].datagrams == count
    assert moved["client guess_limited"] == (1, len(right))
    answers = guesser.received_by_now()
    assert set(answers) <= {INVALID}
    return len(answers)


def test_guessed_tokens(start_relay: StartRelay) -> None:
    """Of an insider, who knows the session's token."""
    keys = new_session("searched", players=4)
    relay = start_relay([keys], {"limits": RATES})
    with relay.host(keys) as host, relay.player(keys) as playing, relay.player(keys, 1) as lucky:
        assert (host.ping(), playing.ping()) == (VALID, VALID)
        assert guess(relay, keys, lucky, GUESSES) < GUESSES
        # Who is bound plays on, and others come in from elsewhere.
        playing.say(OPENS_CONNECTION)
        assert host.hear()[1] == OPENS_CONNECTION
        with Player(relay.address("client"), keys.players[2], keys.token, (ELSEWHERE, 0)) as other:
            assert other.ping() == VALID
        assert "tokens_guessed" in relay.get(f"/v1/explain?target={keys.players[1]}")[1]
        lucky.ping_until(VALID)


def test_guesses_from_many_sources(start_relay: StartRelay) -> None:
    keys = SessionKeys("searched", new_token(), (new_token(), new_token(), new_token()), (None, None, ELSEWHERE))
    relay = start_relay([keys], {"limits": RATES})
    client = relay.address("client")
    before = relay.counts()
    sources = [f"127.7.{number // 250}.{1 + number % 250}" for number in range(GUESSES)]
    with (
        Player(client, keys.players[0], keys.token) as unfamiliar,
        Player(client, keys.players[1], keys.token, (ELSEWHERE, 0)) as familiar,
    ):
        with holding.all_of(relay):
            for source in sources:
                with Player(client, new_token(), keys.token, (source, 0)) as one:
                    one.send_ping()
            refused = unfamiliar.send_ping()
        moved = relay.counted_since(before, GUESSES + 1)
        assert moved["client unknown_pair"].datagrams == GUESSES
        assert moved["client guess_limited"] == (1, len(refused))
        assert familiar.ping() == VALID
        unfamiliar.ping_until(VALID)


@pytest.mark.parametrize(
    ("limit", "sender"),
    [
        ({"user_bytes_per_second": 1200}, "player"),
        ({"host_datagrams_per_second": 5}, "host"),
        ({"host_bytes_per_second": 1200}, "host"),
        ({"session_datagrams_per_second": 5}, "player"),
        ({"session_bytes_per_second": 1200}, "host"),
    ],
)
def test_each_rate(start_relay: StartRelay, limit: dict[str, int], sender: str) -> None:
    keys = new_session("fast")
    relay = start_relay([keys], {"limits": limit})
    with relay.host(keys) as host, relay.player(keys) as player:
        peer = player if sender == "player" else host
        assert peer.ping() == VALID
        before = relay.counts()
        pings = [peer.send_ping() for _ in range(400)]
        moved = relay.counted_since(before, len(pings))
        answers = peer.received_by_now()
        port = "client" if sender == "player" else "server"
        assert 0 < len(answers) < len(pings)
        assert moved == {
            **counted(port, "answered", *pings[: len(answers)]),
            **counted(port, "rate_limited", *pings[len(answers) :]),
        }
        assert relay.get_json("/v1/sessions/fast")["drops"] == {"rate_limited": len(pings) - len(answers)}


# Sources that cannot be ------------------------------------------------------------------------------------------


@needs_invented_sources
@pytest.mark.parametrize("bind", [["127.0.0.1"], ["0.0.0.0"]])
def test_what_seems_to_come_from_the_relay_itself_or_from_port_0_is_dropped(
    start_relay: StartRelay, bind: list[str]
) -> None:
    keys = new_session("looped")
    relay = start_relay([keys], {"relay": {"bind": bind}})
    client, server = relay.address("client"), relay.address("server")
    right = struct.pack("<II", keys.players[0], keys.token)
    sources = [client, server, ("127.0.0.1", 0), (ELSEWHERE, 0)]
    if bind == ["0.0.0.0"]:
        sources.append((ELSEWHERE, client[1]))
    before = relay.counts()
    sent = []
    for source in sources:
        for datagram in (right + PING, right + DATA + OPENS_CONNECTION, struct.pack("<II", 1, 2) + PING):
            send_from(source, client, datagram)
            sent.append(datagram)
    relay.assert_counted(before, counted("client", "bad_source", *sent))
    with relay.host(keys) as host, relay.player(keys) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
    assert relay.get_json("/v1/sessions/looped")["drops"] == {"bad_source": 2 * len(sources)}


# Memory ----------------------------------------------------------------------------------------------------------


def memory_bytes(relay: RelayProcess) -> int:
    """That is the relay's own."""
    status = Path(f"/proc/{relay.process.pid}/status").read_text(encoding="utf-8")
    found = re.search(r"RssAnon:\s+(\d+) kB", status)
    assert found is not None
    return int(found[1]) << 10


def flood(relay: RelayProcess, keys: SessionKeys, seed: int) -> None:
    """All kinds, from a thousand sources."""
    chance = random.Random(seed)
    client, server = relay.address("client"), relay.address("server")
    for number in range(1000):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind((f"127.{chance.randrange(1, 255)}.{number // 250}.{1 + number % 250}", 0))
            for _ in range(20):
                session = keys.token if chance.random() < 0.6 else chance.randrange(1 << 32)
                user = chance.choice(keys.users) if chance.random() < 0.3 else chance.randrange(1 << 32)
                kind = chance.choice((PING, DATA, b"", b"\x07"))
                datagram = struct.pack("<II", user, session) + kind + chance.randbytes(chance.randrange(1300))
                sock.sendto(datagram[: chance.choice((5, 9, 2000))], chance.choice((client, server)))
    settled(relay)


def settled(relay: RelayProcess) -> None:
    """Waits until nothing of it is left to judge."""

    def still() -> bool:
        before = relay.counts()
        with Host(relay.address("server"), 1, 1) as fence:
            fence.send_ping()
            return datagrams_in(difference(relay.counts(), before)) <= 1

    eventually(still, "the flood is over")


def test_memory_is_flat_under_a_flood(start_relay: StartRelay) -> None:
    keys = new_session("flooded", players=7)
    relay = start_relay([keys], {"limits": {"rebind_after": 600.0}})
    with relay.host(keys) as host, relay.player(keys) as player:
        assert (host.ping(), player.ping()) == (VALID, VALID)
        for seed in range(3):
            flood(relay, keys, seed)
        before = memory_bytes(relay)
        for seed in range(3, 6):
            flood(relay, keys, seed)
        assert memory_bytes(relay) < before + MEMORY_NOISE_BYTES
        assert player.ping() == VALID
