"""What each kind of refused datagrams says about why somebody does not get through."""

from collections.abc import Callable
from itertools import groupby

from relayd.admin.explain.abuse import bad_source, guess_limited, rate_limited
from relayd.admin.explain.causes import Cause, Finding, Text
from relayd.admin.explain.facts import Attempt, Change, Situation
from relayd.admin.explain.words import how_often, names, port_name, seconds, user_name
from relayd.core.events import EventKind
from relayd.core.host_policy import HostPolicy
from relayd.core.verdict import Verdict
from relayd.core.wire import HEADER_BYTES, MAX_DATAGRAM_BYTES, MAX_PAYLOAD_BYTES, Port
from relayd.log import short_token

ENDS = (EventKind.SESSION_REMOVED, EventKind.SESSION_IDLE)
"""Changes that end a session."""
AUTHORIZE_AGAIN = "authorize the user again if it should play"
NEW_SESSION = "create a new session"


def refusals(situation: Situation) -> list[Finding]:
    """A finding for each kind of attempt that has one."""
    found = []
    for attempt in _by_address(situation.attempts):
        explain = _OF_VERDICT.get(attempt.verdict)
        if explain is not None:
            cause, sentence, advice = explain(situation, attempt)
            found.append(Finding(cause, sentence, advice, attempt.last_seconds_ago))
    return found


def _by_address(attempts: tuple[Attempt, ...]) -> list[Attempt]:
    """Attempts that differ only in the UDP port they came from, summed."""

    def kind(attempt: Attempt) -> tuple[int, int, str, int, int]:
        return (
            attempt.verdict,
            attempt.port,
            attempt.ip_address,
            attempt.user_token or 0,
            attempt.session_token or 0,
        )

    summed = []
    for _, group in groupby(sorted(attempts, key=kind), key=kind):
        alike = list(group)
        summed.append(
            alike[0]._replace(
                datagrams=sum(one.datagrams for one in alike),
                data_datagrams=sum(one.data_datagrams for one in alike),
                first_seconds_ago=max(one.first_seconds_ago for one in alike),
                last_seconds_ago=min(one.last_seconds_ago for one in alike),
            )
        )
    return summed


def _unknown_pair(situation: Situation, attempt: Attempt) -> Text:
    user, session, often = user_name(attempt.user_token), attempt.session_id, how_often(attempt)
    if attempt.swapped_session_id is not None:
        return (
            Cause.TOKENS_SWAPPED,
            f"user and session token are swapped: both are those of session {attempt.swapped_session_id}, {often}",
            "exchange the two where the game sets them",
        )
    if session is None:
        return _unknown_session(attempt)
    if situation.session(session) is None:
        return _ended(situation, attempt)
    revoked = _change(situation, attempt, EventKind.USER_REVOKED)
    if revoked is not None and revoked.last_seconds_ago >= attempt.last_seconds_ago:
        return (
            Cause.USER_REVOKED,
            f"{user} was taken out of session {session} {seconds(revoked.last_seconds_ago)} ago and still sends:"
            f" {often}",
            AUTHORIZE_AGAIN,
        )
    advice = f"authorize the user in session {session}, or check that user and session token are not swapped"
    if attempt.other_session_ids:
        advice = f"the user token is one of session {names(attempt.other_session_ids)}: use that session's token"
    short = short_token(attempt.user_token or 0)
    return Cause.USER_TOKEN_UNKNOWN, f"session {session} known, user token {short} unknown in it, {often}", advice


def _unknown_session(attempt: Attempt) -> Text:
    user, session = short_token(attempt.user_token or 0), short_token(attempt.session_token or 0)
    others = attempt.other_session_ids
    if others:
        known = f"user token {user} known in session {names(others)}"
        advice = f"use the session token of session {names(others)}"
    else:
        known = f"user token {user} unknown too"
        advice = "check that the session is there still, and linked to this relay; then both tokens"
    return Cause.SESSION_TOKEN_UNKNOWN, f"session token {session} unknown, {known}, {how_often(attempt)}", advice


