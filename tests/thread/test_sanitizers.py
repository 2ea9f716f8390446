"""The C files under the address, undefined behaviour and thread sanitizers, driven by the small programs in c/."""

import random
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from tests.integration.programs import REPOSITORY
from tests.integration.waiting import PATIENCE_SECONDS

HERE = Path(__file__).parent / "c"
NATIVE = REPOSITORY / "relayd/forwarding/thread"
COMPILER = "gcc"
SOURCES = {
    "flows_exercise": ("flows.c",),
    "forwarder_exercise": ("flows.c", "sending.c", "forwarder.c"),
}
OPTIONS = ("-std=gnu11", "-Wall", "-Wextra", "-Werror", "-O1", "-g", "-pthread", "-fno-sanitize-recover=all")
LIBRARIES = {"address,undefined": ("libasan.so", "libubsan.so"), "thread": ("libtsan.so",)}

_WITHOUT_RANDOM_ADDRESSES = """
import ctypes, os, sys
ADDR_NO_RANDOMIZE = 0x0040000
ctypes.CDLL(None).personality(ADDR_NO_RANDOMIZE)
os.execv(sys.argv[1], sys.argv[1:])
"""
"""GCC's thread sanitizer before version 14 does not know all places where a kernel may put things."""


@cache
def missing(sanitizer: str) -> str | None:
    if shutil.which(COMPILER) is None:
        return "needs gcc"
    for library in LIBRARIES[sanitizer]:
        where = subprocess.run([COMPILER, f"-print-file-name={library}"], capture_output=True, text=True, check=True)
        if not Path(where.stdout.strip()).is_absolute():
            return f"needs {library}, which comes with gcc on Debian"
    return None


@pytest.mark.parametrize(
    ("program", "sanitizer", "steps"),
    [
        ("flows_exercise", "address,undefined", 60_000),
        ("forwarder_exercise", "address,undefined", 500),
        ("forwarder_exercise", "thread", 500),
    ],
)
def test_exercise(program: str, sanitizer: str, steps: int, tmp_path: Path) -> None:
    if reason := missing(sanitizer):
        pytest.skip(reason)
    binary = tmp_path / program
    sources = [HERE / f"{program}.c", *(NATIVE / name for name in SOURCES[program])]
    _run(COMPILER, *OPTIONS, f"-fsanitize={sanitizer}", f"-I{NATIVE}", *map(str, sources), "-o", str(binary))
    seed = random.randrange(1 << 30)
    # An odd seed merges what it sends, an even one does not.
    for number in (seed, seed + 1):
        _run(sys.executable, "-c", _WITHOUT_RANDOM_ADDRESSES, str(binary), str(number), str(steps))


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=5 * PATIENCE_SECONDS, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
