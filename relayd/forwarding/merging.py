"""Whether what goes to one peer may leave as one message that the kernel cuts into datagrams (UDP_SEGMENT, udp(7))."""

import os
import re
from typing import Literal

from relayd.settings import RelaySettings

_RELEASE = re.compile(r"(\d+)\.(\d+)(?:\.(\d+))?")
_FIRST_CORRUPTING = (7, 0, 0)
_LAST_CORRUPTING = (7, 1, 4)
"""Commit b10b446 of the kernel began to write wrong lengths and checksums into some of the parts, depending on the
network card's driver; 7.1.5 has what mends it (78effd8, 5f17ae0)."""


def corrupts(release: str) -> bool:
    """Whether a kernel of that release, as uname(2) gives it, may corrupt merged datagrams."""
    found = _RELEASE.match(release)
    if found is None:
        return False
    return _FIRST_CORRUPTING <= tuple(int(part or 0) for part in found.groups()) <= _LAST_CORRUPTING


def merges(mode: Literal["auto", "on", "off"]) -> bool:
    """Whether relay.merge allows it on this host."""
    return mode == "on" or (mode == "auto" and not corrupts(os.uname().release))


def examine_merging(relay: RelaySettings) -> list[str]:
    """What `relayd check` says of it: a line where there is a thread that could merge."""
    if relay.forwarder == "python":
        return []
    release = os.uname().release
    if not merges(relay.merge):
        why = 'relay.merge is "off"' if relay.merge == "off" else f"Linux {release} corrupts merged ones (UDP_SEGMENT)"
        return [f"ok       datagrams leave one by one: {why}"]
    if corrupts(release):
        return [
            f'warning  relay.merge is "on", and Linux {release} corrupts merged datagrams (UDP_SEGMENT):'
            ' set it to "auto", or install Linux 7.1.5 or newer'
        ]
    return ["ok       datagrams to one peer may leave merged (UDP_SEGMENT)"]
