"""Table and engine in Python, beside the naive relay: the same verdict, and the same bytes to the same address."""

from collections import Counter

from fuzz.datagrams.mutate import Sent, sessions
from relayd.core.endpoint import Endpoint
from relayd.core.limits import Limits
from relayd.core.wire import Port
from tests.scenarios.rig import PORTS, RELAY
from tests.support.twins import Twins

_ENDPOINTS = [Endpoint(Port(number % 2), number) for number in range(4)]


class Core:
    """Both of them."""

    def begin(self, limits: dict[str, object]) -> None:
        """See `Engine.begin`."""
        self._twins = Twins(Limits.model_validate(limits))
        self._twins.set_own([*PORTS.values()], [*RELAY.values()])
        self._twins.apply(sessions())

    def revoke(self, users: tuple[int, ...]) -> None:
        """See `Engine.revoke`."""
        self._twins.apply(sessions(users))

    def wait(self, seconds: float) -> None:
        """See `Engine.wait`."""
        self._twins.now += seconds
        self._twins.expire_all()

    def deliver(self, batch: list[Sent]) -> Counter[str]:
        """See `Engine.deliver`."""
        outcomes: Counter[str] = Counter()
        for port, source, datagram in batch:
            endpoint = _ENDPOINTS[2 * (len(source) > 2) + port]
            outcomes[self._twins.deliver(endpoint, datagram, source).verdict.label] += 1
        self._twins.check()
        return outcomes
