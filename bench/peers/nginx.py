"""nginx as a UDP proxy (ngx_stream_proxy_module): one port for each host, one upstream socket for each player."""

import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.cpu import with_children
from bench.load.generator import Generator
from bench.network import Network
from bench.peers.proxied import ProxyDoor, listens
from bench.peers.subject import Running
from bench.ports import free_ports
from bench.processes import on_core, wait_for

_PROGRAM = "/usr/sbin/nginx"
_MODULE = "/usr/lib/nginx/modules/ngx_stream_module.so"

# As fast as nginx does it: one worker for the one core, no logs, no limit of answers, receive buffers as relayd's.
CONFIGURATION = """\
load_module {module};
user root;
daemon off;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/nginx-error.log crit;
events {{
    worker_connections 4096;
}}
stream {{
    access_log off;
    proxy_timeout 1h;
{servers}
}}
"""
_SERVER = "    server {{ listen {listen}:{port} udp rcvbuf=4m sndbuf=2m; proxy_pass {host}:{host_port}; }}"


def missing() -> str | None:
    """What would have to be installed."""
    there = shutil.which(_PROGRAM) and Path(_MODULE).exists()
    return None if there else "needs nginx with its stream module (Debian: nginx, libnginx-mod-stream)"


@contextmanager
def start(generator: Generator, network: Network, folder: Path, core: int) -> Iterator[Running]:
    """Starts it."""
    ports = free_ports(len(generator.host_addresses), socket.SOCK_DGRAM)
    servers = "\n".join(
        _SERVER.format(listen=network.relay_address, port=port, host=host, host_port=host_port)
        for port, (host, host_port) in zip(ports, generator.host_addresses, strict=True)
    )
    config = folder / "nginx.conf"
    config.write_text(CONFIGURATION.format(module=_MODULE, folder=folder, servers=servers), encoding="utf-8")
    with on_core(core):
        process = subprocess.Popen([_PROGRAM, "-c", str(config), "-p", str(folder), "-e", str(folder / "start.log")])
    try:
        wait_for(lambda: listens(ports[-1]), "nginx listens")
        wait_for(lambda: len(with_children(process.pid)) > 1, "nginx has its worker")
        yield Running(ProxyDoor([(network.relay_address, port) for port in ports]), with_children(process.pid))
    finally:
        process.terminate()
        process.wait()
