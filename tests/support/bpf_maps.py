"""The maps of the kernel program, played in memory: what user space writes can be looked at without a kernel."""

import errno
from collections.abc import Iterator

from relayd.core.declaration.kernel_maps import MAPS
from relayd.core.declaration.terms import Map, MapKind
from relayd.forwarding.kernel.libbpf import BpfError
from relayd.forwarding.kernel.program import Sizes


class PlayedMap:
    """One map; a hash takes no more than it has room for, and an array has all of its entries from the beginning."""

    def __init__(self, declared: Map, entries: int) -> None:
        self.name = declared.name
        self.max_entries = entries
        self.key_bytes = declared.key.size_bytes
        self.value_bytes = declared.value.size_bytes
        self.is_array = declared.kind in (MapKind.ARRAY, MapKind.PERCPU_ARRAY)
        self.entries: dict[bytes, bytes] = {}
        self._memory = bytearray(entries * self.value_bytes) if self.is_array else bytearray()

    def update(self, key: bytes, value: bytes) -> None:
        assert (len(key), len(value)) == (self.key_bytes, self.value_bytes)
        if self.is_array:
            at = self._at(key)
            if at is None:
                raise BpfError(errno.E2BIG, f"map {self.name}: set an entry")
            self._memory[at : at + self.value_bytes] = value
        elif key not in self.entries and len(self.entries) >= self.max_entries:
            raise BpfError(errno.E2BIG, f"map {self.name}: set an entry")
        else:
            self.entries[key] = value

    def put(self, index: int, value: bytes) -> None:
        self.update(index.to_bytes(4, "little"), value)

    def lookup(self, key: bytes) -> bytes | None:
        assert len(key) == self.key_bytes
        if not self.is_array:
            return self.entries.get(key)
        at = self._at(key)
        return None if at is None else bytes(self._memory[at : at + self.value_bytes])

    def delete(self, key: bytes) -> bool:
        assert not self.is_array
        return self.entries.pop(key, None) is not None

    def update_batch(self, keys: bytes, values: bytes) -> None:
        for number in range(len(keys) // self.key_bytes):
            key = keys[number * self.key_bytes : (number + 1) * self.key_bytes]
            self.update(key, values[number * self.value_bytes : (number + 1) * self.value_bytes])

    def delete_batch(self, keys: bytes) -> None:
        for start in range(0, len(keys), self.key_bytes):
            self.delete(keys[start : start + self.key_bytes])

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        if self.is_array:
            keys = (index.to_bytes(4, "little") for index in range(self.max_entries))
            yield from ((key, self.lookup(key) or b"") for key in keys)
        else:
            yield from list(self.entries.items())

    def share(self) -> bytearray:
        assert self.is_array
        return self._memory

    def _at(self, key: bytes) -> int | None:
        index = int.from_bytes(key, "little")
        return index * self.value_bytes if index < self.max_entries else None


class PlayedProgram:
    """A program that never runs, with all of its maps."""

    def __init__(self, authorized: int = 100, bound: int = 20) -> None:
        sizes = Sizes(authorized, bound)
        self.maps = {declared.name: PlayedMap(declared, sizes.entries(declared)) for declared in MAPS}

    def map(self, name: str) -> PlayedMap:
        return self.maps[name]
