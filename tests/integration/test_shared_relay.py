"""A test in which the relay that it shares with others ends takes none of them with it."""

from collections.abc import Iterator

import pytest

from tests.integration.config import new_sessions
from tests.integration.peers import VALID
from tests.integration.relay_process import RelayProcess

SESSIONS = new_sessions("first", "second")


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RelayProcess]:
    with RelayProcess(tmp_path_factory.mktemp("relay"), SESSIONS) as process:
        yield process


@pytest.mark.parametrize("number", [0, 1])
def test_a_relay_that_ended_in_one_test_is_there_for_the_next(relay: RelayProcess, number: int) -> None:
    with relay.host(SESSIONS[number]) as host:
        assert host.ping() == VALID
    if number == 0:
        relay.process.kill()
        relay.process.wait()
