"""Counts of datagrams and bytes. Bytes are those of the UDP payload as it arrived at the relay."""

from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State

Row = list[int] | memoryview
"""Counts by verdict or state."""

_ROWS = 3 * len(Port)
_ROW = 32
"""Room for as many verdicts as there will be for a while: 8 bytes each."""


class Counters:
    """Totals of the whole relay, by port of arrival."""

    __slots__ = ("bytes", "datagrams", "refusals_told")

    MEMORY_BYTES = _ROWS * _ROW * 8

    def __init__(self) -> None:
        self.datagrams: list[Row] = [[0] * len(Verdict) for _ in Port]
        """``datagrams[port][verdict]``"""
        self.bytes: list[Row] = [[0] * len(Verdict) for _ in Port]
        """``bytes[port][verdict]``"""
        self.refusals_told: list[Row] = [[0] * len(State) for _ in Port]
        """``refusals_told[port][state]``: how many dropped datagrams were answered with that state."""

    def go_on_in(self, memory: memoryview) -> None:
        """Goes on with the counts in this memory of MEMORY_BYTES, and counts in it from now on."""
        words = memory.cast("Q")
        for port in Port:
            for number, (rows, length) in enumerate(
                ((self.datagrams, len(Verdict)), (self.bytes, len(Verdict)), (self.refusals_told, len(State)))
            ):
                start = (3 * port + number) * _ROW
                rows[port] = words[start : start + length]


class Traffic:
    """What was forwarded from one player to the host and from the host to that player."""

    __slots__ = ("to_host_bytes", "to_host_datagrams", "to_player_bytes", "to_player_datagrams")

    def __init__(self) -> None:
        self.to_host_datagrams = 0
        self.to_host_bytes = 0
        self.to_player_datagrams = 0
        self.to_player_bytes = 0

    def add(self, other: "Traffic") -> None:
        """Adds another's counts to these."""
        self.to_host_datagrams += other.to_host_datagrams
        self.to_host_bytes += other.to_host_bytes
        self.to_player_datagrams += other.to_player_datagrams
        self.to_player_bytes += other.to_player_bytes
