"""A machine with a real systemd, booted by systemd-nspawn: this host's /usr, read-only, and what a test installs.

It shares the network of the thread that starts it, so that the test's own sockets are on it as well.
"""

import os
import shutil
import signal
import socket
import subprocess
from contextlib import ExitStack
from pathlib import Path
from threading import get_native_id
from types import TracebackType
from typing import Self
from uuid import uuid4

from tests.integration.namespaces import may_make_networks
from tests.integration.waiting import PATIENCE_SECONDS, eventually

_ETC = {
    "os-release": "ID=test\n",
    "machine-id": "",
    "passwd": "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n",
    "group": "root:x:0:\nnogroup:x:65534:\n",
    # libnss-systemd is not everywhere, and the units are to do without.
    "nsswitch.conf": "passwd: files\ngroup: files\n",
}

Done = subprocess.CompletedProcess[str]


def why_not() -> str | None:
    """What is missing to boot one."""
    for program, package in (("systemd-nspawn", "systemd-container"), ("nsenter", "util-linux"), ("make", "make")):
        if shutil.which(program) is None:
            return f"needs the program {program} (Debian: {package})"
    return None if os.geteuid() == 0 and may_make_networks() else "needs root, and the right to make namespaces"


class BootError(Exception):
    """The machine does not come up here."""


class Machine:
    """A machine. As a context manager it boots, and is shut down.

    Args:
        folder: to keep it in.
        installed: what `make install-system` put under DESTDIR.
        bpf: a BPF file system, to be /sys/fs/bpf.
    """

    def __init__(self, folder: Path, installed: Path, bpf: Path) -> None:
        self.root = folder / "root"
        self._installed = installed
        self.name = f"relayd-{uuid4().hex[:12]}"
        self._bpf = bpf
        self._leader = 0
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self._furnish()
            cgroups = stack.enter_context(_Cgroups(self.name))
            told = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
            notify = self.root.parent / "notify"
            told.bind(str(notify))
            log = stack.enter_context((self.root.parent / "nspawn.log").open("w+"))
            process = subprocess.Popen(
                cgroups.inside(self._command()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, "NOTIFY_SOCKET": str(notify), "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"},
            )
            stack.callback(self._end, process)
            told.settimeout(0.1)
            eventually(lambda: self._is_up(process, told), "the machine has booted")
            # systemd-nspawn passes every STATUS= of the systemd inside on to this socket. Once its queue were full
            # (net.unix.max_dgram_qlen), first the one and then the other would wait for a reader for ever.
            told.close()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._stack.close()

    def run(self, *command: str, check: bool = True) -> Done:
        """Runs a program inside, as root."""
        done = subprocess.run(
            ["nsenter", f"--target={self._leader}", "--all", "--", *command],
            capture_output=True,
            text=True,
            timeout=PATIENCE_SECONDS,
            check=False,
        )
        assert not check or done.returncode == 0, done
        return done

    def systemctl(self, *arguments: str, check: bool = True) -> Done:
        return self.run("systemctl", "--no-pager", *arguments, check=check)

    def property(self, unit: str, name: str) -> str:
        """One of a unit's properties, as `systemctl show` gives it."""
        return self.systemctl("show", f"--property={name}", "--value", unit).stdout.strip()

    def drop_in(self, unit: str, text: str) -> Path:
        """Changes a unit until the file is removed with `remove`."""
        path = self.root / "etc/systemd/system" / f"{unit}.service.d" / "test.conf"
        path.parent.mkdir(parents=True)
        path.write_text(text, encoding="utf-8")
        self.systemctl("daemon-reload")
        return path

    def remove(self, drop_in: Path) -> None:
        drop_in.unlink()
        drop_in.parent.rmdir()
        self.systemctl("daemon-reload")

    def log_of(self, unit: str) -> str:
        return self.run("journalctl", "--no-pager", f"--unit={unit}", "--output=cat").stdout

    def _furnish(self) -> None:
        for folder in ("usr", "opt", "root", "tmp", "var"):
            (self.root / folder).mkdir(parents=True)
        shutil.copytree(self._installed / "etc", self.root / "etc")
        for name in ("bin", "sbin", "lib", "lib64"):
            if Path("/usr", name).exists():
                (self.root / name).symlink_to(f"usr/{name}")
        for name, text in _ETC.items():
            (self.root / "etc" / name).write_text(text, encoding="utf-8")

    def _command(self) -> list[str]:
        return [
            "systemd-nspawn",
            f"--directory={self.root}",
            "--bind-ro=/usr",
            *(f"--bind-ro={self._installed}{folder}:{folder}" for folder in ("/usr/local", "/opt")),
            f"--bind={self._bpf}:/sys/fs/bpf",
            f"--machine={self.name}",
            f"--network-namespace-path=/proc/{os.getpid()}/task/{get_native_id()}/ns/net",
            # The fast path loads programs: what the units leave to relayd has to be there to begin with.
            "--capability=all",
            "--system-call-filter=bpf",
            "--register=no",
            "--keep-unit",
            "--notify-ready=yes",
            "--link-journal=no",
            "--resolv-conf=off",
            "--timezone=off",
            "--console=pipe",
            "--boot",
            "systemd.unit=basic.target",
        ]

    def _is_up(self, process: subprocess.Popen[bytes], told: socket.socket) -> bool:
        if process.poll() is not None:
            raise BootError((self.root.parent / "nspawn.log").read_text(encoding="utf-8", errors="replace"))
        try:
            lines = told.recv(4096).decode().splitlines()
        except TimeoutError:
            return False
        for line in lines:
            if line.startswith("X_NSPAWN_LEADER_PID="):
                self._leader = int(line.partition("=")[2])
        return "READY=1" in lines

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        # systemd-nspawn(1): shuts the machine down in good order.
        process.terminate()
        try:
            process.wait(PATIENCE_SECONDS)
        except subprocess.TimeoutExpired:
            # All of a PID namespace ends with its first process.
            if self._leader:
                os.kill(self._leader, signal.SIGKILL)
            process.kill()
            process.wait()


class _Cgroups:
    """Control groups of the machine's own, in each hierarchy that systemd uses, which go with it."""

    def __init__(self, name: str) -> None:
        self._folders = [folder / name for folder in _own_cgroups()]

    def __enter__(self) -> Self:
        for folder in self._folders:
            folder.mkdir()
        return self

    def inside(self, command: list[str]) -> list[str]:
        """The command, such that it runs in them."""
        enter = "".join(f"echo $$ >{folder}/cgroup.procs && " for folder in self._folders)
        return ["sh", "-c", enter + 'exec "$@"', "sh", *command]

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for top in self._folders:
            for folder, _, _ in os.walk(top, topdown=False):
                eventually(lambda folder=folder: _remove(Path(folder)), f"{folder} is empty")  # type: ignore[misc]


def _own_cgroups() -> list[Path]:
    """Where this process is in the unified hierarchy and in systemd's own, by cgroups(7)."""
    found = []
    own = dict(line.split(":", 2)[1:] for line in Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines())
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8").splitlines():
        before, _, after = line.partition(" - ")
        kind, _, options = after.split(" ", 2)
        name = "" if kind == "cgroup2" else "name=systemd"
        if kind == "cgroup2" or (kind == "cgroup" and name in options.split(",")):
            found.append(Path(before.split()[4]) / own[name].lstrip("/"))
    return found


def _remove(folder: Path) -> bool:
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
