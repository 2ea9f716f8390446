"""What a running relay says of a player's PINGs, whoever answers them."""

import itertools
import json
import time
from typing import Any

from tests.integration.commands import relayd
from tests.integration.config import new_session
from tests.integration.conftest import StartRelay
from tests.integration.peers import OPENS_CONNECTION, VALID, Player
from tests.integration.relay_process import RelayProcess

KEYS = new_session("game")
GAPS_SECONDS = (0.1, 1.6)
"""In the first what waits at the beginning settles, so that one engine hears both ends of the second."""


def shown(relay: RelayProcess) -> dict[str, Any]:
    """The player's binding."""
    users = relay.get_json("/v1/sessions/game")["users"]
    (binding,) = next(user for user in users if user["role"] == "player")["bindings"]
    return dict(binding)


def ping(player: Player) -> tuple[float, float]:
    """Between these times the relay heard it."""
    before = time.monotonic()
    assert player.ping() == VALID
    return before, time.monotonic()


def missed_in(seconds: float) -> int:
    return max(1, int(seconds / 0.5 + 0.5)) - 1


def test_loss_and_jitter_of_a_player(start_relay: StartRelay, forwarder: str) -> None:
    relay = start_relay([KEYS])
    with relay.host(KEYS) as host, relay.player(KEYS) as player:
        assert host.ping() == VALID
        player.say(OPENS_CONNECTION)
        assert host.hear()[1] == OPENS_CONNECTION
        assert "pings" not in shown(relay)

        heard = [ping(player)]
        for gap in GAPS_SECONDS:
            time.sleep(gap)
            heard.append(ping(player))
        pings = shown(relay)["pings"]
        assert pings["heard"] == 3
        shortest = heard[2][0] - heard[1][1]
        longest = [later[1] - earlier[0] for earlier, later in itertools.pairwise(heard)]
        # Python's loop takes the time once a turn, in milliseconds.
        assert missed_in(shortest - 0.1) <= pings["missed"] <= sum(missed_in(gap + 0.1) for gap in longest)
        assert pings["missed"] >= 2
        assert abs(pings["loss"] - pings["missed"] / (3 + pings["missed"])) < 0.0001
        # Of each interval a sixteenth of what it differs, and none differs by more than a period.
        assert 0 < pings["interval_jitter_seconds"] <= 2 * 0.5 / 16

        config = ("--config", str(relay.config_path))
        told = json.loads(relayd("session", "game", "--json", *config).stdout)
        (same,) = [user["bindings"][0] for user in told["users"] if user["role"] == "player"]
        assert same["pings"] == pings
        people = relayd("session", "game", *config).stdout
        jitter_ms = 1000 * pings["interval_jitter_seconds"]
        assert f": 3 PINGs, {100 * pings['loss']:.1f} % missed, interval jitter {jitter_ms:.1f} ms\n" in people
