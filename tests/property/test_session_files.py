"""Session files: valid ones read as json.loads would, garbage only ever raises SessionFileError."""

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.session_file import SessionFileError, read_sessions

tokens = st.integers(1, 2**32 - 1)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
users = st.fixed_dictionaries(
    {"authorization_token": tokens},
    optional={
        "ip_address": st.one_of(st.none(), st.ip_addresses().map(str)),
        "latitude": st.floats(-90, 90),
        "what else": names,
    },
)
sessions = st.fixed_dictionaries(
    {
        "session_id": names,
        "authorization_token": tokens,
        "session_users": st.lists(users, max_size=4, unique_by=lambda user: user["authorization_token"]),
    },
    optional={"status": names, "error": st.none(), "webhook_url": names},
)
files = st.lists(
    sessions, max_size=5, unique_by=(lambda one: one["session_id"], lambda one: one["authorization_token"])
)
junk = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["session_id", "authorization_token", "session_users", "ready", "relay", "ports"]),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=12,
)


def read(text: str) -> Snapshot:
    snapshot = Snapshot()
    for _ in read_sessions(text, snapshot):
        pass
    return snapshot


@given(
    files,
    st.one_of(st.none(), st.integers(0, 8), st.sampled_from(["\t", " \n", "\r\n"])),
    st.booleans(),
    st.sampled_from(["", " ", "\n\n"]),
)
def test_any_way_to_write_it_reads_the_same(
    wanted: list[dict[str, Any]], indent: int | str | None, ensure_ascii: bool, around: str
) -> None:
    document = {"before": {"sessions": [1]}, "sessions": wanted, "after": [[]]}
    text = around + json.dumps(document, indent=indent, ensure_ascii=ensure_ascii) + around
    read_back = read(text).sessions
    plain = json.loads(text)["sessions"]
    assert list(read_back) == [one["session_id"] for one in plain]
    for one in plain:
        spec = read_back[one["session_id"]]
        assert spec.token == one["authorization_token"]
        assert [user.token for user in spec.users] == [user["authorization_token"] for user in one["session_users"]]
        assert isinstance(spec, SessionSpec)
        assert all(isinstance(user, UserSpec) for user in spec.users)


def only_a_session_file_error(text: str) -> None:
    try:
        read(text)
    except SessionFileError as error:
        line = str(error).partition(":")[0]
        assert 1 <= int(line) <= text.count("\n") + 1


@settings(max_examples=300)
@given(st.one_of(st.text(), st.text('{}[]",:0e-.\\ntrue \n"sessions"'), st.text().map('{"sessions": ['.__add__)))
def test_garbage_raises_nothing_else(text: str) -> None:
    only_a_session_file_error(text)


@settings(max_examples=300)
@given(junk, st.one_of(st.none(), st.just(1)))
def test_json_of_any_shape_raises_nothing_else(value: object, indent: int | None) -> None:
    only_a_session_file_error(json.dumps({"sessions": value}, indent=indent))
    only_a_session_file_error(json.dumps({"sessions": [value]}, indent=indent))


@given(files, st.data())
def test_a_file_cut_short_is_refused(wanted: list[dict[str, Any]], data: st.DataObject) -> None:
    text = json.dumps({"sessions": wanted}, indent=1)
    cut = data.draw(st.integers(0, len(text) - 1))
    with pytest.raises(SessionFileError):
        read(text[:cut])


@given(st.integers(10**7, 2**32 - 1), junk, st.sampled_from(["session", "user", "both"]))
def test_no_token_is_ever_in_the_text_of_a_mistake(token: int, value: object, where: str) -> None:
    session: dict[str, Any] = {"session_id": "a", "authorization_token": 1, "session_users": []}
    if where != "user":
        session["authorization_token"] = token
    if where != "session":
        session["session_users"] = [{"authorization_token": str(token)}, value, {"authorization_token": token}]
    else:
        session["session_users"] = value
    text = json.dumps({"sessions": [session, session]})
    assume(str(token) not in json.dumps(value))
    with pytest.raises(SessionFileError) as caught:
        read(text)
    assert str(token) not in str(caught.value)
