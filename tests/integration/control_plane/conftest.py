from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.control_plane.process import Made, Server


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Made]:
    """Makes control planes that are not running yet; whatever runs in the end is ended."""
    servers: list[Server] = []

    def make(**api: object) -> Server:
        servers.append(Server(tmp_path, **api))
        return servers[-1]

    yield make
    for server in servers:
        server.close()


@pytest.fixture
def server(made: Made) -> Server:
    """A control plane of the test's own."""
    server = made()
    server.start()
    return server


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One control plane for tests that leave each other alone."""
    server = Server(tmp_path_factory.mktemp("control-plane"))
    try:
        server.start()
        yield server
    finally:
        server.close()
