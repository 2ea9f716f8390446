"""Counts of datagrams and bytes. Bytes are those of the UDP payload as it arrived at the relay."""

from relayd.core.declaration.common import PORT_COUNTERS
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, State

Row = list[int] | memoryview
"""Counts by verdict or state."""

MOST_COUNTED = 1 << 60
"""Counts outlive a process without a checksum. A greater one is damaged: a relay would need centuries to get there."""

_WORD_BYTES = 8


class Counters:
    """Totals of the whole relay, by port of arrival."""

    __slots__ = ("bytes", "datagrams", "refusals_told")

    MEMORY_BYTES = len(Port) * PORT_COUNTERS.size_bytes

    def __init__(self) -> None:
        self.datagrams: list[Row] = [[0] * len(Verdict) for _ in Port]
        """``datagrams[port][verdict]``"""
        self.bytes: list[Row] = [[0] * len(Verdict) for _ in Port]
        """``bytes[port][verdict]``"""
        self.refusals_told: list[Row] = [[0] * len(State) for _ in Port]
        """``refusals_told[port][state]``: how many dropped datagrams were answered with that state."""

    def continue_in(self, memory: memoryview) -> None:
        """Continues from the counts in this memory of MEMORY_BYTES, and keeps counting there."""
        words = memory.cast("Q")
        for port in Port:
            for field in PORT_COUNTERS.fields:
                start = (port * PORT_COUNTERS.size_bytes + PORT_COUNTERS.offsets[field.name]) // _WORD_BYTES
                rows: list[Row] = getattr(self, field.name)
                rows[port] = words[start : start + field.size_bytes // _WORD_BYTES]


class Traffic:
    """What was forwarded from one player to the host and from the host to that player."""

    __slots__ = ("to_host_bytes", "to_host_datagrams", "to_player_bytes", "to_player_datagrams")

    def __init__(self) -> None:
        self.to_host_datagrams = 0
        self.to_host_bytes = 0
        self.to_player_datagrams = 0
        self.to_player_bytes = 0

    def count(self, to_host_datagrams: int, to_host_bytes: int, to_player_datagrams: int, to_player_bytes: int) -> None:
        """Adds these numbers."""
        self.to_host_datagrams += to_host_datagrams
        self.to_host_bytes += to_host_bytes
        self.to_player_datagrams += to_player_datagrams
        self.to_player_bytes += to_player_bytes

    def add(self, other: "Traffic") -> None:
        """Adds another's counts to these."""
        self.count(other.to_host_datagrams, other.to_host_bytes, other.to_player_datagrams, other.to_player_bytes)
