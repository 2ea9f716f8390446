"""What refusals say that keep the relay from being abused: rates, guesses, invented sources."""

from relayd.admin.explain.causes import Cause, Text
from relayd.admin.explain.facts import Attempt, Situation
from relayd.admin.explain.words import how_often, user_name
from relayd.core.limits import Limits
from relayd.core.meter import SILENT_SECONDS, TO_SILENT
from relayd.core.wire import Port


def rate_limited(situation: Situation, attempt: Attempt) -> Text:
    """Above a rate."""
    bounds = " or ".join(_bounds(situation.relay.limits, attempt.port))
    keys = "limits.host_…_per_second" if attempt.port is Port.SERVER else "limits.user_…_per_second"
    if any(situation.relay.limits.session_rate):
        keys += " or limits.session_…_per_second"
    return (
        Cause.RATE_LIMITED,
        f"{user_name(attempt.user_token)} sends more than {bounds} a second, or more than {TO_SILENT.datagrams} to a"
        f" peer that has not been heard for {SILENT_SECONDS:g} s; dropped were {how_often(attempt)}",
        f"raise {keys}, or find out why so much is sent",
    )


def _bounds(limits: Limits, port: Port) -> list[str]:
    user, session = limits.user_rate(port), limits.session_rate
    return [
        f"{number} {unit}"
        for number, unit in (
            (user.datagrams, "datagrams"),
            (user.bytes, "bytes"),
            (session.datagrams, "datagrams of its whole session"),
            (session.bytes, "bytes of its whole session"),
        )
        if number
    ]


def bad_source(situation: Situation, attempt: Attempt) -> Text:  # noqa: ARG001
    """From where no peer can be."""
    return (
        Cause.BAD_SOURCE,
        f"datagrams from {attempt.ip_address} {attempt.udp_port}, where no peer can be: the port of this relay or"
        " of another of its fleet, port 0, multicast, broadcast, or a network of limits.denied_networks:"
        f" {how_often(attempt)}",
        "somebody invents senders: look where they come in",
    )


def guess_limited(situation: Situation, attempt: Attempt) -> Text:
    """Taken for a lucky guess."""
    limits = situation.relay.limits
    return (
        Cause.TOKENS_GUESSED,
        f"{user_name(attempt.user_token)} is held back while user tokens are guessed, more than"
        f" {limits.guesses_per_source_per_second} a second from its address or {limits.guesses_per_second} in session"
        f" {attempt.session_id}: {how_often(attempt)}",
        "passes a second after that ends, or once it has come from one address for some seconds; users that are"
        " authorized with the address they play from, or were bound there before, are not held back",
    )
