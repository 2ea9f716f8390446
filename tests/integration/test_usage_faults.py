"""Usage records when disks are full or read-only, and control planes slow, wrong, locked or out of reach."""

import functools
import sqlite3
import time
from pathlib import Path

import pytest

from relayd.core.usage import Counts
from tests.integration.config import Sections, SessionKeys, new_session
from tests.integration.conftest import StartRelay
from tests.integration.control_plane.process import Server
from tests.integration.disks import is_full, may_mount
from tests.integration.relay_process import RelayProcess
from tests.integration.stand_in import (
    Misbehaviour,
    StandIn,
    come_back_later,
    garbage,
    relay_session,
    server_error,
    wrong_shape,
)
from tests.integration.test_faults import OnItsOwnDisk
from tests.integration.test_usage import OFTEN, control_plane, created, following, play, recorded, used
from tests.integration.waiting import eventually

__all__ = ["control_plane"]

PUBLIC_IP = "203.0.113.1"

needs_mount = pytest.mark.skipif(not may_mount(), reason="needs root, or user namespaces for everybody")


def named_by(stand_in: StandIn, session: SessionKeys) -> Sections:
    """Has the control plane name the session. Returns the settings of a relay that follows it."""
    stand_in.sessions = [relay_session(session, PUBLIC_IP, 1, 2)]
    source = {"kind": "control_plane", "url": stand_in.url, "timeout": 0.5}
    return {"source": source, "relay": {"public_ip": PUBLIC_IP}, **OFTEN}


def summed(stand_in: StandIn) -> Counts:
    """Added up as the documentation says: the highest of each span."""
    most: dict[str, Counts] = {}
    for record in list(stand_in.usage):
        most[record["span"]] = Counts(*map(max, record["total"].values(), most.get(record["span"], Counts())))
    return functools.reduce(Counts.plus, most.values(), Counts())


def ended(stand_in: StandIn) -> bool:
    return any(record["kind"] == "stop" for record in list(stand_in.usage))


# Disks --------------------------------------------------------------------------------------------------------


@needs_mount
def test_on_a_disk_that_is_full_for_a_while(tmp_path: Path) -> None:
    session = new_session("game")
    with StandIn(nodes=True) as stand_in:
        relay = OnItsOwnDisk("size=8m", tmp_path, session, named_by(stand_in, session))
        with relay:
            forwarded = play(relay, session)
            eventually(lambda: summed(stand_in) == forwarded, "it is recorded")
            filler = Path(f"/proc/{relay.process.pid}/root/{tmp_path}/state/filler")
            with filler.open("wb", buffering=0) as file:
                while not is_full(file.fileno()):
                    """A page more."""
            # What is left of the page that the journal ends in takes some records yet.
            forwarded = forwarded.plus(play(relay, session, lambda: not relay.metrics()["relayd_usage_journal_up",]))
            forwarded = forwarded.plus(play(relay, session))
            stand_in.sessions, stand_in.removed = [], [session.session_id]
            stand_in.changed()
            eventually(lambda: relay.metrics()["relayd_sessions",] == 0, "the session ends")
            assert not ended(stand_in), "what no disk has is not handed over"
            filler.unlink()
            eventually(lambda: ended(stand_in), "its end is recorded")
            assert summed(stand_in) == forwarded
            assert relay.metrics()["relayd_usage_journal_up",] == 1
            assert relay.log_lines(event="the usage journal can be written again")
        assert len(relay.log_lines(event="the usage journal cannot be written; usage is recorded once it can")) == 1


@needs_mount
def test_on_a_read_only_disk_records_are_handed_over_from_memory(tmp_path: Path) -> None:
    session = new_session("game")
    with StandIn(nodes=True) as stand_in:
        relay = OnItsOwnDisk("ro", tmp_path, session, named_by(stand_in, session))
        with relay:
            forwarded = play(relay, session)
            eventually(lambda: summed(stand_in) == forwarded, "it is recorded")
            assert relay.metrics()["relayd_usage_journal_up",] == 0


