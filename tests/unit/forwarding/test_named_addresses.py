"""Addresses that relay.bind names, on this host's own network: which are there, and what is said of the others."""

import errno
import os
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from relayd.errors import UnavailableError
from relayd.forwarding import named_addresses
from relayd.forwarding.named_addresses import NamedAddresses, examine_addresses, is_here

HERE, ABSENT = "127.0.0.1", "192.0.2.1"


def test_which_are_here() -> None:
    assert (is_here(HERE), is_here("127.0.0.7")) == (True, True)
    assert (is_here(ABSENT), is_here("2001:db8::7"), is_here("fe80::1%none0")) == (False, False, False)


def test_where_anything_can_be_bound_to_the_list_of_addresses_says(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    allowed = tmp_path / "ip_nonlocal_bind"
    allowed.write_text("1\n", encoding="ascii")
    monkeypatch.setattr(named_addresses, "_NONLOCAL_BIND", dict.fromkeys(named_addresses._NONLOCAL_BIND, allowed))
    monkeypatch.setattr(named_addresses, "local_addresses", lambda: ["127.0.0.2"])
    assert (is_here("127.0.0.2"), is_here("127.0.0.3")) == (True, False)


def test_where_that_is_hidden_as_under_the_units_binding_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hidden = dict.fromkeys(named_addresses._NONLOCAL_BIND, tmp_path / "not there")
    monkeypatch.setattr(named_addresses, "_NONLOCAL_BIND", hidden)
    assert (is_here(HERE), is_here(ABSENT)) == (True, False)


def test_where_it_cannot_be_told_the_check_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(named_addresses, "is_here", fail)
    (said,) = examine_addresses([HERE])
    assert said.startswith("warning  relay.bind: whether this host has its addresses cannot be told: ")


def test_what_goes_and_comes_is_said_once(monkeypatch: pytest.MonkeyPatch) -> None:
    there: dict[str, bool] = {HERE: True, ABSENT: False}
    monkeypatch.setattr(named_addresses, "is_here", there.__getitem__)
    with capture_logs() as logs:
        named = NamedAddresses([HERE, ABSENT])
        named.refresh()
        assert (named.up, named.away, named.reachable) == ({HERE: True, ABSENT: False}, [ABSENT], True)
        there[HERE] = False
        named.refresh()
        assert not named.reachable
        there[ABSENT] = True
        named.refresh()
        assert (named.away, named.reachable) == ([HERE], True)
    assert [(line["log_level"], line["address"]) for line in logs] == [
        ("warning", ABSENT),
        ("warning", HERE),
        ("info", ABSENT),
    ]


def test_what_cannot_be_told_stays_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    named = NamedAddresses([ABSENT])

    def too_many(_: str) -> bool:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(named_addresses, "is_here", too_many)
    named.refresh()
    assert named.away == [ABSENT]


def test_who_serves_every_address_is_reached_whatever_is_named_beside() -> None:
    assert NamedAddresses(["0.0.0.0", "::"]).up == {}
    assert NamedAddresses(["0.0.0.0", ABSENT]).reachable


def test_what_check_says() -> None:
    assert examine_addresses(["0.0.0.0", "::", HERE]) == []
    (line,) = examine_addresses([HERE, ABSENT])
    assert line.startswith(f"warning  relay.bind: {ABSENT}: this host has no such address")
    with pytest.raises(UnavailableError, match=ABSENT):
        examine_addresses([ABSENT])
