"""From what is known to what it means: facts in, findings out, the most telling first. Pure."""

from collections.abc import Iterator

from relayd.admin.explain.causes import Cause, Finding
from relayd.admin.explain.facts import BindingFacts, SessionFacts, Situation, UserFacts
from relayd.admin.explain.refusals import AUTHORIZE_AGAIN, ENDS, NEW_SESSION, how_it_ended, refusals
from relayd.admin.explain.words import datagrams, names, port_name, seconds, user_name
from relayd.core.events import EventKind
from relayd.core.wire import Port
from relayd.log import short_token

CURRENT_SECONDS = 60.0
"""Older findings come after current ones."""
_HEARD_SECONDS = 3.0
"""Peers PING every 0.5 s: six in a row are not lost by chance."""
_SECOND_PING_SECONDS = 0.1
_LOSING_SECONDS = 3.0
"""Within so much an interface that loses what the kernel sends by it is left to the sockets."""

_LEAVES = (EventKind.USER_SILENT, EventKind.USER_DISPLACED)
_ORDER = {cause: number for number, cause in enumerate(Cause)}


def explain(situation: Situation) -> list[Finding]:
    """Why those in question do or do not get through."""
    found = [*refusals(situation), *_users(situation), *_ends(situation)]
    if any(one.kernel_sends and one.last_seconds_ago < _LOSING_SECONDS for one in situation.relay.losses):
        # Who is heard may be one of those that nothing reaches.
        found = [finding for finding in found if finding.cause is not Cause.GETS_THROUGH]
    elif not found:
        found.append(_nothing(situation))
    found += _relay(situation)
    return sorted(found, key=lambda f: (f.last_seconds_ago > CURRENT_SECONDS, _ORDER[f.cause], f.last_seconds_ago))


def _relay(situation: Situation) -> Iterator[Finding]:
    relay = situation.relay
    if not relay.loaded:
        yield Finding(
            Cause.NO_SESSIONS_YET,
            f"this relay has not read any sessions yet: {relay.source_problem or 'it is still reading them'}",
            "see [source] of the configuration, and `relayd check`",
        )
    elif relay.source_problem is not None:
        yield Finding(
            Cause.SOURCE_STALE,
            f"the session source has not been followed for {seconds(relay.source_age_seconds)}: {relay.source_problem};"
            " sessions and users that are newer are not known here",
            "fix the source; games that run play on meanwhile",
        )
    for one in relay.losses:
        yield Finding(
            Cause.LOST_BY_INTERFACE,
            f"{one.interface} lost {datagrams(one.datagrams)} that the kernel sent by it, the last"
            f" {seconds(one.last_seconds_ago)} ago; they are counted as forwarded or answered;"
            f" {'the kernel goes on sending by it' if one.kernel_sends else 'the sockets serve there since'}",
            one.way_out,
            one.last_seconds_ago,
        )


def _nothing(situation: Situation) -> Finding:
    relay = situation.relay
    kernel = (
        f"; but the kernel dropped {datagrams(relay.unknown_by_kernel)} of unknown users, and notes no senders"
        if relay.unknown_by_kernel
        else ""
    )
    return Finding(
        Cause.NOTHING_KNOWN,
        f"nothing is known of {situation.asked}: no session, no user and no refused datagram{kernel}",
        f"check it for typing errors, and that players send to {port_name(relay, Port.CLIENT)}, the host to"
        f" {port_name(relay, Port.SERVER)} of this relay",
    )


def _users(situation: Situation) -> Iterator[Finding]:
    suspects: dict[tuple[str, int], UserFacts] = {}
    unheard: dict[str, list[UserFacts]] = {}
    for user in situation.users:
        session = situation.session(user.session_id)
        if session is None:
            continue
        suspects |= {(one.session_id, one.token): one for one in session.users if _looks_misplaced(session, one)}
        if user.bindings:
            for binding in user.bindings:
                yield from _binding(session, user, binding)
        elif not _was_heard(situation, user):
            unheard.setdefault(user.session_id, []).append(user)
        else:
            yield from _left(situation, user)
    for user in suspects.values():
        if not any(attempt.user_token == user.token for attempt in situation.attempts):
            yield _misplaced(situation, user)
    for session_id, users in unheard.items():
        yield _not_heard(situation, session_id, users)
    for session in situation.sessions:
        if session.unsent:
            yield Finding(
                Cause.UNSENT,
                f"{datagrams(session.unsent)} of session {session.session_id} could not be sent on: the kernel did not"
                " take them",
                "look at routes, interfaces, firewall and load of this host",
            )


def _looks_misplaced(session: SessionFacts, user: UserFacts) -> bool:
    """Whether it behaves like the other kind: a player begins with DATA, a host only PINGs until a player came."""
    as_host, as_player = user.on(Port.SERVER), user.on(Port.CLIENT)
    if as_host is not None and not session.players_ever and user.lost_to_nobody:
        return True
    if as_player is None or session.host is not None or user.datagrams_to_host or user.lost_without_host:
        return False
    return as_player.bound_seconds_ago - as_player.heard_seconds_ago > _SECOND_PING_SECONDS


