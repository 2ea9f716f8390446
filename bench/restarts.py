"""``python -m bench restarts``: whether a game notices that its relay ends and starts again, at random moments.

A game of 8 players at 30 messages a second each way, all of whom ask for their state twice a second, goes on while
relayd, without the fast path, gets SIGTERM and SIGKILL in a random order and is started again; its sockets are kept, as
by systemd, and it follows a control plane. Every message carries its number and a checksum. One that is lost is laid to
the next end of the relay after it was sent. Everything runs in a network namespace of the benchmark's own. Needs root.
"""

import asyncio
import os
import random
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import uvloop
from rich.console import Console
from rich.status import Status

from bench.machine import describe
from bench.namespace import enter
from bench.processes import ControlPlane, Program, answers, kept_sockets, relay_sections, wait_for
from bench.usage import new_session, shown_counts
from relayd.core.wire import State
from relayd.simulation.game import Game, GameKeys
from relayd.simulation.peers import TICKS_PER_SECOND

PLAYERS = 8
FORWARDERS = ("native", "python")
DIRECTIONS = ("to host", "to player")
_LONGEST_GAP_SECONDS = 1.0
_LONGEST_LIFE_SECONDS = 1.5
_MESSAGES_BETWEEN = 5
_SHARE_IN_STARTS = 0.5


class Plan(NamedTuple):
    """How often the relay ends, and when."""

    terms: int
    kills: int
    in_starts: bool
    """Whether every other time it ends while it starts; else it forwards before."""


class End(NamedTuple):
    """One end of the relay."""

    how: signal.Signals
    sent: tuple[list[int], list[int]]
    """By direction, what each player and the host for each player had sent by then."""


class Loss(NamedTuple):
    """A message that never arrived."""

    direction: int
    at: int | None
    """Which end of the relay was the next; None after the last one."""
    seconds_before: float


class Outcome(NamedTuple):
    """What came of one game."""

    ends: list[End]
    sent: tuple[int, int]
    losses: list[Loss]
    pings: int
    answers: int
    other_states: int
    """Answers that were not Valid."""
    new_ids: int
    spoilt: int
    """Messages that came twice, out of order, altered or to the wrong peer, and ICMP errors."""
    longest_gap_seconds: float
    forwarded: tuple[int, int]
    """What the last relay says that it and those before it forwarded, by direction, greetings included."""
    queue_full: int
    """Datagrams for which the kernel had no room in the receive buffer of a socket, the relay's or a peer's."""

    def complaints(self, plan: Plan) -> Iterator[str]:
        """What should not be."""
        if self.other_states:
            yield f"{self.other_states} answers were not Valid"
        if self.new_ids:
            yield f"{self.new_ids} connection ids changed"
        if self.spoilt:
            yield f"{self.spoilt} messages came twice, out of order, altered or not at all where they should"
        if stray := sum(loss.at is None or self.ends[loss.at].how is signal.SIGTERM for loss in self.losses):
            yield f"{stray} messages were lost without a SIGKILL"
        # Whoever ends a relay before it has started lengthens the gap by that.
        if not plan.in_starts and self.longest_gap_seconds >= _LONGEST_GAP_SECONDS:
            yield f"the longest gap was {self.longest_gap_seconds * 1e3:.0f} ms"


def main(plan: Plan) -> int:
    """Runs and prints. The exit status: 1 if the game noticed more than it may."""
    enter("restarts")
    print(describe())
    seed = random.randrange(1 << 32)
    when = "at any moment, also of a start" if plan.in_starts else "at any moment from the first message on"
    print(f"{PLAYERS} players, {TICKS_PER_SECOND} messages a second each way; the relay ends {when}; seed {seed}")
    fine = True
    for forwarder in FORWARDERS:
        with tempfile.TemporaryDirectory() as name, Console(stderr=True).status("") as status:
            outcome = uvloop.run(run(Path(name), forwarder, plan, random.Random(seed), status))
        _show(forwarder, outcome)
        for complaint in outcome.complaints(plan):
            fine = False
            print(f"  NOT AS IT SHOULD BE: {complaint}", flush=True)
    return 0 if fine else 1


