"""`relayd capture`: asks the relay who belongs to the session, reads the tap, writes the file."""

import os
import select
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, BinaryIO, NamedTuple

import typer
from rich.console import Console

from relayd import __version__
from relayd.admin.answers import WatchedSession
from relayd.admin.captures.filter import packet_filter
from relayd.admin.captures.packets import Packet, Peer, read_packet
from relayd.admin.captures.pcapng import Writer
from relayd.admin.captures.tap import Tap
from relayd.client.admin import AdminClient
from relayd.commands.asking import running_relay
from relayd.commands.options import Config
from relayd.core.wire import Port
from relayd.errors import FatalError, UsageError
from relayd.log import TOKEN_DIGITS

_ASK_SECONDS = 0.25
_LONGEST_HEADERS = 128
"""IPv4 with all options 60, or IPv6 40; UDP 8; relay 13."""
_WHOLE = 0x4_0000
_MOST_UNDECIDED = 200_000


class _Options(NamedTuple):
    """Options of the command."""

    session_id: str
    seconds: float
    out: Path
    full: bool
    most_bytes: int
    interface: str | None


def capture(
    session_id: str,
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write it, as pcapng for Wireshark.")],
    seconds: Annotated[float, typer.Option(min=0.1, max=86400, metavar="SECONDS", help="For how long.")] = 10.0,
    full: Annotated[bool, typer.Option("--full", help="Keep payloads too, not only headers.")] = False,
    max_bytes: Annotated[int, typer.Option(min=1024, metavar="BYTES", help="Size of the file at most.")] = 64 << 20,
    interface: Annotated[str | None, typer.Option(metavar="NAME", help="One network interface; else all.")] = None,
    config: Config = None,
) -> None:
    """Captures and says what it wrote. Ctrl-C ends it early.

    Raises:
        FatalError: the relay has no such session, or no more.
        UnavailableError: no relay answers, or there is no right to capture.
        UsageError: the file or the interface cannot be used.
    """
    client = running_relay(config)
    options = _Options(
        session_id=session_id, seconds=seconds, out=out, full=full, most_bytes=max_bytes, interface=interface
    )
    about = client.watch(session_id)
    if about.over:
        raise FatalError(f"session {session_id} has ended")
    most_bytes = _WHOLE if full else _LONGEST_HEADERS
    program = packet_filter(about.server_port, about.client_port, about.token_ends_with, TOKEN_DIGITS, most_bytes)
    try:
        with Tap(interface, program) as tap, _create(out) as file:
            writer = Writer(file, f"relayd {__version__}", interface or "any", max_bytes)
            capturing = _Capture(client=client, tap=tap, writer=writer, options=options, about=about)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, capturing.stop)
            capturing.run()
            writer.finish(time.time_ns(), capturing.written, capturing.lost)
    finally:
        client.unwatch(session_id)
    for line in capturing.report():
        typer.echo(line)


def _create(path: Path) -> BinaryIO:
    """A new file that only its owner may read: it holds tokens."""
    try:
        return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise UsageError(f"--out: {path} is there already; name another file, or remove it") from None
    except OSError as error:
        raise UsageError(f"--out: {path} cannot be written: {error.strerror}") from None


class _Capture:
    """Captured packets wait until the relay was asked again: by then it knows peers that came only just before."""

    def __init__(
        self, *, client: AdminClient, tap: Tap, writer: Writer, options: _Options, about: WatchedSession
    ) -> None:
        self.written = 0
        self.lost = 0
        self._client = client
        self._tap = tap
        self._writer = writer
        self._options = options
        self._ports = {about.server_port: Port.SERVER, about.client_port: Port.CLIENT}
        self._fast_path = about.fast_path
        self._peers = _peers(about)
        self._before_last: list[Packet] = []
        """Those that are decided with the next answer."""
        self._last: list[Packet] = []
        self._stopped = False
        self._full_file = False
        self._session_over = False

    def stop(self, number: int, frame: object) -> None:  # noqa: ARG002 - what a signal handler is given
        """Ends `run` early, with all that was captured."""
        self._stopped = True

    def run(self) -> None:
        """Until the time is over, the file is full, or Ctrl-C."""
        end = time.monotonic() + self._options.seconds
        with Console(stderr=True).status("capturing …") as shown:
            while not (self._stopped or self._full_file) and (left := end - time.monotonic()) > 0:
                self._read(min(_ASK_SECONDS, left))
                self._decide()
                shown.update(f"capturing, {left:.0f} s left, {self.written} datagrams")
        self._read(0.0)
        # Twice: the last packets may be from a peer that the relay has yet to see.
        for _ in range(2):
            self._decide()

    def _read(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while True:
            for data, time_ns, inbound in self._tap.take():
                packet = read_packet(data, time_ns, inbound, self._ports)
                if packet is None:
                    continue
                if len(self._last) < _MOST_UNDECIDED:
                    self._last.append(packet)
                else:
                    self.lost += 1
            left = end - time.monotonic()
            if left <= 0:
                return
            select.select([self._tap], [], [], left)

    def _decide(self) -> None:
        """Learns who belongs to the session, and writes what is theirs."""
        self.lost += self._tap.lost()
        about = self._client.watch(self._options.session_id)
        self._peers |= _peers(about)
        self._session_over = about.over
        self._write(self._before_last)
        self._before_last, self._last = self._last, []

    def _write(self, packets: Iterable[Packet]) -> None:
        for packet in packets:
            if packet.peer in self._peers and not self._full_file:
                kept = packet.data if self._options.full else packet.data[: packet.header_bytes]
                if self._writer.add(kept, packet.original_bytes, packet.time_ns, packet.inbound):
                    self.written += 1
                else:
                    self._full_file = True

    def report(self) -> list[str]:
        """What there is to say when it is over."""
        options = self._options
        lines = [f"wrote {self.written} datagrams, {self._writer.size_bytes} bytes, to {options.out}"]
        if self.written:
            lines.append("it holds tokens of this session in full: show it only to those who may play in it")
        if self._full_file:
            lines.append(f"it ended early: the file may have {options.most_bytes} bytes (--max-bytes)")
        if self._session_over:
            lines.append("the session ended meanwhile")
        if self.lost:
            lines.append(f"{self.lost} packets were lost, of this session or others: the relay has too much traffic")
        if self._fast_path:
            lines.append("not in it: what the kernel's fast path drops by itself, malformed datagrams for example")
        return lines


def _peers(about: WatchedSession) -> set[Peer]:
    ports = {port.label: port for port in Port}
    return {Peer(ports[peer.port], peer.ip, peer.udp_port) for peer in about.peers}
