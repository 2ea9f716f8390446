"""What the log says of the datagrams of a minute."""

from structlog.testing import capture_logs

from relayd.admin.change_log import SUMMARY_SECONDS, ChangeLog
from relayd.core.counters import Counters
from relayd.core.verdict import Verdict
from relayd.core.wire import Port


def kept() -> Counters:
    """Of a relay that goes on where another was."""
    counters = Counters()
    counters.continue_in(memoryview(bytearray(Counters.MEMORY_BYTES)))
    counters.datagrams[Port.CLIENT][Verdict.FORWARDED] = 1000
    return counters


def test_every_minute_what_changed() -> None:
    for counters in (Counters(), kept()):
        change_log = ChangeLog(counters)
        change_log.tick(5.0)
        counters.datagrams[Port.CLIENT][Verdict.FORWARDED] += 3
        counters.datagrams[Port.SERVER][Verdict.FORWARDED] += 4
        counters.datagrams[Port.CLIENT][Verdict.GUESS_LIMITED] += 1
        with capture_logs() as logs:
            change_log.tick(5.0 + SUMMARY_SECONDS - 1)
            assert not logs
            change_log.tick(5.0 + SUMMARY_SECONDS)
            assert logs == [
                {"event": "datagrams of the last minute", "log_level": "info", "forwarded": 7, "guess_limited": 1}
            ]
            change_log.tick(5.0 + 2 * SUMMARY_SECONDS)
            assert len(logs) == 1


def test_counts_have_the_same_shape_wherever_they_are_kept() -> None:
    fresh, went_on = Counters(), kept()
    for name in Counters.__slots__:
        shapes = [[len(row) for row in getattr(counters, name)] for counters in (fresh, went_on)]
        assert shapes[0] == shapes[1]
