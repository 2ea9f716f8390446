"""What holds in a table between any two steps, whatever happened before."""

from relayd.core.session import Session
from relayd.core.table import Table
from relayd.core.wire import MAX_CONNECTION_ID, Port


def check_table(table: Table) -> None:
    """Raises AssertionError where its parts contradict each other."""
    sessions = table.sessions.values()
    assert table.by_token == {session.token: session for session in sessions}
    assert len(table.by_token) == len(table.sessions)
    assert table.users == sum(len(session.users) for session in sessions)
    assert sum(table.bound) == sum(session.bound for session in sessions)
    assert table.active_sessions == sum(session.bound > 0 for session in sessions)
    for session in sessions:
        check_session(session)


def check_session(session: Session) -> None:
    """Raises AssertionError where a session contradicts itself: each user bound once, each id one player's."""
    bindings = list(session.bindings())
    assert session.bound == len(bindings)
    assert [one for one in bindings if one.port is Port.SERVER] == ([session.host] if session.host else [])
    players = {user.connection_id: user for user in session.users.values() if user.connection_id}
    assert session.players == players
    assert len(players) == sum(user.connection_id != 0 for user in session.users.values())
    assert all(0 < one <= MAX_CONNECTION_ID for one in players)
    for user in session.users.values():
        assert user.session is session
        assert user.client_binding is None or user.connection_id
    assert all(count >= 0 for count in (session.drops or {}).values())
