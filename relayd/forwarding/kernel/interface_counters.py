"""What an interface itself counts of datagrams that an XDP program sent by it: how many, and how many it lost.

Measured on veth, Linux 6.18: what XDP_TX sends and the far end does not take is in the driver's `xdp_tx_errors` and in
the interface's `tx_dropped`; what is to be redirected to a veth whose far end takes nothing, in the `drops` of the
interface that it came in by, and nowhere else. In generic mode it is `tx_dropped` alone. Other drivers have names
such as `rx_xdp_tx_full`, `tx_xdp_err` (mlx5), `tx_queue_0_xdp_tx_drops` (virtio_net), `rx_xdp_tx_errors` (mvneta).
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from relayd.forwarding.kernel import ethtool

VETH = "veth"
_XDP_SENDS = re.compile(r"(?=.*xdp)(?=.*(tx|xmit|redirect))")
_FAILED = re.compile(r"err|drop|full|fail")
_SENT = re.compile(r"xdp_(tx|xmit|redirects?)(_xmit|_packets)?$")
_LOST_BY_VETH = re.compile(r"rx_queue_\d+_drops$")
_NUMBER = re.compile(r"\[\d+\]|\d+")
_DEVICES = "/proc/thread-self/net/dev"
_DROPPED_COLUMN = 11
"""Of /proc/net/dev: eight columns of what was received come first, then bytes, packets, errors and drops."""


class Moved(NamedTuple):
    """What was counted between two looks."""

    sent: int | None
    """By XDP programs, without what was lost; None where the driver does not say."""
    lost: int


class Positions(NamedTuple):
    """Where counters of interest are among those of a driver."""

    sent: list[int]
    lost: list[int]


def positions_of(names: Sequence[str], driver: str) -> Positions:
    """Which counters tell what XDP programs sent, and what was lost of it."""
    lost = [name for name in names if _is_lost(name, driver)]
    sent = [name for name in names if name not in lost and _SENT.search(name)]
    return Positions(*([names.index(name) for name in _once(some)] for some in (sent, lost)))


def _is_lost(name: str, driver: str) -> bool:
    if driver == VETH and _LOST_BY_VETH.match(name):
        return True
    return bool(_XDP_SENDS.match(name) and _FAILED.search(name))


def _once(names: Sequence[str]) -> list[str]:
    """Without those of single queues where there is one of all queues together."""
    wholes = {name for name in names if not _NUMBER.search(name)}
    return [name for name in names if name in wholes or _NUMBER.sub("", name) not in wholes]


class InterfaceCounters:
    """Those of one interface. To be asked by one thread at a time, and not by an event loop's: drivers may be slow."""

    def __init__(self, interface: str) -> None:
        self._interface = interface
        self._info = ethtool.DriverInfo("", -1)
        self._positions = Positions([], [])
        self._before: tuple[int, int, int] | None = None

    def moved(self) -> Moved:
        """What was counted since the last call, or since the counters began anew; nothing the first time."""
        now = sent, lost, dropped = self._read()
        before = self._before
        self._before = now
        if before is None or any(new < old for new, old in zip(now, before, strict=True)):
            before = now
        return Moved(
            sent - before[0] if self._positions.sent else None,
            # Some losses are in both: then the larger is the whole.
            max(lost - before[1], dropped - before[2]),
        )

    def _read(self) -> tuple[int, int, int]:
        info = ethtool.driver_info(self._interface)
        if info != self._info:
            self._info, self._before = info, None
            self._positions = self._find(info)
        if not (self._positions.sent or self._positions.lost):
            return 0, 0, dropped_by(self._interface)
        counted = ethtool.statistics(self._interface, info.statistics)
        return (
            sum(counted[at] for at in self._positions.sent),
            sum(counted[at] for at in self._positions.lost),
            dropped_by(self._interface),
        )

    def _find(self, info: ethtool.DriverInfo) -> Positions:
        if not info.statistics:
            return Positions([], [])
        return positions_of(ethtool.statistics_names(self._interface, info.statistics), info.name)


def dropped_by(interface: str) -> int:
    """`tx_dropped` of an interface of this thread's network; 0 where there is no such interface."""
    for line in Path(_DEVICES).read_text(encoding="utf-8", errors="replace").splitlines():
        name, colon, counts = line.partition(":")
        if colon and name.strip() == interface:
            return int(counts.split()[_DROPPED_COLUMN])
    return 0
