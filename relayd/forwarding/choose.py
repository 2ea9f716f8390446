"""Which way the sockets are served: by the thread in C where it was compiled, else by uvloop alone."""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol

import structlog

from relayd.core.engine import Engine
from relayd.core.session import Session
from relayd.core.views import BindingRecords, SocketView
from relayd.errors import UnavailableError
from relayd.forwarding.python.udp import UdpPorts
from relayd.forwarding.sockets import BoundSocket

_WAY_OUT = "install a C compiler and Python's headers (Debian: gcc python3-dev) and install relayd again"

_log = structlog.get_logger()


class Ports(SocketView, Protocol):
    """The relay's two ports on all of its addresses. They follow the engine's table."""

    async def start(self) -> None:
        """Begins to take datagrams in."""

    def stop(self) -> None:
        """Closes the sockets."""

    def absorb(self, sessions: Iterable[Session]) -> None:
        """Adds what was forwarded without the engine to the counts of the engine and of these sessions."""


def open_ports(
    *,
    mode: Literal["auto", "native", "python"],
    engine: Engine,
    sockets: Sequence[BoundSocket],
    records: BindingRecords,
    merge: bool,
) -> Ports:
    """The ports on these sockets, which are theirs to close from now on.

    Args:
        mode: relay.forwarder of the settings.
        engine: what judges.
        sockets: opened and bound.
        records: what outlives the process.
        merge: whether several datagrams to one peer may leave as one (UDP_SEGMENT).

    Raises:
        UnavailableError: "native" is asked for and not available.
    """
    if mode == "python":
        return UdpPorts(engine, sockets, records)
    try:
        from relayd.forwarding.thread.ports import NativePorts  # noqa: PLC0415 - not there where it was not compiled

        return NativePorts(engine, sockets, records, merge=merge)
    except (ImportError, OSError, ValueError) as error:
        why = f"its C part was not compiled: {_WAY_OUT}" if isinstance(error, ImportError) else str(error)
        if mode == "native":
            raise UnavailableError(f'relay.forwarder: "native" is not available: {why}') from None
        _log.warning("datagrams are forwarded by Python alone, which takes more of the processor", why=why)
        return UdpPorts(engine, sockets, records)
