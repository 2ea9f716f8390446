"""How records get to whoever takes them."""

import asyncio
import json
from pathlib import Path

import pytest

from relayd.core.usage import (
    Counts,
    Reason,
    UsageBatch,
    UsageDelayedError,
    UsageRefusedError,
    UsageTaker,
    UsageUnwantedError,
)
from relayd.usage import records_file
from relayd.usage.journal import Journal
from relayd.usage.records_file import UsageFile
from relayd.usage.sender import Sender


class Taker:
    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.taken: list[int] = []

    async def take(self, batch: UsageBatch) -> None:
        if self.failures:
            raise self.failures.pop(0)
        self.taken += [record.sequence for record in batch.records]


def journal_of(records: int) -> Journal:
    journal = Journal(None, lambda: "stream")
    for number in range(records):
        journal.ledger.start(f"span {number}", "a", 100.0)
    asyncio.run(journal.write())
    return journal


def sent(journal: Journal, taker: UsageTaker | None, otherwise: UsageTaker) -> None:
    async def send() -> None:
        sender = Sender(journal, taker, otherwise)
        while await sender.send():
            pass

    asyncio.run(send())
    assert not journal.ledger.unsent


def test_all_is_sent_in_batches() -> None:
    taker = Taker()
    sent(journal_of(1200), taker, Taker())
    assert taker.taken == list(range(1, 1201))


def test_what_was_not_taken_is_sent_again() -> None:
    taker = Taker(UsageDelayedError("not now", 0.0), UsageDelayedError("not now", 0.0))
    sent(journal_of(3), taker, Taker())
    assert taker.taken == [1, 2, 3]


def test_a_defect_of_the_taker_ends_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.usage.sender._PAUSE_SECONDS", 0.0)
    taker = Taker(RuntimeError("a defect"))
    sent(journal_of(3), taker, Taker())
    assert taker.taken == [1, 2, 3]


class Fussy(Taker):
    """Refuses every batch with one of these numbers."""

    def __init__(self, *refused: int) -> None:
        super().__init__()
        self.refused = set(refused)

    async def take(self, batch: UsageBatch) -> None:
        if self.refused & {record.sequence for record in batch.records}:
            raise UsageRefusedError("session_id: is too long")
        await super().take(batch)


@pytest.mark.parametrize("refused", [(), (1,), (150, 151), (1200,), tuple(range(1, 1201))])
def test_a_record_that_is_refused_holds_up_no_other(refused: tuple[int, ...]) -> None:
    journal, taker, otherwise = journal_of(1200), Fussy(*refused), Taker()
    sent(journal, taker, otherwise)
    assert sorted([*taker.taken, *otherwise.taken]) == list(range(1, 1201))
    assert otherwise.taken == list(refused)
    assert journal.ledger.refused == len(refused)


@pytest.mark.parametrize("taker", [None, Taker(*[UsageUnwantedError()] * 9)])
def test_where_nobody_wants_them_they_go_elsewhere(taker: Taker | None) -> None:
    otherwise = Taker()
    sent(journal_of(3), taker, otherwise)
    assert otherwise.taken == [1, 2, 3]


def test_the_file_has_a_line_for_each(tmp_path: Path) -> None:
    journal = journal_of(2)
    journal.ledger.stop("span 1", Counts(1, 10, 2, 20), 160.0, Reason.REMOVED)
    asyncio.run(journal.write())
    sent(journal, None, UsageFile(tmp_path, "relay-1"))
    first, second, third = map(json.loads, (tmp_path / records_file.NAME).read_text(encoding="utf-8").splitlines())
    assert (first["kind"], second["sequence"]) == ("start", 2)
    assert third == {
        "relay": "relay-1",
        "stream": "stream",
        "sequence": 3,
        "span": "span 1",
        "session_id": "a",
        "kind": "stop",
        "reason": "removed",
        "began_at": 100.0,
        "from_at": 100.0,
        "to_at": 160.0,
        "delta": {"to_host_datagrams": 1, "to_host_bytes": 10, "to_player_datagrams": 2, "to_player_bytes": 20},
        "total": {"to_host_datagrams": 1, "to_host_bytes": 10, "to_player_datagrams": 2, "to_player_bytes": 20},
    }


def test_the_file_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(records_file, "MOST_BYTES", 1000)
    taker = UsageFile(tmp_path, "relay-1")
    for _ in range(20):
        sent(journal_of(1), None, taker)
    assert sorted(path.name for path in tmp_path.iterdir()) == [records_file.NAME, f"{records_file.NAME}.1"]
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) < 3000


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    taker = UsageFile(tmp_path / "missing", "relay-1")
    with pytest.raises(UsageDelayedError, match=r"usage\.jsonl: No such file or directory"):
        asyncio.run(taker.take(UsageBatch("stream", [])))


@pytest.mark.parametrize("half", [b"x", b'{"relay": "rel', b"\0" * 200_000])
@pytest.mark.parametrize("batches", [0, 1])
def test_half_a_line_that_a_crash_left_spoils_no_other(tmp_path: Path, half: bytes, batches: int) -> None:
    taker = UsageFile(tmp_path, "relay-1")
    for _ in range(batches):
        sent(journal_of(2), None, taker)
    with (tmp_path / records_file.NAME).open("ab") as torn:
        torn.write(half)
    sent(journal_of(2), None, taker)
    written = (tmp_path / records_file.NAME).read_text(encoding="utf-8")
    found = [json.loads(line)["sequence"] for line in written.splitlines()]
    assert found == [1, 2] * (batches + 1)
