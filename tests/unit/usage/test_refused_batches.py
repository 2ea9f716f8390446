"""A batch that is refused is cut in half until the record is found, and batches are whole again soon after that."""

import asyncio

import pytest

from relayd.core.usage import UsageBatch, UsageRefusedError
from relayd.usage.journal import Journal
from relayd.usage.sender import Sender


class Recipient:
    """Refuses batches with one of these numbers; keeps how many records each batch had."""

    def __init__(self, *refused: int) -> None:
        self.refused = set(refused)
        self.sizes: list[int] = []

    async def take(self, batch: UsageBatch) -> None:
        self.sizes.append(len(batch.records))
        if self.refused & {record.sequence for record in batch.records}:
            raise UsageRefusedError("too odd")


@pytest.mark.parametrize(
    ("refused", "sizes"),
    [
        ((), [200, 200, 200]),
        ((1,), [200, 100, 50, 25, 12, 6, 3, 1, 2, 4, 8, 16, 32, 64, 128, 200, 145]),
    ],
)
def test_how_many_are_sent_at_once(refused: tuple[int, ...], sizes: list[int]) -> None:
    journal = Journal(None, lambda: "stream")
    for number in range(600):
        journal.ledger.start(f"span {number}", "game", 100.0)
    asyncio.run(journal.write())
    recipient, otherwise = Recipient(*refused), Recipient()

    async def send() -> None:
        sender = Sender(journal, recipient, otherwise)
        while await sender.send():
            assert len(recipient.sizes) < 100, "it gets nowhere"

    asyncio.run(send())
    assert recipient.sizes == sizes
    assert otherwise.sizes == [1] * len(refused)
