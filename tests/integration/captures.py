"""Recorded games: two of Mirror, through a small stand-in for a relay, and one of FishNet, through relayd.

A header line, then one datagram a line: ``in`` is what the stand-in received, ``out`` what it sent. It kept one
connection id for each player, whatever its address; relayd here stands in for itself, and nobody's address changed.
"""

import gzip
import json
import struct
from pathlib import Path
from typing import NamedTuple

from tests.integration.config import SessionKeys

MIRROR_GAMES = ("game-host-2-clients", "game-client-restart")
FISHNET_GAME = "game-fishnet-3-players"
GAMES = (*MIRROR_GAMES, FISHNET_GAME)

_FIXTURES = Path(__file__).parents[1] / "fixtures"


class Recorded(NamedTuple):
    """One datagram of a recording."""

    seconds: float
    port: str
    arrived: bool
    """At the stand-in; otherwise it was sent by it."""
    peer: str
    """name@source-port"""
    datagram: bytes

    @property
    def is_data(self) -> bool:
        return self.datagram[8 if self.arrived else 0] == 2

    @property
    def connection_id(self) -> int:
        """Of DATA at the server port."""
        value: int = struct.unpack_from("<i", self.datagram, 9 if self.arrived else 1)[0]
        return value

    @property
    def payload(self) -> bytes:
        """Of DATA."""
        header_bytes = {("server", True): 13, ("client", True): 9, ("server", False): 5, ("client", False): 1}
        return self.datagram[header_bytes[self.port, self.arrived] :]


class Capture(NamedTuple):
    """One recording."""

    session: SessionKeys
    """The first player is c1, the second c2, and so on."""
    datagrams: list[Recorded]

    def peers(self) -> dict[str, str]:
        """Each name@source-port, with the port of the relay it spoke to."""
        return {recorded.peer: recorded.port for recorded in self.datagrams}

    def delivery_of_host_data(self) -> dict[int, str]:
        """Which peer got what the host sent, by index of the datagram.

        The stand-in sent each datagram on at once, so the first that leaves it with that payload is the same one: the
        connection id of what the host sent has to belong to the player who got it.
        """
        waiting: list[tuple[int, bytes]] = []
        delivered: dict[int, str] = {}
        players: dict[int, str] = {}
        for index, recorded in enumerate(self.datagrams):
            if not recorded.is_data:
                continue
            if recorded.arrived and recorded.port == "server":
                waiting.append((index, recorded.payload))
            elif not recorded.arrived and recorded.port == "client":
                position = [payload for _, payload in waiting].index(recorded.payload)
                sent = waiting.pop(position)[0]
                delivered[sent] = recorded.peer
                player = recorded.peer.partition("@")[0]
                assert players.setdefault(self.datagrams[sent].connection_id, player) == player
        assert not waiting
        return delivered


def load_capture(name: str) -> Capture:
    with gzip.open(_FIXTURES / f"{name}.jsonl.gz", "rt", encoding="utf-8") as lines:
        header, *datagrams = map(json.loads, lines)
    users = (header["host_token"], *(token for _, token in sorted(header["players"].items())))
    return Capture(
        SessionKeys(name, header["session_token"], users),
        [
            Recorded(line["t"], line["port"], line["dir"] == "in", line["peer"], bytes.fromhex(line["hex"]))
            for line in datagrams
        ],
    )
