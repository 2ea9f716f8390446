"""Mistakes in a session file: each with its line and field, none with a token."""

import json

import pytest

from relayd.core.desired import SessionSpec, Snapshot, UserSpec
from relayd.core.session_file import SessionFileError, read_sessions

SECRET = 3405691582


def read(text: str) -> Snapshot:
    snapshot = Snapshot()
    for _ in read_sessions(text, snapshot):
        pass
    return snapshot


def mistake(text: str) -> str:
    with pytest.raises(SessionFileError) as caught:
        read(text)
    return str(caught.value)


GOOD = """{
  "sessions": [
    {
      "session_id": "a",
      "authorization_token": 1,
      "session_users": [
        {"authorization_token": 11, "ip_address": "10.0.0.1"},
        {"authorization_token": 12}
      ]
    },
    {"session_id": "b", "ready": false}
  ]
}
"""


def test_a_good_file() -> None:
    users = UserSpec(11, "10.0.0.1"), UserSpec(12, None)
    assert read(GOOD).sessions == {"a": SessionSpec("a", 1, users)}


def test_it_pauses_after_each_session() -> None:
    assert len(list(read_sessions(GOOD, Snapshot()))) == 2


def test_other_keys_at_the_top_are_passed_over() -> None:
    assert read('{"count": [1, {"sessions": 3}], "sessions": [], "next": null}').sessions == {}


@pytest.mark.parametrize(
    ("old", "new", "line_and_field"),
    [
        ('"session_id": "a"', '"session_id": 5', "4: sessions[0].session_id: "),
        ('"session_id": "a"', '"session_id": ""', "4: sessions[0].session_id: "),
        ('"session_id": "a",', "", "3: sessions[0].session_id: "),
        ('"authorization_token": 1,', '"authorization_token": "1",', "5: sessions[0].authorization_token: "),
        ('"authorization_token": 1,', '"authorization_token": 0,', "5: sessions[0].authorization_token: "),
        ('"authorization_token": 1,', '"authorization_token": 1.5,', "5: sessions[0].authorization_token: "),
        ('"authorization_token": 1,', '"authorization_token": 4294967296,', "5: sessions[0].authorization_token: "),
        ('"authorization_token": 1,', "", "3: sessions[0]: session a has no authorization_token"),
        ("12}", "-12}", "8: sessions[0].session_users[1].authorization_token: "),
        ("12}", "11}", "3: sessions[0]: two users of session a have the same authorization_token"),
        ('"10.0.0.1"', '"10.0.0.256"', "7: sessions[0].session_users[0].ip_address: "),
        ('{"authorization_token": 12}', "{}", "8: sessions[0].session_users[1].authorization_token: "),
        ('{"authorization_token": 12}', "12", "8: sessions[0].session_users[1]: "),
        ('"ready": false', '"ready": "perhaps"', "11: sessions[1].ready: "),
        (', "ready": false', "", "11: sessions[1]: session b has no authorization_token"),
        ('"ready": false', '"authorization_token": 1', "11: sessions[1]: sessions a and b have the same"),
        ('"b", "ready": false', '"a", "authorization_token": 2', "11: sessions[1]: session_id a appears twice"),
        ('{"session_id": "b", "ready": false}', "7", "11: sessions[1]: "),
        ('{"session_id": "b", "ready": false}', "null", "11: sessions[1]: "),
        ("false}", "false", "12: not valid JSON: "),
        ("},\n    {", "};\n    {", "10: not valid JSON: Expecting ','"),
        ("},\n    {", "}+\n    {", "10: not valid JSON: Expecting ','"),
        ('"sessions":', '"sessions";', "2: not valid JSON: Expecting ':'"),
        ('"sessions":', '"sessions"0', "2: not valid JSON: Expecting ':'"),
        ("false}", "false},", "12: not valid JSON: "),
        ('"sessions": [', '"sessions": {', "2: sessions: should be an array"),
        ('"sessions"', '"session"', "1: sessions: missing"),
    ],
)
def test_a_mistake_is_told_with_line_and_field(old: str, new: str, line_and_field: str) -> None:
    assert old in GOOD
    assert mistake(GOOD.replace(old, new)).startswith(line_and_field)


@pytest.mark.parametrize(
    "text",
    ["", " ", "{", "[]", "7", "null", '{"sessions": []} x', '{"sessions": [', '{"sessions": [}', "{sessions: []}"],
)
def test_what_is_no_session_file_at_all(text: str) -> None:
    assert mistake(text).startswith("1: ")


def test_what_nests_too_deeply_is_refused() -> None:
    assert mistake('{"sessions": [' + "[" * 100_000) == "1: not a session file: nested too deeply"


def test_a_number_too_long_to_be_one_is_refused() -> None:
    assert mistake('{"sessions": [' + "9" * 5000 + "]}").startswith("1: ")


def test_of_a_key_that_stands_twice_the_last_counts_and_its_line_is_told() -> None:
    text = '{"sessions": [{"session_id": "a",\n"authorization_token": 1,\n"session_users": 1,\n"session_users": [{}]}]}'
    assert mistake(text).startswith("4: sessions[0].session_users[0].authorization_token: ")


def test_what_was_given_is_shown_where_it_is_no_secret() -> None:
    assert "(got '10.0.0.256')" in mistake(GOOD.replace("10.0.0.1", "10.0.0.256"))


@pytest.mark.parametrize(
    "value",
    [
        {"session_id": "a", "authorization_token": str(SECRET)},
        {"session_id": "a", "authorization_token": SECRET * 2**32},
        {"session_id": "a", "authorization_token": SECRET + 0.5},
        {"session_id": "a", "authorization_token": [SECRET]},
        {"session_id": "a", "authorization_token": 1, "session_users": [SECRET]},
        {"session_id": "a", "authorization_token": 1, "session_users": [str(SECRET)]},
        {"session_id": "a", "authorization_token": 1, "session_users": SECRET},
        {"session_id": "a", "authorization_token": 1, "session_users": [{"authorization_token": -SECRET}]},
        {"session_id": "a", "authorization_token": 1, "session_users": [{"authorization_token": SECRET}] * 2},
        SECRET,
        str(SECRET),
        [SECRET],
    ],
)
def test_no_token_in_the_text_of_a_mistake(value: object) -> None:
    assert str(SECRET) not in mistake(json.dumps({"sessions": [value]}))


def test_no_session_token_in_the_text_of_a_mistake_about_two_sessions() -> None:
    sessions = [{"session_id": name, "authorization_token": SECRET} for name in "ab"]
    assert str(SECRET) not in mistake(json.dumps({"sessions": sessions}))
