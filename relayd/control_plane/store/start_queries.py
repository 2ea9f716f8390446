"""Starts of the control plane: whether what a relay has applied is of this store, or of one that it was put back from.

A revision alone does not tell: after a restored backup other changes get the numbers of those that are lost. So each
start has a name, which is part of the epoch that relays are told, and the store knows up to which revision each start
counted. What a relay has beyond that was told by a copy of this store that is no more.
"""

import secrets
from typing import NamedTuple

from sqlalchemy import Connection, bindparam, delete, func, insert, select

from relayd.control_plane.store import schema

STARTS_KEPT = 10_000

_starts, _store = schema.starts, schema.store
_NAME = select(_store.c.epoch)
_REVISION = select(_store.c.revision)
_NEWEST = select(_starts.c.name).where(_starts.c.number == select(func.max(_starts.c.number)).scalar_subquery())
_NUMBER = select(_starts.c.number).where(_starts.c.name == bindparam("name"))
_ENDED = select(_starts.c.began).where(_starts.c.number > bindparam("number")).order_by(_starts.c.number).limit(1)
_BEGIN = insert(_starts)
_FORGET = delete(_starts).where(_starts.c.number <= select(func.max(_starts.c.number) - STARTS_KEPT).scalar_subquery())


class Standing(NamedTuple):
    """How what a relay has applied stands to this store."""

    known: bool
    """Whether all of it is in this store, so that what changed since then is all that the relay lacks."""
    went_back: bool = False
    """Whether this store had it and lost it."""
    common: int = 0
    """The newest revision that is the same in both, as far as can be told."""


def begin(connection: Connection) -> None:
    """Notes a start: from now on `epoch` is another one."""
    began = connection.execute(_REVISION).scalar_one()
    connection.execute(_BEGIN, {"name": secrets.token_hex(4), "began": began})
    connection.execute(_FORGET)


def epoch(connection: Connection) -> str:
    """Names this store and its newest start."""
    name = str(connection.execute(_NAME).scalar_one())
    start = connection.execute(_NEWEST).scalar_one_or_none()
    return name if start is None else f"{name}.{start}"


def standing(connection: Connection, applied_epoch: str | None, revision: int, newest: int) -> Standing:
    """How a revision that a relay has applied stands to this store.

    Args:
        connection: to the store.
        applied_epoch: what `epoch` was when the relay was told it; None where it was told nothing.
        revision: what it has applied.
        newest: the newest change of that relay's sessions.
    """
    name, _, start = (applied_epoch or "").partition(".")
    if name != connection.execute(_NAME).scalar_one():
        return Standing(known=False)
    # Before the first start there was none to be named.
    number = connection.execute(_NUMBER, {"name": start}).scalar_one_or_none() if start else 0
    if number is None:
        return Standing(known=False, went_back=True)
    ended = connection.execute(_ENDED, {"number": number}).scalar_one_or_none()
    if revision > (newest if ended is None else ended):
        return Standing(known=False, went_back=True, common=ended or 0)
    return Standing(known=True)
