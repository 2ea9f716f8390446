"""Linux capabilities of this process."""

import ctypes

_VERSION_3 = 0x2008_0522
"""capset(2): _LINUX_CAPABILITY_VERSION_3, capabilities in two words of 32."""


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Word(ctypes.Structure):
    _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))


def use_permitted() -> None:
    """Makes effective what this thread is permitted; to be called before others are started.

    A container image gives its program file capabilities without the effective bit: with it, execve(2) would refuse to
    start the program in a container that was not granted all of them. Capabilities that are permitted alone do nothing
    until the program takes them into use (capabilities(7)).
    """
    libc = ctypes.CDLL(None)
    header, words = _Header(_VERSION_3, 0), (_Word * 2)()
    if libc.capget(ctypes.byref(header), words) != 0:
        return
    for word in words:
        word.effective = word.permitted
    # Refused by nobody but a sandbox, and then the fast path says what it lacks.
    libc.capset(ctypes.byref(header), words)
