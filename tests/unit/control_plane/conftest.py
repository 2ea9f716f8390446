import asyncio
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relayd.control_plane.store.contract import Store
from relayd.control_plane.store.sqlite import SqliteStore

ENGINES: dict[str, Callable[[Path], Store]] = {
    "memory": lambda _: SqliteStore(":memory:"),
    "sqlite": lambda folder: SqliteStore(str(folder / "store.sqlite3")),
}


@pytest.fixture(params=ENGINES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """Every store there is, one after the other: what is promised holds for all of them."""
    opened = ENGINES[request.param](tmp_path)
    yield opened
    asyncio.run(opened.close())