# Control planes -----------------------------------------------------------------------------------------------


def hangs(handler: object) -> None:
    """Answers long after anybody waits for it."""
    time.sleep(1.0)
    server_error(handler)  # type: ignore[arg-type]


def takes_and_says_nothing(handler: object) -> None:
    """The answer is lost on its way."""
    handler.stand_in.usage += handler.body["records"]  # type: ignore[attr-defined]
    handler.close_connection = True  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "misbehaviour",
    [hangs, takes_and_says_nothing, garbage, wrong_shape, server_error, come_back_later],
    ids=lambda one: one.__name__,
)
def test_whatever_is_answered_each_record_is_taken_in_the_end(
    start_relay: StartRelay, misbehaviour: Misbehaviour
) -> None:
    session = new_session("game")
    tried: list[int] = []

    def misbehave(handler: object) -> None:
        tried.append(1)
        misbehaviour(handler)  # type: ignore[arg-type]

    with StandIn(nodes=True) as stand_in:
        stand_in.usage_misbehaviour = misbehave
        relay = start_relay(None, named_by(stand_in, session))
        forwarded = play(relay, session)
        eventually(lambda: len(tried) >= 2, "it is tried again")
        assert relay.metrics()["relayd_usage_unsent",] >= 1
        assert relay.metrics()["relayd_usage_records_total", "taken"] == 0
        stand_in.usage_misbehaviour = None
        forwarded = forwarded.plus(play(relay, session))
        eventually(lambda: summed(stand_in) == forwarded, "all are taken")
        eventually(lambda: relay.metrics()["relayd_usage_unsent",] == 0, "none waits")
        assert relay.log_lines(event="usage records are not taken; they are kept", level="warning")
        assert relay.log_lines(event="usage records are taken again")


def test_a_database_that_is_locked_while_usage_is_reported(control_plane: Server, tmp_path: Path) -> None:
    with RelayProcess(tmp_path, None, following(control_plane)) as relay:
        keys = created(control_plane)
        forwarded = play(relay, keys)
        eventually(recorded(control_plane, keys, forwarded), "it is recorded")
        with sqlite3.connect(control_plane.database, isolation_level=None) as lock:
            lock.execute("BEGIN IMMEDIATE")
            forwarded = forwarded.plus(play(relay, keys))
            said = "usage records are not taken; they are kept"
            eventually(lambda: relay.log_lines(event=said), "they are not taken")
            assert used(control_plane, keys), "reading goes on"
            lock.execute("ROLLBACK")
        eventually(recorded(control_plane, keys, forwarded), "they are taken")


def test_a_key_that_is_revoked_and_replaced(control_plane: Server, tmp_path: Path) -> None:
    path = tmp_path / "relay-key"
    path.write_text(new_key(control_plane), encoding="utf-8")
    settings = following(control_plane)
    with RelayProcess(tmp_path, None, {**settings, "source": {**settings["source"], "token_file": str(path)}}) as relay:
        keys = created(control_plane)
        forwarded = play(relay, keys)
        eventually(recorded(control_plane, keys, forwarded), "it is recorded")
        (key_id,) = (line.split()[0] for line in control_plane.command("keys", "list").stdout.splitlines())
        assert control_plane.command("keys", "revoke", key_id).returncode == 0
        forwarded = forwarded.plus(play(relay, keys))
        said = "usage records are not taken; they are kept"
        eventually(lambda: relay.log_lines(event=said), "they are not taken")
        assert "the key is not accepted" in relay.log_lines(event=said)[0]["problem"]
        path.write_text(new_key(control_plane), encoding="utf-8")
        eventually(recorded(control_plane, keys, forwarded), "they are taken")


def new_key(server: Server) -> str:
    return server.command("keys", "add", "relays", "--scope", "nodes:write").stdout.strip()
