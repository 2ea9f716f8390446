"""Where datagrams come from and go to, as far as the core needs to know."""

from typing import Any, NamedTuple

from relayd.core.wire import Port

Address = tuple[Any, ...]
"""A peer as the sockets name it: IP address as text first, then the UDP port. Otherwise only compared."""

Local = bytes
"""An address of this host that a peer sends to, as sockets name it: see relayd/forwarding/asked.py. Only kept, and
handed back: an answer has to leave from there, or it is never seen."""


class Endpoint(NamedTuple):
    """A socket of the relay: an answer has to leave from the one that was asked, or it is never seen."""

    port: Port
    number: int
    """Which of the relay's sockets it is."""
