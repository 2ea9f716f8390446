"""A BPF map from Python: single entries, batches, and shared memory."""

import ctypes
import errno
import mmap
import struct
from collections.abc import Iterator
from ctypes import byref, c_uint32

from relayd.forwarding.kernel.libbpf import BpfError, checked, info, kind_of, library

_INFO = struct.Struct("<6I")
"""`struct bpf_map_info`: type, id, key_size, value_size, max_entries, map_flags."""
_BATCH = 8192
"""Entries read at once: the kernel wants room for the largest bucket of a hash."""


class BpfMap:
    """A map by its file descriptor. Keys and values are bytes of exactly the map's sizes.

    All methods raise BpfError for what the kernel refuses, such as an entry more than fits.
    """

    def __init__(self, name: str, fd: int) -> None:
        self.name = name
        self.fd = fd
        # What is pinned under the name of a map may be something else: then it is of no kind.
        head = info(fd, _INFO.size) if kind_of(fd) == "bpf-map" else bytes(_INFO.size)
        self.kind, _, self.key_bytes, self.value_bytes, self.max_entries, self.flags = _INFO.unpack(head)
        self._library = library()

    def update(self, key: bytes, value: bytes) -> None:
        """Sets an entry."""
        result = self._library.bpf_map_update_elem(self.fd, key, value, 0)
        if result:
            checked(result, f"map {self.name}: set an entry")

    def put(self, index: int, value: bytes) -> None:
        """Sets an entry of a map with integer keys."""
        self.update(index.to_bytes(4, "little"), value)

    def lookup(self, key: bytes, copies: int = 1) -> bytes | None:
        """An entry, or None.

        Args:
            key: its key.
            copies: how many values there are: one per processor in per-CPU maps, each padded to 8 bytes.
        """
        size = self.value_bytes if copies == 1 else -(-self.value_bytes // 8) * 8 * copies
        value = ctypes.create_string_buffer(size)
        result = self._library.bpf_map_lookup_elem(self.fd, key, value)
        if result == -errno.ENOENT:
            return None
        checked(result, f"map {self.name}: look an entry up")
        return value.raw

    def delete(self, key: bytes) -> bool:
        """Removes an entry; False when there was none."""
        result = self._library.bpf_map_delete_elem(self.fd, key)
        if result == -errno.ENOENT:
            return False
        checked(result, f"map {self.name}: remove an entry")
        return True

    def update_batch(self, keys: bytes, values: bytes) -> None:
        """Sets many entries with one call."""
        count = c_uint32(len(keys) // self.key_bytes)
        if count.value:
            result = self._library.bpf_map_update_batch(self.fd, keys, values, byref(count), None)
            checked(result, f"map {self.name}: set entries")

    def delete_batch(self, keys: bytes) -> None:
        """Removes many entries with one call, those that are not there excepted."""
        while keys:
            count = c_uint32(len(keys) // self.key_bytes)
            result = self._library.bpf_map_delete_batch(self.fd, keys, byref(count), None)
            if result != -errno.ENOENT:
                checked(result, f"map {self.name}: remove entries")
                return
            keys = keys[(count.value + 1) * self.key_bytes :]

    def items(self) -> Iterator[tuple[bytes, bytes]]:
        """All entries; those added or removed meanwhile may be among them or not."""
        keys = ctypes.create_string_buffer(_BATCH * self.key_bytes)
        values = ctypes.create_string_buffer(_BATCH * self.value_bytes)
        position = ctypes.create_string_buffer(max(self.key_bytes, 8))
        first = True
        while True:
            count = c_uint32(_BATCH)
            result = self._library.bpf_map_lookup_batch(
                self.fd, None if first else position, position, keys, values, byref(count), None
            )
            first = False
            if result not in (0, -errno.ENOENT):
                raise BpfError(result, f"map {self.name}: read all entries")
            found_keys, found_values = keys.raw, values.raw
            for index in range(count.value):
                yield (
                    found_keys[index * self.key_bytes : (index + 1) * self.key_bytes],
                    found_values[index * self.value_bytes : (index + 1) * self.value_bytes],
                )
            if result:
                return

    def share(self) -> mmap.mmap:
        """The memory of an array made with BPF_F_MMAPABLE, entry after entry."""
        size = self.max_entries * (-(-self.value_bytes // 8) * 8)
        return mmap.mmap(self.fd, size, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)
