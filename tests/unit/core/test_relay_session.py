import pytest
from pydantic import ValidationError

from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.relay_session import RelaySession, canonical_ip


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("203.0.113.7", "203.0.113.7"),
        ("2001:DB8:0:0::1", "2001:db8::1"),
        ("::ffff:203.0.113.7", "203.0.113.7"),
        ("::1", "::1"),
    ],
)
def test_an_address_has_one_form(text: str, canonical: str) -> None:
    assert canonical_ip(text) == canonical


@pytest.mark.parametrize("text", ["", "localhost", "1.2.3", "1.2.3.4:5", "01.2.3.4"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not appear to be"):
        canonical_ip(text)


@pytest.mark.parametrize("token", [0, -1, 2**32, "1", 1.0, True])
def test_tokens_are_whole_numbers_of_32_bits_and_not_zero(token: object) -> None:
    with pytest.raises(ValidationError):
        RelaySession.model_validate({"session_id": "a", "authorization_token": token})


@pytest.mark.parametrize("token", [1, 2**32 - 1])
def test_the_least_and_the_greatest_token(token: int) -> None:
    session = RelaySession.model_validate({"session_id": "a", "authorization_token": token})
    assert session.spec() == SessionSpec("a", token, ())


def test_a_session_that_is_not_linked_has_no_spec() -> None:
    assert RelaySession(session_id="a", ready=False).spec() is None


def test_the_spec_has_the_users_with_canonical_addresses() -> None:
    session = RelaySession.model_validate(
        {
            "session_id": "a",
            "authorization_token": 1,
            "session_users": [
                {"authorization_token": 2, "ip_address": "::ffff:10.0.0.1", "latitude": 1.5, "longitude": None},
                {"authorization_token": 3},
            ],
        }
    )
    assert session.spec() == SessionSpec("a", 1, (UserSpec(2, "10.0.0.1"), UserSpec(3, None)))
