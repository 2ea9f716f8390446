"""A webhook goes to the address that was checked, and to no other."""

import asyncio
from typing import Any

import httpx
import pytest

from relayd.control_plane.store.sqlite import SqliteStore
from relayd.control_plane.webhooks.delivery import RefusedTargetError, Webhooks


def addresses_for(found: list[str], attempts: int = 0, *, allow_private: bool = False) -> str:
    """The address called for a name that resolves so."""

    async def ask() -> str:
        async def getaddrinfo(*_: Any, **__: Any) -> list[Any]:
            return [(0, 0, 0, "", (address, 443)) for address in found]

        asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign]
        store = SqliteStore(":memory:")
        try:
            hooks = Webhooks(store, None, allow_private=allow_private)
            return await hooks._checked_address(httpx.URL("https://hook.example/"), attempts)
        finally:
            await store.close()

    return asyncio.run(ask())


def test_one_private_address_among_public_ones_refuses_the_name() -> None:
    with pytest.raises(RefusedTargetError):
        addresses_for(["1.1.1.1", "10.0.0.1"])
    with pytest.raises(RefusedTargetError):
        addresses_for(["fe80::1%eth0"])


def test_private_ones_may_be_allowed() -> None:
    assert addresses_for(["10.0.0.1"], allow_private=True) == "10.0.0.1"


def test_each_attempt_takes_the_next_address() -> None:
    assert [addresses_for(["1.1.1.1", "8.8.8.8"], attempts) for attempts in range(3)] == [
        "1.1.1.1",
        "8.8.8.8",
        "1.1.1.1",
    ]
