"""One Prometheus for all tests of this folder, and the relays that it scrapes."""

from collections.abc import Iterator
from contextlib import ExitStack, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.deploy.load import Load
from tests.deploy.prometheus import Prometheus
from tests.integration.config import Sections, SessionKeys, new_session
from tests.integration.fast_path import own_network
from tests.integration.namespaces import may_make_networks, missing_program
from tests.integration.relay_process import RelayProcess

SESSIONS = 10_000
PLAYING = 1000
PER_TICK = 20

_PORT = 19464
"""Every relay has an address of its own, so that Prometheus can know them all before they are there."""
_NAMES = (
    "loaded",
    "source",
    "addressed",
    "flooded",
    "limited",
    "guessed",
    "stalled",
    "cabled",
    "kernel",
    "losing",
    "untaken",
    "refused",
    "unkept",
    "empty",
    "restarting",
    "one",
    "other",
)


class Watched(NamedTuple):
    """A Prometheus, and where it looks for relays."""

    prometheus: Prometheus
    folder: Path
    own_network: bool

    def instance(self, name: str) -> str:
        """The admin address of the relay of that name."""
        return f"127.64.0.{1 + _NAMES.index(name)}:{_PORT}"

    def selector(self, name: str) -> str:
        """What selects its alerts."""
        return f'instance="{self.instance(name)}"'

    def relay(
        self,
        name: str,
        sessions: list[SessionKeys] | None,
        overrides: Sections | None = None,
        kind: type[RelayProcess] = RelayProcess,
        **more: Any,
    ) -> RelayProcess:
        """A relay that Prometheus scrapes; not started yet."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        settings: Sections = {**(overrides or {}), "admin": {"bind": self.instance(name)}}
        return kind(folder, sessions, settings, **more)

    def until_firing(self, name: str, *alerts: str) -> None:
        """Waits until these alerts have fired for the relay of that name."""
        self.prometheus.until_firing(alerts, self.selector(name))


class Loaded(NamedTuple):
    """A relay at work."""

    relay: RelayProcess
    load: Load


@pytest.fixture(scope="package")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("watched")
    may = may_make_networks() and missing_program() is None
    with own_network() if may else nullcontext(), ExitStack() as stack:
        own = folder / "prometheus"
        own.mkdir()
        instances = [f"127.64.0.{1 + number}:{_PORT}" for number in range(len(_NAMES))]
        prometheus = stack.enter_context(Prometheus(own, instances))
        yield Watched(prometheus, folder, may)


@pytest.fixture(scope="module")
def loaded(watched: Watched) -> Iterator[Loaded]:
    """A relay with as many sessions as are promised, a host and a player bound in each, and games in some."""
    sessions = [new_session(f"session-{number}", players=1) for number in range(SESSIONS)]
    relay = watched.relay("loaded", sessions)
    # To look for 20,000 tokens in everything that it said would take longer than all the rest.
    relay._secrets = {user for session in sessions[:20] for user in session.users}
    with relay, Load(relay, sessions, PLAYING, PER_TICK) as load:
        watched.prometheus.until_scraping()
        yield Loaded(relay, load)
