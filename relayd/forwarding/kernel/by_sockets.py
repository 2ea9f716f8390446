"""Where users are bound that the sockets serve: what comes from there, the kernel program passes up without a bound."""

from collections import Counter

from relayd.core.session import Binding
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.libbpf import BpfError
from relayd.forwarding.kernel.maps import BpfMap

_PRESENT = (1).to_bytes(4, "little")


class ServedBySockets:
    """The bindings that the program does not serve itself.

    Args:
        places: the map; entries of a predecessor are removed.
    """

    def __init__(self, places: BpfMap) -> None:
        self._places = places
        self._at: dict[Binding, bytes] = {}
        self._bound: Counter[bytes] = Counter()
        """Several users may be bound at one place."""
        self._without: dict[bytes, None] = {}
        """Places that there was no room for."""
        places.delete_batch(b"".join(key for key, _ in places.items()))

    @property
    def complete(self) -> bool:
        """Whether the program knows all of them."""
        return not self._without

    def begin(self, binding: Binding) -> None:
        """Notes where a binding is; to be ended before it moves."""
        if binding in self._at:
            return
        place = self._at[binding] = layout.place_of(binding)
        self._bound[place] += 1
        if self._bound[place] == 1:
            self._add(place)

    def end(self, binding: Binding) -> None:
        """Forgets a binding; one that is not noted stays so."""
        place = self._at.pop(binding, None)
        if place is None:
            return
        self._bound[place] -= 1
        if self._bound[place]:
            return
        del self._bound[place]
        self._without.pop(place, None)
        self._places.delete(place)
        if self._without:
            self._add(self._without.popitem()[0])

    def _add(self, place: bytes) -> None:
        try:
            self._places.update(place, _PRESENT)
        except BpfError:
            self._without[place] = None
