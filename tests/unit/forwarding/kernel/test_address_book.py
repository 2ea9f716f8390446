"""The host's addresses in the map of the program, also where there are more than it has room for."""

import pytest

from relayd.core.declaration.kernel_maps import MAPS
from relayd.forwarding.kernel.address_book import AddressBook
from relayd.forwarding.kernel.layout import pack_ip
from relayd.forwarding.kernel.libbpf import BpfError
from tests.support.kernel_maps import FakeMap

EVERYWHERE = "0.0.0.0"


def test_what_was_written_before_there_was_no_room_is_taken_out_again(monkeypatch: pytest.MonkeyPatch) -> None:
    there = ["192.0.2.1", "192.0.2.2", "192.0.2.3"]
    monkeypatch.setattr("relayd.forwarding.kernel.address_book.reached_at", lambda _: dict.fromkeys(there, EVERYWHERE))
    (declared,) = (one for one in MAPS if one.name == "addresses")
    addresses = FakeMap(declared, 3)
    book = AddressBook(addresses, [EVERYWHERE], "192.0.2.9")  # type: ignore[arg-type]  # a map in memory
    with pytest.raises(BpfError):
        book.refresh()
    del there[:2]
    book.refresh()
    assert set(addresses.entries) == {pack_ip("192.0.2.3"), pack_ip("192.0.2.9")}
