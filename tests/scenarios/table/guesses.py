"""Sessions that are searched for user tokens."""

from tests.scenarios.cast import HOST, INVALID, ONE, ONE_MOVED, STRANGER, THREE, TWO, guesses, hosts, pings, sends
from tests.scenarios.scenario import PROCESSES, REBIND_AFTER, SILENT, TO_THE_MOMENT, TOO_LONG, VIRTUAL, Scenario, but
from tests.scenarios.steps import Peer, Revoke, Send, Step, Wait
from tests.support.virtual_clock import TICK

EVERYWHERE = range(10, 18)
"""Addresses of a search that holds everybody back."""


def search(first: int) -> list[Step]:
    """More than eight guesses in one session, each from an address of its own."""
    return [step for address in EVERYWHERE for step in guesses(Peer(0, address), 2, None, first + 2 * (address - 10))]


def busy_search(first: int) -> list[Step]:
    """Six times as many."""
    return [step for number in range(6) for step in search(first + 16 * number)]


def knocks(player: Peer, seconds: float, first: int = 1000) -> list[Step]:
    """A right token every quarter of a second while the search goes on."""
    rounds = [
        [*search(first + 16 * number), pings(player, "guess_limited"), Wait(0.25)] for number in range(int(seconds * 4))
    ]
    return [step for one in rounds for step in one]


GUESSES: dict[str, Scenario] = {
    "the same wrong token again is no guess": Scenario(
        [
            *hosts(HOST),
            *guesses(STRANGER, 1) * 9,
            # A household has its client that was kicked, and others that come.
            pings(Peer(3, 5)),
            *guesses(STRANGER, 1),
            pings(Peer(1, 5)),
        ],
        {"guesses_per_source_per_second": 2, "guesses_per_second": 2},
    ),
    "a minute later it is one again": Scenario(
        [
            *hosts(HOST),
            *guesses(STRANGER, 2),
            Wait(60.0 - TICK),
            *guesses(STRANGER, 2) * 4,
            pings(Peer(3, 5)),
            *guesses(STRANGER, 2),
            Wait(60.0),
            *guesses(STRANGER, 2),
            *guesses(STRANGER, 1, first=200),
            pings(Peer(1, 5), "guess_limited"),
        ],
        {"guesses_per_source_per_second": 2},
        without=TOO_LONG,
    ),
    "what was tried in vain above a rate is tried again by repeating it": Scenario(
        [
            *hosts(HOST),
            *guesses(STRANGER, 1),
            *[step for address in range(10, 18) for step in guesses(Peer(0, address), 1, first=address)],
            *guesses(STRANGER, 2, None, first=200),
            pings(Peer(3, 5), "guess_limited"),
            Wait(2.0),
            # Within the rates each of them is a guess: a right one would count now.
            *guesses(STRANGER, 2, first=200),
            *[step for address in range(10, 17) for step in guesses(Peer(0, address), 1, first=50 + address)],
            pings(Peer(3, 5), "guess_limited"),
        ],
        {"guesses_per_second": 8, "guesses_per_source_per_second": 8},
        without=TO_THE_MOMENT,
    ),
    "a revoked token is no guess": Scenario(
        [
            *hosts(HOST),
            pings(ONE),
            Revoke(1),
            *[pings(ONE, "unknown_pair", INVALID)] * 5,
            *[pings(ONE._replace(address=address), "unknown_pair", INVALID) for address in (5, 6, 7, 8, 9, 10)],
            pings(THREE),
        ],
        {"guesses_per_source_per_second": 2, "guesses_per_second": 4},
    ),
    "a minute after it was revoked it is": Scenario(
        [
            *hosts(HOST),
            Revoke(1),
            Wait(60.0),
            *[pings(ONE._replace(address=address), "unknown_pair", INVALID) for address in (5, 6, 7, 8)],
            pings(THREE),
            pings(ONE._replace(address=10), "unknown_pair", INVALID),
            pings(TWO, "guess_limited"),
        ],
        {"guesses_per_source_per_second": 2, "guesses_per_second": 4},
        without=TOO_LONG,
    ),
    "who guesses at a named address keeps nobody out who is named there": Scenario(
        [
            *hosts(HOST),
            *guesses(STRANGER, 9, None),
            pings(Peer(3, 5)),
            pings(Peer(1, 5), "guess_limited"),
            *guesses(STRANGER, 1, None, first=200),
            pings(Peer(3, 5)),
        ],
        {"guesses_per_source_per_second": 2, "refusals_per_second": 0},
        named={3: STRANGER},
    ),
    "whose token keeps coming gets in while the session is searched": Scenario(
        [*hosts(HOST), *search(500), *knocks(THREE, 2.5), *search(600), pings(THREE), pings(TWO, "guess_limited")],
        {"guesses_per_second": 8, "refusals_per_second": 0},
        without=TO_THE_MOMENT,
    ),
    "whose token keeps coming with pauses does not": Scenario(
        [
            *hosts(HOST),
            *search(500),
            *knocks(THREE, 2.25),
            *[step for number in range(6) for step in (*search(3000 + 16 * number), Wait(0.5))],
            *search(740),
            pings(THREE, "guess_limited"),
            *knocks(THREE, 2.25, first=2000),
            *search(760),
            pings(THREE, "guess_limited"),
            Wait(0.25),
            *search(780),
            pings(THREE),
        ],
        {"guesses_per_second": 8, "refusals_per_second": 0},
        without=TO_THE_MOMENT,
    ),
    "it has to come more often where more strangers come": Scenario(
        [
            *hosts(HOST),
            *search(500),
            # 97 strangers each time, with itself. How often it came, times 20 a second, times how long it has come:
            # too little up to the tenth time, which is 9 * 20 * 4.5 beside 873.
            *[
                step
                for number in range(10)
                for step in (pings(THREE, "guess_limited"), Wait(0.5), *busy_search(1000 + 96 * number))
            ],
            pings(THREE),
        ],
        {"guesses_per_second": 8, "refusals_per_second": 0},
        without=TO_THE_MOMENT,
    ),
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
            *guesses(Peer(0, 7), 1, None, first=200),
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
            *[step for address in (5, 6, 7) for step in guesses(Peer(0, address, 6), 1, first=address)],
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
