"""`relayd top`: what it shows of a relay with traffic, once, for machines, and live on a terminal."""

import json
import os
import pty
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.integration.commands import assert_one_clear_line, relayd, write_config
from tests.integration.config import SessionKeys, new_sessions
from tests.integration.conftest import StartRelay
from tests.integration.peers import GOES_ON, OPENS_CONNECTION, VALID
from tests.integration.programs import REPOSITORY, command
from tests.integration.relay_process import RelayProcess, environment
from tests.integration.waiting import eventually


@contextmanager
def traffic(relay: RelayProcess, session: SessionKeys) -> Iterator[None]:
    """A player and a host that talk about 200 times a second, and a datagram that is dropped each time."""
    over = threading.Event()

    def talk() -> None:
        with relay.host(session) as host, relay.player(session) as player:
            assert host.ping() == VALID
            player.say(OPENS_CONNECTION)
            connection_id, _ = host.hear()
            while not over.wait(0.005):
                player.say(GOES_ON)
                host.hear()
                host.say(connection_id, GOES_ON)
                player.hear()
                player.say(b"")

    thread = threading.Thread(target=talk)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def test_once_for_people_and_machines(start_relay: StartRelay) -> None:
    busy, quiet = new_sessions("busy", "[red]quiet")
    relay = start_relay([busy, quiet])
    config = ("--config", str(relay.config_path))
    with relay.player(quiet) as player, traffic(relay, busy):
        assert player.ping() == VALID
        eventually(lambda: relay.get_json("/v1/status")["ports"]["server"].get("forwarded"), "there is traffic")
        done = relayd("top", "--json", *config)
        assert (done.returncode, done.stderr) == (0, "")
        shown = json.loads(done.stdout)
        assert [row["session_id"] for row in shown["sessions"]] == ["busy", "[red]quiet"]
        for direction in ("to_host", "to_player"):
            assert shown[direction]["datagrams_per_second"] > 0
            assert shown["sessions"][0][direction]["bytes_per_second"] > 0
            assert shown["sessions"][1][direction]["bytes_per_second"] == 0
        assert set(shown["dropped_per_second"]) == {"no_payload"}
        assert shown["users"] == {"authorized": 6, "host": 1, "player": 2}
        assert shown["source"]["problem"] is None
        for options in (("--once",), ()):
            text = relayd("top", "--interval", "0.2", *options, *config).stdout
            assert "running     2 of 2 sessions active, 1 hosts and 2 players of 6 users bound" in text
            assert "no_payload" in text
            assert "busy" in text
            assert "[red]quiet" in text
    active = relay.get_json("/v1/sessions?active=true")
    assert active["total_count"] == 2
    assert relay.get_json("/v1/sessions?active=true&limit=1&offset=1")["sessions"][0]["session_id"] == "[red]quiet"


def test_sessions_with_nobody_are_not_active(start_relay: StartRelay) -> None:
    relay = start_relay(new_sessions("one", "two"))
    assert relay.get_json("/v1/sessions?active=true") == {"total_count": 0, "sessions": []}
    assert "nobody plays" in relayd("top", "--interval", "0.1", "--config", str(relay.config_path)).stdout


def test_live_on_a_terminal(start_relay: StartRelay) -> None:
    relay = start_relay(new_sessions("one"))
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        # Whoever starts tests in the background may have them, and so their children, ignore SIGINT.
        ["env", "--default-signal=INT", *command("top", "--interval", "0.1", "--config", str(relay.config_path))],
        cwd=REPOSITORY,
        env={**environment(), "TERM": "xterm"},
        stdin=theirs,
        stdout=theirs,
        stderr=subprocess.PIPE,
    )
    os.close(theirs)
    shown = b""
    try:
        os.set_blocking(ours, False)

        def look() -> None:
            nonlocal shown
            # Nobody is at the other end any more once it has ended (EIO).
            with suppress(OSError):
                shown += os.read(ours, 65536)

        def drawn_twice() -> bool:
            look()
            return shown.count(b"sessions active") >= 2

        def ended() -> bool:
            # A terminal that is not read would hold it up.
            look()
            return process.poll() is not None

        eventually(drawn_twice, "it draws, and draws again")
        process.send_signal(signal.SIGINT)
        eventually(ended, "it ends")
        assert process.returncode == 0
        assert process.stderr is not None
        assert process.stderr.read() == b""
    finally:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        os.close(ours)


def test_while_no_relay_runs(tmp_path: Path) -> None:
    assert_one_clear_line(relayd("top", "--config", str(write_config(tmp_path))), 69, "no relay answers on 127.0.0.1:")
