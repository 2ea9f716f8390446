"""The journal's format, written out: whatever relayd becomes, it has to read what waits to be billed."""

from relayd.core.usage import Counts, Kind, Ledger, Reason, UsageRecord
from relayd.usage import lines

VERSION_1 = (
    b'5047fe9d {"journal":1,"stream":"5b1e","sequence":8,"acknowledged":2}\n'
    b'b717f7c5 [4,"a1","game-1","start",null,1000.5,1000.5,1000.5,0,0,0,0,0,0,0,0]\n'
    b'afbd5d90 [5,"b2","game-2","interim",null,900.0,1000.0,1001.0,1,20,3,40,5,60,7,80]\n'
    b'41f82167 [6,"b2","game-2","stop","idle",900.0,1001.0,1002.0,0,0,1,9,5,60,8,89]\n'
    b'e7192bb7 [7,"c3","game-3","stop","removed",1.0,2.0,3.0,0,0,0,0,0,0,0,0]\n'
    b'2d78c093 [8,"d4","game-4","stop","restart",1.0,2.0,3.0,0,0,0,0,0,0,0,0]\n'
    b'dd72b3e0 {"acknowledged":3}\n'
)
RECORDS = [
    UsageRecord(4, "a1", "game-1", Kind.START, None, 1000.5, 1000.5, 1000.5, Counts(), Counts()),
    UsageRecord(
        5, "b2", "game-2", Kind.INTERIM, None, 900.0, 1000.0, 1001.0, Counts(1, 20, 3, 40), Counts(5, 60, 7, 80)
    ),
    UsageRecord(
        6, "b2", "game-2", Kind.STOP, Reason.IDLE, 900.0, 1001.0, 1002.0, Counts(0, 0, 1, 9), Counts(5, 60, 8, 89)
    ),
    UsageRecord(7, "c3", "game-3", Kind.STOP, Reason.REMOVED, 1.0, 2.0, 3.0, Counts(), Counts()),
    UsageRecord(8, "d4", "game-4", Kind.STOP, Reason.RESTART, 1.0, 2.0, 3.0, Counts(), Counts()),
]


def test_version_1_is_written_so() -> None:
    written = lines.head(Ledger("5b1e"), 8, 2) + lines.records(RECORDS) + lines.acknowledged(3)
    assert written == VERSION_1


def test_version_1_is_read() -> None:
    replayed = lines.Replayed(VERSION_1, lambda: "another")
    ledger = replayed.ledger
    assert (ledger.stream, ledger.sequence, ledger.acknowledged) == ("5b1e", 8, 3)
    assert list(ledger.unsent.values()) == RECORDS
    assert (replayed.damaged, replayed.headless, replayed.bytes) == (0, False, len(VERSION_1))


def test_every_kind_and_reason_is_in_it() -> None:
    assert {record.kind for record in RECORDS} == set(Kind)
    assert {record.reason for record in RECORDS} == {None, *Reason}
