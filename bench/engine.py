"""``python -m bench engine``: nanoseconds for one decision of the plain engine, without any socket."""

import time
from collections.abc import Callable
from itertools import count
from typing import NamedTuple

from bench.measurement import Effort, Measurement
from bench.peers.sessions import HOST, SESSION, player_token
from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.limits import Limits
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data, encode_ping, encode_player_data

SCENARIO = "engine"
_SESSIONS = 1000
_PAYLOAD = b"\1" * 100
_SERVER, _CLIENT = Endpoint(Port.SERVER, 0), Endpoint(Port.CLIENT, 1)
_HOST_AT, _PLAYER_AT = ("198.51.100.1", 7000), ("203.0.113.1", 7000)


class _Kind(NamedTuple):
    endpoint: Endpoint
    source: tuple[str, int]
    datagrams: list[bytes]
    verdict: Verdict


def subjects(_effort: Effort) -> list[str]:
    """The one engine there is without sockets."""
    return ["relayd"]


def measure(subject: str, effort: Effort) -> list[Measurement]:
    """One run."""
    # Time stands still here: what is bounded in a second has to have room for all of it.
    limits = Limits(refusals_per_second=0, user_datagrams_per_second=10_000_000, user_bytes_per_second=10_000_000_000)
    limits = limits.model_copy(update={"guesses_per_second": 10**9, "guesses_per_source_per_second": 10**9})
    engine = Engine(Table(limits, count(1).__next__))
    kinds = _kinds(engine)
    seconds = effort.seconds / len(kinds)
    return [
        Measurement(SCENARIO, subject, "decision", "ns", _nanoseconds(engine, kind, seconds), "lower", name)
        for name, kind in kinds.items()
    ]


def _kinds(engine: Engine) -> dict[str, _Kind]:
    """Datagrams that all differ, spread over many sessions, each with a host and a player who are bound."""
    numbers = range(_SESSIONS)
    engine.table.apply(
        Snapshot.of(
            SessionSpec(f"{n}", SESSION + n, (UserSpec(HOST + n, None), UserSpec(player_token(n), None)))
            for n in numbers
        ),
        0.0,
    )
    to_host = [encode_player_data(player_token(n), SESSION + n, _PAYLOAD) for n in numbers]
    for n in numbers:
        engine.handle(_SERVER, encode_ping(HOST + n, SESSION + n), _HOST_AT, 0.0)
        engine.handle(_CLIENT, to_host[n], _PLAYER_AT, 0.0)
    ids = [next(iter(engine.table.by_token[SESSION + n].players)) for n in numbers]
    to_player = [encode_host_data(HOST + n, SESSION + n, ids[n], _PAYLOAD) for n in numbers]
    pings = [encode_ping(player_token(n), SESSION + n) for n in numbers]
    strangers = [encode_player_data(1, SESSION + n, _PAYLOAD) for n in numbers]
    return {
        "to host": _Kind(_CLIENT, _PLAYER_AT, to_host, Verdict.FORWARDED),
        "to player": _Kind(_SERVER, _HOST_AT, to_player, Verdict.FORWARDED),
        "PING": _Kind(_CLIENT, _PLAYER_AT, pings, Verdict.ANSWERED),
        "unknown pair": _Kind(_CLIENT, _PLAYER_AT, strangers, Verdict.UNKNOWN_PAIR),
        "other address": _Kind(_CLIENT, _HOST_AT, to_host, Verdict.ADDRESS_CONFLICT),
    }


def _nanoseconds(engine: Engine, kind: _Kind, seconds: float) -> float:
    """Of a decision, on average."""
    handle: Callable[..., object] = engine.handle
    endpoint, source, datagrams, verdict = kind
    for datagram in datagrams:
        assert engine.handle(endpoint, datagram, source, 0.1).verdict is verdict
    turns = 0
    began = time.perf_counter()
    while (taken := time.perf_counter() - began) < seconds:
        for datagram in datagrams:
            handle(endpoint, datagram, source, 0.1)
        turns += len(datagrams)
    return taken / turns * 1e9
