"""The simulator of faults: a short run of it, that a seed repeats it, and that it notices what is wrong."""

import inspect
import math
import sys
import textwrap
from collections.abc import Callable

import pytest

from fuzz.faults.world import World
from relayd.core.endpoint import Address, Endpoint
from relayd.core.engine import Engine
from relayd.core.guesses import Guesses
from relayd.core.session import Binding, User
from relayd.core.shrink_guard import ShrinkGuard
from relayd.core.table import Table
from relayd.core.verdict import Verdict
from relayd.state.records import Records

HOURS = 10.0
"""As long as a world of ``python -m fuzz.faults``."""


@pytest.mark.parametrize("seed", range(1, 5))
def test_nothing_breaks(seed: int) -> None:
    figures = World(seed).run(HOURS)
    assert figures.verdicts[Verdict.FORWARDED] > 1000
    assert figures.faults["relay restarts"] > 0


def test_a_seed_is_the_same_world_every_time() -> None:
    assert World(7).run(2.0) == World(7).run(2.0)


def every_world(hours: float) -> None:
    for seed in range(1, 6):
        World(seed).run(hours)


def late(table: Table, now: float, budget: int) -> bool:
    return expire(table, now - 5.0, budget)


expire = Table.expire


def as_if_it_were_new(
    table: Table, user: User, endpoint: Endpoint, address: Address, *, connection_id: int, now: float, **_: object
) -> Binding:
    if connection_id:
        table._renew_connection_id(user)
    return table._bind(user, endpoint, address, now, None, undecided=False)


@pytest.mark.parametrize(
    ("owner", "name", "instead"),
    [
        (Table, "expire", late),
        (Table, "next_deadline", lambda table: None),
        (Table, "_renew_connection_id", lambda table, user: user.set_connection_id(7)),
        (Table, "_renew_connection_id", lambda table, user: user.set_connection_id(table._new_connection_id())),
        (Table, "restore", as_if_it_were_new),
        (Records, "_write_counts", lambda records, slot, traffic: None),
        (Table, "replace_host", lambda table, host, now: None),
        (Engine, "unsent", lambda *_: None),
        (Engine, "_silence", lambda engine, binding, now: math.inf),
        (Table, "_revoke", lambda table, user, now: None),
        (Records, "account", lambda records, user: None),
        (Records, "begin", lambda records, binding: 0),
        (ShrinkGuard, "seconds_left", lambda guard, present, missing, now: 1.0),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_defect_is_noticed(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, instead: Callable[..., object]
) -> None:
    monkeypatch.setattr(owner, name, instead)
    with pytest.raises((AssertionError, KeyError)):
        every_world(HOURS)


def altered(function: Callable[..., object], line: str, instead: str) -> Callable[..., object]:
    """The same function with another line in it."""
    source = textwrap.dedent(inspect.getsource(function))
    assert source.count(line) == 1, f"{function.__qualname__} has no line with {line!r} any more"
    made: dict[str, Callable[..., object]] = {}
    exec(source.replace(line, instead), vars(sys.modules[function.__module__]), made)
    return made[function.__name__]


@pytest.mark.parametrize(
    ("owner", "name", "line", "instead"),
    [
        (Engine, "_decide", "(binding.meter, session.meter)", "(session.meter, binding.meter)"),
        (Engine, "_takes", "return not silent or", "return True or"),
        (Guesses, "note", "if self._tried.hears_again(guess, now):", "if False:"),
        (Guesses, "note", "session.guesses_due = _later(", "_later("),
        (Guesses, "note", "self._sources[source] = _later(source_due", "_later(source_due"),
        (Guesses, "holds_back", "or ip_address in user.familiar", ""),
        (Guesses, "holds_back", "user.persistence.persists(port, source, strangers, now)", "False"),
        (Binding, "probation_at", "self.probation is not None and now < self.probation.until", "True"),
        (Table, "move", "moved(binding.probation_at(now), former, now)", "None"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_defect_in_a_line_is_noticed(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str, line: str, instead: str
) -> None:
    monkeypatch.setattr(owner, name, altered(getattr(owner, name), line, instead))
    with pytest.raises(AssertionError):
        every_world(HOURS)