def _ended(situation: Situation, attempt: Attempt) -> Text:
    end = next((c for c in situation.changes if c.kind in ENDS and c.session_id == attempt.session_id), None)
    name = attempt.session_id or f"with token {short_token(attempt.session_token or 0)}"
    how = how_it_ended(end) if end is not None else "ended in the last minute"
    return (
        Cause.SESSION_ENDED,
        f"session {name} {how}; {user_name(attempt.user_token)} still sends: {how_often(attempt)}",
        NEW_SESSION,
    )


def how_it_ended(end: Change) -> str:
    """``ended 12 s ago, …``."""
    why = "nobody was there for too long" if end.kind is EventKind.SESSION_IDLE else "its source names it no longer"
    return f"ended {seconds(end.last_seconds_ago)} ago, {why}"


def _address_conflict(situation: Situation, attempt: Attempt) -> Text:
    user = situation.user(attempt.session_id, attempt.user_token)
    binding = user.on(attempt.port) if user else None
    where = (
        f"is bound to {binding.ip_address} {binding.udp_port}, heard {seconds(binding.heard_seconds_ago)} ago"
        if binding
        else "was bound to another address"
    )
    return (
        Cause.ADDRESS_CONFLICT,
        f"{user_name(attempt.user_token)} {where}; from elsewhere came {how_often(attempt)}",
        f"passes once the old address has been silent for {seconds(situation.relay.limits.rebind_after)};"
        " if it does not, two programs use this user token, and the later one is refused",
    )


def _address_refused(situation: Situation, attempt: Attempt) -> Text:
    user = situation.user(attempt.session_id, attempt.user_token)
    allowed = user.allowed_ip if user else None
    only = (
        f"may only come from {allowed}" if allowed else "has no ip_address in its session, and so may come from nowhere"
    )
    return (
        Cause.ADDRESS_PINNED,
        f"limits.pin_ip is on: {user_name(attempt.user_token)} {only}; from elsewhere came {how_often(attempt)}",
        "authorize the user with the address it plays from, or turn limits.pin_ip off",
    )


def _host_conflict(situation: Situation, attempt: Attempt) -> Text:
    session = situation.session(attempt.session_id)
    host = session.host if session else None
    heard = host.on(Port.SERVER) if host else None
    where = port_name(situation.relay, Port.SERVER)
    if situation.relay.limits.host_policy is HostPolicy.STRICT:
        return (
            Cause.HOST_CONFLICT,
            f"limits.host_policy is strict, and {user_name(attempt.user_token)} is not the first user of session"
            f" {attempt.session_id}, who alone may be its host: {how_often(attempt)}",
            f"players send to {port_name(situation.relay, Port.CLIENT)}; name the host first in session_users",
        )
    holder = (
        f"{user_name(host.token)} is the host, heard {seconds(heard.heard_seconds_ago)} ago"
        if host and heard
        else ("another user was the host")
    )
    if attempt.data_datagrams:
        # A host has nothing to say before it has heard a player; a player begins with DATA.
        return (
            Cause.PLAYER_ON_SERVER_PORT,
            f"{user_name(attempt.user_token)} sends DATA to {where}, where {holder}: {how_often(attempt)}",
            f"a player sends to {port_name(situation.relay, Port.CLIENT)}",
        )
    return (
        Cause.HOST_CONFLICT,
        f"{user_name(attempt.user_token)} wants to be host of session {attempt.session_id}, but {holder}:"
        f" {how_often(attempt)}",
        f"it takes over once the host has been silent for {seconds(situation.relay.limits.host_timeout)},"
        f" or at once where it is the first user of the session;"
        f" players send to {port_name(situation.relay, Port.CLIENT)}",
    )


def _no_host(situation: Situation, attempt: Attempt) -> Text:
    session = situation.session(attempt.session_id)
    has = "had no host then" if session and session.host else "has no host"
    return (
        Cause.NO_HOST,
        f"session {attempt.session_id} {has}: what {user_name(attempt.user_token)} sends cannot be forwarded,"
        f" {how_often(attempt)}",
        f"start the host, or check that it sends to {port_name(situation.relay, Port.SERVER)}",
    )


