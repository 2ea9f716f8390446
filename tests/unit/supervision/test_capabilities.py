"""Capabilities that are permitted become effective."""

import subprocess
import sys

_CHILD = """
import ctypes
from relayd.supervision.capabilities import use_permitted

def capabilities():
    lines = dict(line.split(":\\t") for line in open("/proc/self/status") if line.startswith("Cap"))
    return int(lines["CapEff"], 16), int(lines["CapPrm"], 16)

words = (ctypes.c_uint32 * 6)()
header = (ctypes.c_uint32 * 2)(0x20080522, 0)
libc = ctypes.CDLL(None)
assert libc.capget(header, words) == 0
words[0] = words[3] = 0
assert libc.capset(header, words) == 0
before, permitted = capabilities()
assert before == 0
use_permitted()
assert capabilities() == (permitted, permitted)
"""


def test_what_is_permitted_is_used() -> None:
    """In a process that gave up all it had; where it had none, there is none."""
    subprocess.run([sys.executable, "-c", _CHILD], check=True)
