"""What relayd/http takes from the inside of uvicorn: a version that changed it fails here, and not in production.

pyproject.toml bounds uvicorn above. To take a newer one: raise the bound, `make lock`, and read what this test says.
"""

import asyncio
import inspect
import socket
from pathlib import Path

import h11
import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from relayd.http.protocol import PunctualProtocol
from relayd.http.server import HttpServer

OVERRIDDEN: dict[type, dict[str, str]] = {
    uvicorn.Server: {
        "startup": "(sockets)",
        "on_tick": "(counter)",
        "capture_signals": "()",
    },
    H11Protocol: {
        "__init__": "(config, server_state, app_state, _loop)",
        "connection_made": "(transport)",
        "connection_lost": "(exc)",
        "data_received": "(data)",
        "on_response_complete": "()",
        "pause_writing": "()",
        "resume_writing": "()",
        "shutdown": "()",
    },
}
"""Methods of uvicorn's that relayd/http puts its own in place of, each with its parameters."""

COROUTINES = {"startup", "on_tick"}


def uvicorns_own(subclass: type, base: type) -> set[str]:
    """Names that uvicorn gave the base class, and relayd its subclass."""
    return {name for name in vars(subclass) if name in vars(base) and (name == "__init__" or not name.startswith("__"))}


def parameters(method: object) -> str:
    assert callable(method)
    return f"({', '.join(name for name in inspect.signature(method).parameters if name != 'self')})"


@pytest.mark.parametrize(("base", "subclass"), [(uvicorn.Server, HttpServer), (H11Protocol, PunctualProtocol)])
def test_every_method_that_is_overridden_is_listed(base: type, subclass: type) -> None:
    listed = OVERRIDDEN[base].keys() | {"__init__"}
    assert uvicorns_own(subclass, base) | {"__init__"} == listed, (
        f"{subclass.__name__} overrides something of {base.__name__} that this test does not know: list it here"
    )


@pytest.mark.parametrize(("base", "name"), [(base, name) for base, names in OVERRIDDEN.items() for name in names])
def test_what_is_overridden_is_still_called_like_that(base: type, name: str) -> None:
    method = vars(base).get(name)
    said = f"uvicorn {uvicorn.__version__}: {base.__name__}.{name}"
    assert method is not None, f"{said} is gone; relayd/http overrides it, so nothing would call that any more"
    assert parameters(method) == OVERRIDDEN[base][name], f"{said} has other parameters than relayd/http gives it"
    if base is uvicorn.Server:
        assert inspect.iscoroutinefunction(method) == (name in COROUTINES), f"{said} is awaited, or not any more"


def test_a_connection_has_what_is_read_of_it() -> None:
    loop = asyncio.new_event_loop()
    try:
        state = ServerState()
        config = Config(FastAPI(), http="h11", ws="none", lifespan="off", log_config=None, loop="none")
        protocol = H11Protocol(config, state, {}, loop)
    finally:
        loop.close()
    said = f"uvicorn {uvicorn.__version__}: H11Protocol"
    assert protocol.loop is loop, f"{said}.loop is not the loop; timers of a connection are set on it"
    assert isinstance(protocol.conn, h11.Connection), f"{said}.conn is not h11's; its state says whose turn it is"
    assert protocol.connections is state.connections, f"{said}.connections are not the server's; they are counted"
    assert protocol.transport is None, f"{said}.transport is not set by connection_made any more"


def test_a_server_has_what_is_set_and_read_of_it() -> None:
    server = uvicorn.Server(Config(FastAPI(), lifespan="off", log_config=None))
    said = f"uvicorn {uvicorn.__version__}: Server"
    assert server.started is False, f"{said}.started is not what says that it listens"
    assert server.should_exit is False, f"{said}.should_exit is not what ends it"
    assert isinstance(server.server_state, ServerState), f"{said}.server_state does not hold its connections"
    source = "\n".join(inspect.getsource(method) for method in (uvicorn.Server._serve, uvicorn.Server.shutdown))
    for used in ("self.lifespan =", "self.startup(sockets=", "self.main_loop()", "self.shutdown(", "self.servers"):
        assert used in source, (
            f"{said}: `{used}` is gone from its way from start to end; HttpServer.startup relies on it"
        )
    assert "self.on_tick(" in inspect.getsource(uvicorn.Server.main_loop), f"{said}: nothing calls on_tick any more"
    assert "self.capture_signals()" in inspect.getsource(uvicorn.Server.serve), f"{said} takes signals another way"


def test_every_option_that_is_given_is_known() -> None:
    """A keyword that is gone raises here, as it would at the start of a relay."""
    with socket.socket() as listener:
        server = HttpServer(FastAPI(), listener, most_connections=10)
    assert server.config.timeout_keep_alive == 30
    assert server.config.timeout_graceful_shutdown == 5
    assert server.config.h11_max_incomplete_event_size == 16 << 10


def test_the_bound_is_the_version_that_was_looked_at() -> None:
    text = (Path(__file__).parents[3] / "pyproject.toml").read_text(encoding="utf-8")
    assert '"uvicorn>=' in text
    assert ",<" in text.partition('"uvicorn>=')[2].partition('"')[0], "uvicorn has to be bounded above"
