import pytest

from relayd.core.desired import InvalidSessionsError, SessionSpec, Snapshot, check_users
from tests.support.relays import spec


def test_a_snapshot_holds_sessions_by_id() -> None:
    snapshot = Snapshot.of([spec("a", 1), spec("b", 2)])
    assert len(snapshot) == 2
    assert snapshot.sessions == {"a": spec("a", 1), "b": spec("b", 2)}


def test_two_sessions_may_not_share_an_id() -> None:
    with pytest.raises(InvalidSessionsError, match="session_id a appears twice"):
        Snapshot.of([spec("a", 1), spec("a", 2)])


def test_two_sessions_may_not_share_a_token_and_both_are_named() -> None:
    with pytest.raises(InvalidSessionsError, match="sessions a and b have the same authorization_token"):
        Snapshot.of([spec("a", 305419896), spec("b", 305419896)])


def test_two_users_of_a_session_may_not_share_a_token() -> None:
    with pytest.raises(InvalidSessionsError, match="two users of session a"):
        check_users(spec("a", 1, (305419896, 305419896)))


def test_users_of_different_sessions_may_share_a_token() -> None:
    assert len(Snapshot.of([spec("a", 1, (5,)), spec("b", 2, (5,))])) == 2


@pytest.mark.parametrize("bad", [spec("b", 305419896), spec("b", 2, (305419896, 305419896))])
def test_contradictions_show_no_token(bad: SessionSpec) -> None:
    snapshot = Snapshot.of([spec("a", 305419896)])
    with pytest.raises(InvalidSessionsError) as caught:
        snapshot.add(bad)
    assert "305419896" not in str(caught.value)


def test_what_was_refused_is_not_in_the_snapshot() -> None:
    snapshot = Snapshot.of([spec("a", 1)])
    with pytest.raises(InvalidSessionsError):
        snapshot.add(spec("b", 1))
    assert list(snapshot.sessions) == ["a"]
