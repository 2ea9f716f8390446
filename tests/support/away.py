"""A file system that is away, as one of a network may be."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest


class Away:
    """While it is away, whatever is done in a thread hangs.

    Args:
        patch: for as long as it can go away.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.hanging: list[asyncio.Event] = []
        self.away = True
        in_a_thread = asyncio.to_thread

        async def do(work: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
            if self.away:
                back = asyncio.Event()
                self.hanging.append(back)
                await back.wait()
            return await in_a_thread(work, *args, **kwargs)

        patch.setattr(asyncio, "to_thread", do)

    def comes_back(self) -> None:
        self.away = False
        for one in self.hanging:
            one.set()
        self.hanging.clear()