def _misplaced(situation: Situation, user: UserFacts) -> Finding:
    relay = situation.relay
    if user.on(Port.SERVER) is not None:
        return Finding(
            Cause.PLAYER_ON_SERVER_PORT,
            f"{user_name(user.token)} holds the place of the host, but sends DATA to {port_name(relay, Port.SERVER)}"
            " before any player came, as only a player does",
            f"a player sends to {port_name(relay, Port.CLIENT)}",
        )
    return Finding(
        Cause.HOST_ON_CLIENT_PORT,
        f"session {user.session_id} has no host, and {user_name(user.token)} only PINGs"
        f" {port_name(relay, Port.CLIENT)}, as a host does",
        f"the host sends to {port_name(relay, Port.SERVER)}",
    )


def _binding(session: SessionFacts, user: UserFacts, binding: BindingFacts) -> Iterator[Finding]:
    where = f"bound from {binding.ip_address} {binding.udp_port}, heard {seconds(binding.heard_seconds_ago)} ago"
    name = user_name(user.token)
    if binding.conflicts_by_kernel:
        yield Finding(
            Cause.ADDRESS_CONFLICT,
            f"{name} is {where}; the kernel dropped {datagrams(binding.conflicts_by_kernel)} from other addresses",
            "if this goes on, two programs use this user token",
        )
    if binding.heard_seconds_ago > _HEARD_SECONDS:
        yield Finding(
            Cause.SILENT, f"{name} is {where}", "check that its program runs and that its network lets it through"
        )
    elif _looks_misplaced(session, user):
        return
    elif binding.port is Port.SERVER:
        yield Finding(
            Cause.GETS_THROUGH,
            f"{name} gets through as the host of session {session.session_id}: {where}",
        )
    elif session.host is not None:
        yield Finding(
            Cause.GETS_THROUGH,
            f"{name} gets through as a player of session {session.session_id}: {where},"
            f" {datagrams(user.datagrams_to_host)} to the host, {user.datagrams_to_player} back",
        )
    elif not user.lost_without_host:
        yield Finding(
            Cause.NO_HOST,
            f"session {session.session_id} has no host, so that {name}, {where}, plays with nobody",
            "start the host",
        )


def _was_heard(situation: Situation, user: UserFacts) -> bool:
    about = user.session_id, user.token
    return any((attempt.session_id, attempt.user_token) == about for attempt in situation.attempts) or any(
        (change.session_id, change.user_token) == about for change in situation.changes
    )


def _left(situation: Situation, user: UserFacts) -> Iterator[Finding]:
    about = user.session_id, user.token
    for change in situation.changes:
        if change.kind in _LEAVES and (change.session_id, change.user_token) == about:
            place = f"{change.ip_address} {change.udp_port}"
            why = f"after {seconds(situation.relay.limits.user_timeout)} of silence at {place}"
            if change.kind is EventKind.USER_DISPLACED:
                why = f"not heard for a second after another user came to {place}"
            yield Finding(
                Cause.SILENT,
                f"{user_name(user.token)} was unbound {seconds(change.last_seconds_ago)} ago, {why}",
                "check that its program runs and that its network lets it through",
                change.last_seconds_ago,
            )
            return


def _ends(situation: Situation) -> Iterator[Finding]:
    """Sessions and users that ended without a refusal since."""
    told = {(attempt.session_id, attempt.user_token) for attempt in situation.attempts}
    for change in situation.changes:
        session, ago = situation.session(change.session_id), change.last_seconds_ago
        if change.kind in ENDS and session is None and change.session_id not in {one for one, _ in told}:
            yield Finding(Cause.SESSION_ENDED, f"session {change.session_id} {how_it_ended(change)}", NEW_SESSION, ago)
        elif (
            change.kind is EventKind.USER_REVOKED
            and session is not None
            and situation.user(change.session_id, change.user_token) is None
            and (change.session_id, change.user_token) not in told
        ):
            sentence = f"{user_name(change.user_token)} was taken out of session {change.session_id} {seconds(ago)} ago"
            yield Finding(Cause.USER_REVOKED, sentence, AUTHORIZE_AGAIN, ago)


def _not_heard(situation: Situation, session_id: str, users: list[UserFacts]) -> Finding:
    relay = situation.relay
    who = names(short_token(user.token) for user in users)
    return Finding(
        Cause.NOT_HEARD,
        f"authorized in session {session_id}, but never heard: {'user' if len(users) == 1 else 'users'} {who}",
        f"check the relay's address and the firewall: players send to {port_name(relay, Port.CLIENT)}, the host to"
        f" {port_name(relay, Port.SERVER)}",
    )
