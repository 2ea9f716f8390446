"""The other journal that `python -m bench journal` measures does what it is measured for."""

import asyncio
from pathlib import Path

from bench.sqlite_journal import NAME, SqliteJournal, read
from relayd.core.usage import Counts, Reason


def test_it_keeps_what_was_written_until_it_was_taken(tmp_path: Path) -> None:
    async def work() -> None:
        journal = SqliteJournal(tmp_path)
        ledger = journal.ledger
        ledger.start("ended", "a", 100.0)
        ledger.start("going on", "b", 100.0)
        ledger.interim("going on", Counts(1, 2, 3, 4), 110.0)
        ledger.stop("ended", Counts(4, 3, 2, 1), 110.0, Reason.IDLE)
        await journal.write_all()
        assert read(tmp_path / NAME) == list(ledger.unsent.values())
        ledger.acknowledge(3)
        await journal.write()
        await journal.sync()
        journal.close()
        assert read(tmp_path / NAME) == list(ledger.unsent.values())
        assert len(ledger.unsent) == 1

    asyncio.run(work())
