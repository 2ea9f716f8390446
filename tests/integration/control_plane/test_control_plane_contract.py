"""schemathesis against a running control plane, over the contract and over what the server says of itself."""

import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.control_plane.process import KEY, FakeRelay, Server
from tests.integration.waiting import PATIENCE_SECONDS

CONTRACT = Path(__file__).parents[2] / "fixtures" / "edgegap-relays-v1.json"


@pytest.fixture
def server_with_relay(server: Server) -> Iterator[Server]:
    """With a relay that keeps applying whatever it is told, so that sessions become ready."""
    relay = FakeRelay(server, capacity=10**6)
    relay.sync()
    over = threading.Event()

    def keep_in_step() -> None:
        while not over.is_set():
            relay.beat(wait=0.2)
            relay.read()

    thread = threading.Thread(target=keep_in_step)
    thread.start()
    yield server
    over.set()
    thread.join()


def run_schemathesis(server: Server, schema: str, *options: str) -> None:
    ended = subprocess.run(
        [
            sys.executable, "-m", "schemathesis.cli", "run", schema, "--url", server.url,
            "--header", f"Authorization: token {KEY}", "--max-examples", "40", "--seed", "1",
            "--generation-database", "none", "--no-color",
            # Some of what it draws asks the server to wait.
            "--request-timeout", str(PATIENCE_SECONDS), *options,
        ],
        capture_output=True, text=True, timeout=5 * PATIENCE_SECONDS, check=False, cwd=server.directory,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert '"request failed"' not in server.log.read_text()


def test_what_the_server_says_of_itself(server_with_relay: Server) -> None:
    # Without the heartbeats, which would make relays that no session gets ready on.
    run_schemathesis(server_with_relay, f"{server_with_relay.url}/openapi.json", "--exclude-path-regex", "/nodes/")
    assert '"session ready"' in server_with_relay.log.read_text()


def test_what_the_server_says_to_relays(server: Server) -> None:
    # Their numbers are taken in forms that no schema tells apart: false is 0, and 5.0 is no number of a record.
    lenient = "negative_data_rejection,positive_data_acceptance"
    schema = f"{server.url}/openapi.json"
    run_schemathesis(server, schema, "--include-path-regex", "/nodes/", "--exclude-checks", lenient)
    assert '"relay joined"' in server.log.read_text()


def test_the_contract(server_with_relay: Server) -> None:
    # The contract leaves addresses and filters without a type, so that `{"users": [null]}` fits it, and yet a bad
    # address is to be refused: this one check contradicts it.
    run_schemathesis(server_with_relay, str(CONTRACT), "--exclude-checks", "positive_data_acceptance")
