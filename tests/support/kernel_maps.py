"""The maps of the kernel program in memory, as relayd/core/declaration declares them: nothing of it is in a kernel."""

import errno
import mmap
from collections.abc import Iterator

from relayd.core.declaration.kernel_maps import MAPS
from relayd.core.declaration.terms import Map, MapFlag, MapKind, Room
from relayd.forwarding.kernel.libbpf import BpfError
from relayd.forwarding.kernel.program import Sizes

PROCESSORS = 2
_ARRAYS = (MapKind.ARRAY, MapKind.PERCPU_ARRAY)


class FakeMap:
    """See `BpfMap`. A hash takes no more entries than it has room for; an array has all of its entries from the start.

    Args:
        declared: what it is.
        max_entries: how many entries it has room for.
    """

    def __init__(self, declared: Map, max_entries: int) -> None:
        self.name = declared.name
        self.fd = -1
        self.kind = declared.kind
        self.flags = declared.flags
        self.key_bytes, self.value_bytes = declared.key.size_bytes, declared.value.size_bytes
        self.max_entries = max_entries
        self.failure: int | None = None
        """errno of each update from now on."""
        self.entries: dict[bytes, bytes] = {}
        self._shared: mmap.mmap | None = None

    def update(self, key: bytes, value: bytes) -> None:
        copies = PROCESSORS if self.kind is MapKind.PERCPU_ARRAY and len(value) > self.value_bytes else 1
        assert (len(key), len(value)) == (self.key_bytes, self.value_bytes * copies)
        if self.failure is not None:
            raise BpfError(self.failure, self.name)
        if self.kind in _ARRAYS:
            if int.from_bytes(key, "little") >= self.max_entries:
                raise BpfError(errno.E2BIG, self.name)
        elif key not in self.entries and len(self.entries) >= self.max_entries:
            raise BpfError(errno.E2BIG, self.name)
        self.entries[bytes(key)] = bytes(value)

    def put(self, index: int, value: bytes) -> None:
        self.update(index.to_bytes(4, "little"), value)

    def lookup(self, key: bytes, copies: int = 1) -> bytes | None:
        value = self.entries.get(bytes(key))
        if value is None and self.kind in _ARRAYS:
            value = bytes(self.value_bytes)
        return value if value is None or copies == 1 else value.ljust(self.value_bytes * copies, b"\0")

    def delete(self, key: bytes) -> bool:
        return self.entries.pop(bytes(key), None) is not None

    def update_batch(self, keys: bytes, values: bytes) -> None:
        for number in range(len(keys) // self.key_bytes):
            key = keys[number * self.key_bytes : (number + 1) * self.key_bytes]
            self.update(key, values[number * self.value_bytes : (number + 1) * self.value_bytes])

    def delete_batch(self, keys: bytes) -> None:
        for at in range(0, len(keys), self.key_bytes):
            self.delete(keys[at : at + self.key_bytes])

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        yield from list(self.entries.items())

    def share(self) -> mmap.mmap:
        """The same memory each time, as of a map."""
        assert MapFlag.MMAPABLE in self.flags
        if self._shared is None:
            self._shared = mmap.mmap(-1, self.max_entries * (-(-self.value_bytes // 8) * 8))
        return self._shared


class FakeProgram:
    """See `KernelProgram`."""

    def __init__(self, sizes: Sizes) -> None:
        rooms = {Room.AUTHORIZED: sizes.authorized, Room.SLOTS: sizes.bound + 1}
        self.fd = -1
        self.maps = {
            one.name: FakeMap(one, one.most_entries(rooms[one.entries] if isinstance(one.entries, Room) else 0))
            for one in MAPS
        }
        self.closed = False

    def map(self, name: str) -> FakeMap:
        return self.maps[name]

    def close(self) -> None:
        self.closed = True
