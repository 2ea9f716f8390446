"""The maps that the kernel program and user space share, and that outlive both where they are pinned.

Times are nanoseconds of CLOCK_MONOTONIC. Addresses and UDP ports of peers are in network order, IPv4 addresses as
``::ffff:a.b.c.d``.
"""

import enum

from relayd.core import guesses, meter
from relayd.core.declaration.common import DUES, PINGS, PORTS, RATE, TOTAL, TRAFFIC, VERDICTS
from relayd.core.declaration.terms import (
    IP,
    NETWORK_U16,
    U8,
    U16,
    U32,
    U64,
    Amount,
    Constant,
    Field,
    Layout,
    Map,
    MapFlag,
    MapKind,
    Numbers,
    Room,
    Struct,
)
from relayd.core.declaration.thread import DELAY_BOUNDS_NS
from relayd.core.limits import MOST_DENIED_NETWORKS


class ControlFlag(enum.IntFlag):
    """Switches of the program."""

    PIN_IP = 1
    """A user who comes from another address is passed up: user space decides."""
    PAIRS_INCOMPLETE = 2
    """`pairs` could not hold all: an unknown pair may be a known one."""
    BINDINGS_INCOMPLETE = 4
    """Nor could `by_sockets`: whoever seems to be bound nowhere may be bound."""
    SOME_LEFT_TO_SOCKETS = 8
    """The program is on an interface that is not in `interfaces`, for what it sends by it is lost."""


class PassedUp(enum.IntEnum):
    """What is passed up within one bound, of those who are not bound where they are."""

    UNKNOWN = 0
    """Without right tokens, or without any that can be read."""
    KNOWN = 1
    """With right tokens: who joins, who moves, and whoever has somebody else's."""


class InterfaceMode(enum.IntEnum):
    """How the program is attached to an interface."""

    NATIVE = 1
    GENERIC = 2


CONTROL_FLAGS = Numbers("control_flag", ControlFlag)
PASSED_UP = Numbers("passed_up", PassedUp, prefix="PASSED_UP_", count="PASSED_UP_KINDS")
INTERFACE_MODES = Numbers("interface_mode", InterfaceMode)

TIMES = (
    Constant(
        "TRIED_NS",
        int(guesses.TRIED_SECONDS * meter.NS_PER_SECOND),
        "How long a wrong token is known to its source after it was heard there last.",
    ),
    Constant("DATAGRAMS_PER_SAMPLE", 1024, "Of so many that one processor forwards, one has its time measured."),
)

_LINE_BYTES = 64
"""Of a processor's cache."""

CONTROL = Struct(
    "control",
    (
        Field("layout", U64, "KERNEL_MAPS_LAYOUT of the relayd that made the maps; at this offset in every layout"),
        Field("flags", U32),
        Field("ports", NETWORK_U16, count=PORTS.amount),
        Field("public_ports", NETWORK_U16, "the same as peers name them, where a NAT maps ports", PORTS.amount),
        Field("tos", U8),
        Field("reserved", U8, count=Amount("3", 3)),
        Field("rebind_after_ns", U64),
        Field("source_interval_ns", U64, "between two unknown pairs of one source that are passed up"),
        Field("pair_interval_ns", U64, "between two of a known pair that are passed up from where it is not bound"),
        Field("total_intervals_ns", U64, "the same for all of them together", PASSED_UP.amount),
        Field("bind_digest", U64, "of the addresses that endpoints are numbered by; for user space only"),
        Field("guess_interval_ns", U64, "between two guesses in one session that are within the rate"),
        Field("source_guess_interval_ns", U64, "the same of one source"),
        Field("rates", RATE, "of a user on that port", PORTS.amount),
    ),
    "The program's settings.",
)

PAIR_KEY = Struct("pair_key", (Field("user", U32), Field("session", U32)), "Both tokens of a user.")

PAIR = Struct(
    "pair",
    (
        Field("slots", U32, "0: not bound there, or not by this program to serve", PORTS.amount),
        Field("due_ns", U64, "when the next one that is passed up from elsewhere would be due (GCRA)"),
    ),
    "Where a user is bound.",
)