async def run(folder: Path, forwarder: str, plan: Plan, chance: random.Random, status: Status) -> Outcome:
    """One game over all these ends."""
    with ControlPlane(folder) as control_plane:
        sections = relay_sections(folder, control_plane.url)
        sections["relay"] |= {"id": f"bench-{os.getpid()}", "forwarder": forwarder}
        sections["fast_path"] = {"mode": "off"}
        admin = f"http://{sections['admin']['bind']}"
        server, client = (("127.0.0.1", sections["relay"][f"{port}_port"]) for port in ("server", "client"))

        async def until_ready() -> None:
            await asyncio.to_thread(wait_for, lambda: answers(f"{admin}/readyz"), "the relay is ready")

        full_before = _queue_full()
        with kept_sockets(server, client) as kept, Program(folder, "relay", sections, "run", kept=kept) as relay:
            await until_ready()
            session_id, keys = await asyncio.to_thread(new_session, control_plane.client, PLAYERS)
            game = Game(GameKeys(server, client, keys.session, keys.host, keys.players))
            playing = asyncio.create_task(game.play())
            await _until_heard(game, TICKS_PER_SECOND)
            numbers = [signal.SIGTERM] * plan.terms + [signal.SIGKILL] * plan.kills
            chance.shuffle(numbers)
            ends: list[End] = []
            start_seconds = 0.0
            for number in numbers:
                status.update(f"{forwarder}: restart {len(ends) + 1} of {len(numbers)}")
                if plan.in_starts and ends and chance.random() < _SHARE_IN_STARTS:
                    await asyncio.sleep(chance.uniform(0, start_seconds))
                else:
                    began = time.perf_counter()
                    await _until_heard(game, _MESSAGES_BETWEEN)
                    start_seconds = time.perf_counter() - began
                    await asyncio.sleep(chance.uniform(0, _LONGEST_LIFE_SECONDS))
                relay.signal(number)
                ends.append(End(number, _sent(game)))
                await asyncio.to_thread(relay.wait)
                relay.start()
            await until_ready()
            await _until_heard(game, TICKS_PER_SECOND)
            game.stop()
            await playing
            counts = await asyncio.to_thread(shown_counts, folder, session_id)
            forwarded = counts.to_host_datagrams, counts.to_player_datagrams
            return _outcome(game, ends, forwarded, _queue_full() - full_before)


async def _until_heard(game: Game, messages: int) -> None:
    """Until every player has heard so many more."""
    before = [report.received for report in game.reports()]

    def all_heard() -> bool:
        return all(report.received >= was + messages for report, was in zip(game.reports(), before, strict=True))

    await asyncio.to_thread(wait_for, all_heard, "everybody plays")


def _sent(game: Game) -> tuple[list[int], list[int]]:
    return (
        [player.sent for player in game.players],
        [game.host.connections[player.number].sent for player in game.players],
    )


def _outcome(game: Game, ends: list[End], forwarded: tuple[int, int], queue_full: int) -> Outcome:
    sent = _sent(game)
    losses: list[Loss] = []
    for player in game.players:
        connection = game.host.connections[player.number]
        for direction, tally in enumerate((connection.tally, player.tally)):
            missing = tally.missing(sent[direction][player.number])
            losses += [_loss(direction, player.number, sequence, ends) for sequence in missing]
    peers = (game.host, *game.players)
    reports = game.reports()
    silences = [side.silence for player in game.players for side in (player, game.host.connections[player.number])]
    return Outcome(
        ends,
        (sum(sent[0]), sum(sent[1])),
        losses,
        sum(peer.pings for peer in peers),
        sum(peer.states.total() for peer in peers),
        sum(peer.states.total() - peer.states[State.VALID] for peer in peers),
        len(game.host.all_connections()) - PLAYERS,
        sum(report.unordered for report in reports) + sum(peer.corrupted + peer.unreachable for peer in peers),
        max(silence.longest_seconds for silence in silences),
        forwarded,
        queue_full,
    )


def _queue_full() -> int:
    """The kernel's count in this namespace: proc_net_snmp, UdpRcvbufErrors."""
    names, values = (
        line.split() for line in Path("/proc/net/snmp").read_text(encoding="ascii").splitlines() if line[:4] == "Udp:"
    )
    return int(dict(zip(names, values, strict=True))["RcvbufErrors"])


def _loss(direction: int, player: int, sequence: int, ends: list[End]) -> Loss:
    for number, end in enumerate(ends):
        sent = end.sent[direction][player]
        if sent >= sequence:
            return Loss(direction, number, (sent - sequence) / TICKS_PER_SECOND)
    return Loss(direction, None, 0.0)


def _show(forwarder: str, outcome: Outcome) -> None:
    how_often = {how: sum(end.how is how for end in outcome.ends) for how in (signal.SIGTERM, signal.SIGKILL)}
    print(f"forwarder {forwarder}: {', '.join(f'{count} {how.name}' for how, count in how_often.items() if count)}")
    for direction, name in enumerate(DIRECTIONS):
        lost = [loss for loss in outcome.losses if loss.direction == direction]
        at = [loss.at for loss in lost if loss.at is not None]
        told = f"  {name:9} {outcome.sent[direction]:7,} sent, {len(lost)} lost"
        if at:
            kills = sum(outcome.ends[number].how is signal.SIGKILL for number in at)
            oldest = max(loss.seconds_before for loss in lost)
            told += f" ({kills} of them at a SIGKILL, at most {max(map(at.count, at))} at one of them,"
            told += f" sent up to {oldest * 1e3:.0f} ms before)"
        print(told)
    print(f"  PINGs     {outcome.pings:7,} sent, {outcome.answers:,} answered, {outcome.other_states} not by Valid")
    print(f"  by the relay's own count forwarded to host {outcome.forwarded[0]:,}, to player {outcome.forwarded[1]:,}")
    print(f"  found the receive buffer of a socket full: {outcome.queue_full}")
    print(f"  connection ids changed: {outcome.new_ids}; longest gap: {outcome.longest_gap_seconds * 1e3:.0f} ms")
