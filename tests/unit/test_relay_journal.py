"""What the log says of the datagrams of a minute."""

from structlog.testing import capture_logs

from relayd.core.counters import Counters
from relayd.core.verdict import Verdict
from relayd.core.wire import Port
from relayd.edge.journal import SUMMARY_SECONDS, Journal


def kept() -> Counters:
    """Of a relay that goes on where another was."""
    counters = Counters()
    counters.go_on_in(memoryview(bytearray(Counters.MEMORY_BYTES)))
    counters.datagrams[Port.CLIENT][Verdict.FORWARDED] = 1000
    return counters


def test_every_minute_what_changed() -> None:
    for counters in (Counters(), kept()):
        journal = Journal(counters)
        journal.tick(5.0)
        counters.datagrams[Port.CLIENT][Verdict.FORWARDED] += 3
        counters.datagrams[Port.SERVER][Verdict.FORWARDED] += 4
        counters.datagrams[Port.CLIENT][Verdict.GUESS_LIMITED] += 1
        with capture_logs() as logs:
            journal.tick(5.0 + SUMMARY_SECONDS - 1)
            assert not logs
            journal.tick(5.0 + SUMMARY_SECONDS)
            assert logs == [
                {"event": "datagrams of the last minute", "log_level": "info", "forwarded": 7, "guess_limited": 1}
            ]
            journal.tick(5.0 + 2 * SUMMARY_SECONDS)
            assert len(logs) == 1


def test_counts_have_the_same_shape_wherever_they_are_kept() -> None:
    fresh, went_on = Counters(), kept()
    for name in Counters.__slots__:
        shapes = [[len(row) for row in getattr(counters, name)] for counters in (fresh, went_on)]
        assert shapes[0] == shapes[1]