BINDING = Struct(
    "binding",
    (
        Field("peer", IP),
        Field("peer_port", NETWORK_U16),
        Field("family", U16, "AF_INET or AF_INET6"),
        Field("endpoint", U32, "which of the relay's addresses it is bound at, from 1"),
        Field("user", U32),
        Field("session", U32),
        Field("connection_id", U32),
        Field("session_index", U32),
        Field("conflicts_until_ns", U64, "until then datagrams from other addresses are passed up"),
    ),
    "What user space knows of a binding. Never changed while a pair, a connection or a session names its slot.",
    _LINE_BYTES,
)

PLACE = Struct(
    "place",
    (
        Field("peer", IP),
        Field("peer_port", NETWORK_U16),
        Field("port", U16, "of the relay: port"),
        Field("endpoint", U32, "which of the relay's addresses, from 1"),
    ),
    "Where somebody is bound.",
)

NEXT_HOP = Struct(
    "next_hop",
    (
        Field("to", U64, "MAC address, then 16 bits of the epoch"),
        Field("from", U64),
        Field("ifindex", U32),
        Field("epoch", U32, "of about a second, in which it was looked up; never 0"),
    ),
    "How to reach a peer on its link. Both MAC addresses carry 16 bits of the epoch, so that words of two writers never"
    " pass for one entry.",
)

STATE = Struct(
    "state",
    (
        Field("last_seen_ns", U64, "CLOCK_MONOTONIC"),
        *TRAFFIC,
        Field("dues", DUES),
        Field("local", IP, "address of the relay that the peer sends to; all zero before it was first heard here"),
        Field("came_by", NEXT_HOP, "by which way its last datagram came; no epoch"),
        Field("route", NEXT_HOP, "by which way the next one goes"),
        # What is not touched for every datagram of a game stands last.
        Field("answered_datagrams", U64),
        Field("conflict_datagrams", U64),
        Field("limited_datagrams", U64),
    ),
    "What the program knows of a binding.",
    _LINE_BYTES,
)

SESSION = Struct(
    "session",
    (Field("token", U32), Field("host_slot", U32, "0: no host, or not by this program to serve")),
    "Whose players send to which host.",
)

CONNECTION_KEY = Struct(
    "connection_key", (Field("session", U32), Field("connection_id", U32)), "How a host names one of its players."
)

ADDRESS = Struct("address", (Field("words", IP),), "An IP address.")

SEARCH = Struct(
    "search",
    (
        Field("due_ns", U64, "when the guesses in it would have been due, had they come evenly"),
        Field("dropped_datagrams", U64, "with wrong user tokens"),
    ),
    "What is noted of guesses in a session.",
)

NETWORK_KEY = Struct(
    "network_key",
    (Field("prefix_bits", U32, "of what follows"), Field("family", U32, "AF_INET or AF_INET6"), Field("address", IP)),
    "A network, or an address as one: the key of a longest-prefix match, linux/bpf.h.",
)

TRIED_KEY = Struct(
    "tried_key", (Field("network", IP), Field("user", U32), Field("session", U32)), "A wrong user token of a source."
)

TAKEN_OVER = Struct(
    "taken_over",
    TRAFFIC,
    "What of a slot user space has added to its own counts so far, kept here so that it outlives the process; the"
    " program does not touch it.",
)

_DELAY_COUNTS = len(DELAY_BOUNDS_NS.values) + 1

RUN_TIMES = Struct(
    "run_times",
    (Field("counts", U64, "by bucket", Amount("DELAY_BUCKETS + 1", _DELAY_COUNTS)), Field("sum_ns", U64)),
    "How long the program ran for datagrams it forwarded.",
)

_TOTALS = PORTS.amount.value * VERDICTS.amount.value
_SMALL = MapFlag.NO_PREALLOC