def _unknown_connection(situation: Situation, attempt: Attempt) -> Text:
    session = situation.session(attempt.session_id)
    if session is not None and not session.players_ever:
        return (
            Cause.PLAYER_ON_SERVER_PORT,
            f"{user_name(attempt.user_token)} holds the place of the host, but sends DATA to"
            f" {port_name(situation.relay, Port.SERVER)} before any player came, as only a player does:"
            f" {how_often(attempt)}",
            f"a player sends to {port_name(situation.relay, Port.CLIENT)}",
        )
    return (
        Cause.UNKNOWN_CONNECTION,
        f"the host sends to a connection id that no player in session {attempt.session_id} has, {how_often(attempt)}",
        "normal for a moment after a player left or came back",
    )


def _too_long(situation: Situation, attempt: Attempt) -> Text:  # noqa: ARG001
    return (
        Cause.TOO_LONG,
        f"{user_name(attempt.user_token)} sends datagrams of more than {MAX_DATAGRAM_BYTES:,} bytes, which are"
        f" dropped: {how_often(attempt)}",
        f"lower the transport's MTU: a payload may have {MAX_PAYLOAD_BYTES:,} bytes",
    )


def _malformed(situation: Situation, attempt: Attempt) -> Text:
    what = {
        Verdict.TOO_SHORT: f"are shorter than a header of {HEADER_BYTES} bytes",
        Verdict.UNKNOWN_TYPE: "are neither PING nor DATA",
        Verdict.NO_PAYLOAD: "are DATA without a payload",
    }[attempt.verdict]
    if attempt.verdict is Verdict.TOO_SHORT and attempt.user_token is not None:
        what = "lack the connection id of a host's DATA"
    return (
        Cause.MALFORMED,
        f"datagrams at {port_name(situation.relay, attempt.port)}, {what}: {how_often(attempt)}",
        f"check the sender's transport; players send to {port_name(situation.relay, Port.CLIENT)},"
        f" hosts to {port_name(situation.relay, Port.SERVER)}",
    )


def _draining(situation: Situation, attempt: Attempt) -> Text:
    is_over = "" if situation.relay.draining else ", until a while ago"
    return (
        Cause.DRAINING,
        f"this relay is draining and takes no new games{is_over}: session {attempt.session_id} had nobody in it,"
        f" {how_often(attempt)}",
        "send new games to another relay, or end the drain with `relayd drain --undo`",
    )


def _relay_full(situation: Situation, attempt: Attempt) -> Text:  # noqa: ARG001
    return (
        Cause.RELAY_FULL,
        f"this relay has limits.max_bound_users bound already: {how_often(attempt)}",
        "raise limits.max_bound_users, or send new games to another relay",
    )


def _change(situation: Situation, attempt: Attempt, kind: EventKind) -> Change | None:
    about = attempt.session_id, attempt.user_token
    return next((c for c in situation.changes if c.kind is kind and (c.session_id, c.user_token) == about), None)


_OF_VERDICT: dict[Verdict, Callable[[Situation, Attempt], Text]] = {
    Verdict.TOO_SHORT: _malformed,
    Verdict.TOO_LONG: _too_long,
    Verdict.UNKNOWN_TYPE: _malformed,
    Verdict.NO_PAYLOAD: _malformed,
    Verdict.UNKNOWN_PAIR: _unknown_pair,
    Verdict.SESSION_ENDED: _ended,
    Verdict.ADDRESS_CONFLICT: _address_conflict,
    Verdict.ADDRESS_REFUSED: _address_refused,
    Verdict.HOST_CONFLICT: _host_conflict,
    Verdict.NO_HOST: _no_host,
    Verdict.UNKNOWN_CONNECTION: _unknown_connection,
    Verdict.RATE_LIMITED: rate_limited,
    Verdict.BAD_SOURCE: bad_source,
    Verdict.GUESS_LIMITED: guess_limited,
    Verdict.DRAINING: _draining,
    Verdict.RELAY_FULL: _relay_full,
}
"""Verdicts not in it are never noted in the history: see `Engine.handle`."""
