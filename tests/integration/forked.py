"""A process that imports all of relayd, then becomes it as often as it is asked to: see programs.py."""

import ctypes
import gc
import importlib
import json
import os
import pkgutil
import runpy
import socket
import sys
from contextlib import suppress

import relayd

_CLONE_NEWNET = 0x4000_0000
_MOST_BYTES = 1 << 16
_SERVERS = ("uvicorn.lifespan.on", "uvicorn.loops.uvloop", "uvicorn.protocols.http.h11_impl", "uvloop")
"""What is imported by name when a server starts."""


def _import_all() -> None:
    for module in pkgutil.walk_packages(relayd.__path__, "relayd."):
        if not module.name.endswith("__main__") and ".migrations." not in module.name:
            importlib.import_module(module.name)
    for name in _SERVERS:
        importlib.import_module(name)


def _become_those_asked_for(channel: socket.socket) -> list[str] | None:
    """Forks for every request. Returns in each of them with what it is to run, and at the end with None."""
    while True:
        request, fds, _, _ = socket.recv_fds(channel, _MOST_BYTES, 3)
        if not request:
            return None
        pid = _fork_for_its_parent()
        if pid == 0:
            channel.close()
            arguments, variables = json.loads(request)
            os.environ.update(variables)
            *files, network = fds
            for number, fd in enumerate(files, 1):
                os.dup2(fd, number)
            _enter(network)
            for fd in fds:
                os.close(fd)
            return list(arguments)
        for fd in fds:
            os.close(fd)
        channel.send(str(pid).encode())


def _fork_for_its_parent() -> int:
    """A process whose parent is this one's parent, once that adopts it. Returns its id, and 0 in it."""
    reading, writing = os.pipe()
    between = os.fork()
    if between == 0:
        pid = os.fork()
        if pid:
            os.write(writing, str(pid).encode())
            os._exit(0)
        os.close(reading)
        os.close(writing)
        return 0
    os.waitpid(between, 0)
    pid = int(os.read(reading, 64))
    os.close(reading)
    os.close(writing)
    return pid


def _enter(network: int) -> None:
    """Moves into a network, unless it is this one."""
    if not os.path.samestat(os.fstat(network), os.stat("/proc/self/ns/net")):  # noqa: PTH116 - no path of a file
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.setns(network, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")


def main() -> None:
    channel_fd, network = map(int, sys.argv[1:])
    _enter(network)
    os.close(network)
    _import_all()
    gc.collect()
    gc.freeze()
    arguments = None
    # Ctrl-C ends the tests, and this with them.
    with suppress(KeyboardInterrupt):
        arguments = _become_those_asked_for(socket.socket(fileno=channel_fd))
    if arguments is not None:
        gc.unfreeze()
        sys.orig_argv[:] = arguments
        _, _, name, *options = arguments
        sys.argv[1:] = options
        runpy.run_module(name, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