MAPS = (
    Map("control", MapKind.ARRAY, U32, CONTROL, 1),
    Map("pairs", MapKind.HASH, PAIR_KEY, PAIR, Room.AUTHORIZED, _SMALL),
    Map("bindings", MapKind.ARRAY, U32, BINDING, Room.SLOTS),
    Map("states", MapKind.ARRAY, U32, STATE, Room.SLOTS, MapFlag.MMAPABLE),
    Map(
        "pings",
        MapKind.ARRAY,
        U32,
        PINGS,
        Room.SLOTS,
        MapFlag.MMAPABLE,
        "By slot as `states`, and apart from them: only PINGs touch it.",
    ),
    Map("sessions", MapKind.ARRAY, U32, SESSION, Room.SLOTS),
    Map("connections", MapKind.HASH, CONNECTION_KEY, U32, Room.SLOTS, _SMALL),
    Map(
        "ended",
        MapKind.LRU_HASH,
        U32,
        U64,
        16384,
        comment="Sessions that ended: token → when they are forgotten. Only tells two verdicts apart, so it may forget"
        " early.",
    ),
    Map(
        "addresses",
        MapKind.HASH,
        ADDRESS,
        U32,
        1024,
        comment="The host's own addresses that the relay is bound at → number of the endpoint, from 1; 0 for one that"
        " it has at a NAT.",
    ),
    Map(
        "denied",
        MapKind.LPM_TRIE,
        NETWORK_KEY,
        U32,
        MOST_DENIED_NETWORKS,
        _SMALL,
        "Networks that nobody may be in: limits.denied_networks.",
    ),
    Map(
        "interfaces",
        MapKind.HASH,
        U32,
        U32,
        256,
        comment="Interfaces that the program is on and may send by → interface_mode.",
    ),
    Map("totals", MapKind.PERCPU_ARRAY, U32, TOTAL, _TOTALS, comment="By port and verdict."),
    Map("run_times", MapKind.PERCPU_ARRAY, U32, RUN_TIMES, 1, comment="Of one in DATAGRAMS_PER_SAMPLE."),
    Map(
        "unknown_sources",
        MapKind.LRU_HASH,
        ADDRESS,
        U64,
        65536,
        comment="When the next unknown pair of a source would be due if they came evenly (GCRA).",
    ),
    Map(
        "passed_up_dues",
        MapKind.ARRAY,
        U32,
        U64,
        PASSED_UP.amount.value,
        comment="The same of all together, by passed_up.",
    ),
    Map(
        "by_sockets",
        MapKind.HASH,
        PLACE,
        U32,
        Room.SLOTS,
        _SMALL,
        "Where users are bound that the sockets serve. The values say nothing.",
    ),
    Map(
        "guesses",
        MapKind.HASH,
        U32,
        SEARCH,
        Room.AUTHORIZED,
        _SMALL,
        "Guessed user tokens, relayd/core/guesses.py, of every session there is.",
    ),
    Map(
        "guess_sources",
        MapKind.LRU_HASH,
        ADDRESS,
        U64,
        16384,
        comment="When the guesses of a source would have been due, had they come evenly.",
    ),
    Map(
        "tried",
        MapKind.LRU_HASH,
        TRIED_KEY,
        U64,
        65536,
        comment="Guesses within the rates → when they were last heard: the same is none again.",
    ),
    Map(
        "tried_above",
        MapKind.LRU_HASH,
        TRIED_KEY,
        U64,
        65536,
        comment="Guesses above them: the same is none again until it is heard within them.",
    ),
    Map(
        "revoked",
        MapKind.LRU_HASH,
        PAIR_KEY,
        U64,
        16384,
        comment="Users that were taken out of their sessions → when they are forgotten. Their tokens are no guesses.",
    ),
    Map("taken_over", MapKind.ARRAY, U32, TAKEN_OVER, Room.SLOTS, MapFlag.MMAPABLE),
    Map("totals_taken_over", MapKind.ARRAY, U32, TOTAL, _TOTALS, MapFlag.MMAPABLE),
)

LAYOUT = Layout(
    "kernel maps", (*TIMES, DELAY_BOUNDS_NS, PORTS, VERDICTS, CONTROL_FLAGS, PASSED_UP, INTERFACE_MODES, *MAPS)
)

VERSION = Constant("KERNEL_MAPS_LAYOUT", LAYOUT.digest, "Of these maps: pinned ones of another layout are replaced.")
