"""Sessions that are searched for user tokens."""

from tests.scenarios.cast import HOST, ONE, ONE_MOVED, STRANGER, THREE, TWO, guesses, hosts, pings, sends
from tests.scenarios.scenario import PROCESSES, REBIND_AFTER, SILENT, TO_THE_MOMENT, VIRTUAL, Scenario, but
from tests.scenarios.steps import Peer, Send, Wait
from tests.support.virtual_clock import TICK

GUESSES: dict[str, Scenario] = {
    "guesses of one source": Scenario(
        [
            *hosts(HOST),
            pings(TWO._replace(address=5)),
            *guesses(STRANGER, 3),
            *guesses(STRANGER, 2, None, first=200),
            # Even a right token may be a lucky guess from there: of one who has yet to come, or is somewhere else.
            pings(Peer(3, 5), "guess_limited"),
            pings(TWO._replace(address=5)),
            pings(ONE),
            pings(ONE),
            pings(Peer(1, 5), "guess_limited"),
            Wait(1.0),
            pings(Peer(3, 5)),
        ],
        {"guesses_per_source_per_second": 2},
    ),
    "guesses of one source, to the moment": Scenario(
        [
            *hosts(HOST),
            *guesses(STRANGER, 5),
            *guesses(STRANGER, 9, None, first=200),
            # However many they were, they are forgotten a second after the last.
            Wait(1.0 - TICK),
            pings(Peer(3, 5), "guess_limited"),
            Wait(TICK),
            pings(Peer(3, 5)),
        ],
        {"guesses_per_source_per_second": 4},
        without=TO_THE_MOMENT,
    ),
    "what a source guesses above its bound holds nobody else back": Scenario(
        [*hosts(HOST), *guesses(STRANGER, 20, None), pings(THREE), pings(Peer(2, 5), "guess_limited")],
        {"guesses_per_source_per_second": 2, "guesses_per_second": 4, "refusals_per_second": 0},
    ),
    "guesses in one session from everywhere": Scenario(
        [
            *hosts(HOST),
            pings(ONE),
            *guesses(Peer(0, 5), 1),
            *guesses(Peer(0, 7), 2),
            *guesses(Peer(0, 7), 1, None),
            # Two was authorized from there.
            pings(TWO),
            pings(THREE, "guess_limited"),
            sends(ONE, new=True),
            Wait(1.0),
            pings(THREE),
        ],
        {"guesses_per_second": 2},
        named={2: TWO},
    ),
    "whose address is known may move while its session is searched": Scenario(
        [
            *hosts(HOST),
            pings(ONE),
            Wait(REBIND_AFTER),
            *guesses(STRANGER, 5),
            pings(ONE_MOVED, "guess_limited"),
            pings(ONE._replace(udp_port=7001)),
        ],
        {"guesses_per_second": 4},
        without={
            **but("peers have one UDP port each", "uvloop", "thread", *PROCESSES),
        },
    ),
    "who guesses in a session that is searched is held back for itself": Scenario(
        [
            *hosts(HOST),
            *guesses(STRANGER, 1),
            *[step for address in range(10, 18) for step in guesses(Peer(0, address), 1)],
            *guesses(STRANGER, 1, None, first=200),
            pings(Peer(3, 7), "guess_limited"),
            Wait(0.25),
            pings(Peer(3, 5), "guess_limited"),
            pings(Peer(3, 7)),
        ],
        {"guesses_per_second": 8, "guesses_per_source_per_second": 1},
        without=TO_THE_MOMENT,
    ),
    "a network of IPv6 addresses is one source": Scenario(
        [
            *hosts(Peer(0, 0, 6)),
            *[step for address in (5, 6, 7) for step in guesses(Peer(0, address, 6), 1)],
            pings(Peer(3, 4, 6), "guess_limited"),
            pings(Peer(3, 4)),
        ],
        {"guesses_per_source_per_second": 2},
    ),
}


def by_program(scenario: Scenario) -> Scenario:
    """The same where no guess reaches the engine, and so nobody is told anything."""
    steps = [
        step._replace(out=None) if isinstance(step, Send) and step.verdict == "unknown_pair" else step
        for step in scenario.steps
    ]
    why = but("needs a program that decides alone", *(one for one in (*VIRTUAL, *PROCESSES) if one != "kernel"))
    return scenario._replace(steps=steps, fast_path=SILENT, without=why)


BY_PROGRAM = {f"{name}, all by the program": by_program(scenario) for name, scenario in GUESSES.items()}
