"""However a journal was damaged: nothing is read from it that nobody wrote, and nothing raises."""

from hypothesis import given
from hypothesis import strategies as st

from relayd.core.usage import Counts, Ledger, Reason, UsageRecord
from relayd.usage import lines


def _written() -> tuple[list[UsageRecord], bytes]:
    ledger = Ledger("stream")
    for span in ("one", "two", "three"):
        ledger.start(span, "game", 100.0)
    for number in range(1, 4):
        for span in ("one", "two", "three"):
            ledger.interim(span, Counts(number, number, number, number), 100.0 + number)
    ledger.stop("two", Counts(9, 9, 9, 9), 110.0, Reason.REMOVED)
    some = list(ledger.unsent.values())
    return some, lines.head(ledger, 0, 0) + lines.records(some[:6]) + lines.acknowledged(3) + lines.records(some[6:])


RECORDS, WHOLE = _written()

damage = st.one_of(
    st.tuples(st.just("change"), st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=8)),
    st.tuples(st.just("cut"), st.integers(0, len(WHOLE) - 1), st.integers(1, 300)),
    st.tuples(st.just("again"), st.integers(0, len(WHOLE) - 1), st.integers(1, 300)),
)


def damaged(content: bytes, kind: str, at: int, what: bytes | int) -> bytes:
    if isinstance(what, bytes):
        return content[:at] + what + content[at + len(what) :]
    return content[:at] + content[at + what :] if kind == "cut" else content[: at + what] + content[at:]


@given(st.lists(damage, max_size=6))
def test_only_what_was_written_is_read(how: list[tuple[str, int, bytes | int]]) -> None:
    content = WHOLE
    for kind, at, what in how:
        content = damaged(content, kind, at, what)
    try:
        replayed = lines.Replayed(content, lambda: "another")
    except lines.NoJournalError:
        return
    ledger = replayed.ledger
    assert replayed.bytes <= len(content)
    assert ledger.stream in ("stream", "another")
    assert ledger.sequence <= len(RECORDS)
    assert {*ledger.unsent.values(), *ledger.spans.values()} <= set(RECORDS)
    assert all(number == record.sequence for number, record in ledger.unsent.items())


@given(st.binary(max_size=300))
def test_any_bytes_are_no_journal(content: bytes) -> None:
    try:
        lines.Replayed(content, lambda: "another")
    except lines.NoJournalError:
        return
    raise AssertionError(content)
