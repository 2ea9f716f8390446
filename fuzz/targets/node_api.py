"""What a control plane answers a relay, or what stands between the two: any statuses, headers and bodies.

Each answer is two bytes for its status and header, and then its body up to the next 0x00. Whatever they are, the relay
either changes its table to what is valid, or says in one sentence why it does not.
"""

import asyncio
import math
from collections import Counter

import httpx
from structlog.testing import capture_logs

from fuzz.figures import Done
from fuzz.reader import Reader
from fuzz.resources import loop
from relayd.core.desired import Change, InvalidSessionsError, Snapshot
from relayd.core.limits import Limits
from relayd.core.source_status import Load
from relayd.core.table import Table
from relayd.session_source.control_plane.link import LinkError, Report, Version
from relayd.session_source.control_plane.negotiate import NegotiatedLink
from relayd.session_source.control_plane.node_api import NodeApi
from relayd.session_source.control_plane.public_list import PublicList
from relayd.session_source.control_plane.requests import HttpClient
from relayd.settings import RelaySettings

UNIT = "answers"

_MOST_ANSWERS = 30
_STATUSES = (200, 200, 200, 200, 304, 404, 405, 401, 503, 204, 302)
_HEADERS: tuple[dict[str, str], ...] = (
    {},
    {"etag": 'W/"1"'},
    {"retry-after": "7"},
    {"retry-after": "nan"},
    {"retry-after": "Fri, 31 Dec 1999 23:59:59 GMT"},
    {"content-encoding": "gzip"},
    {"content-type": "text/html; charset=utf-7"},
)
_URL = "http://192.0.2.9"
_CLIENTS = [HttpClient(_URL, lambda: "key", 5.0) for _ in range(2)]
_SETTINGS = RelaySettings(id="fuzzed", public_ip="192.0.2.1", server_port=7000, client_port=7001)


class _Answers:
    """A control plane that says what stands in the input."""

    def __init__(self, read: Reader) -> None:
        self._read = read
        self.count = 0

    @property
    def left(self) -> bool:
        """Whether it has anything more to say."""
        return self._read.left and self.count < _MOST_ANSWERS

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.count += 1
        if not self.left:
            raise httpx.ConnectError("nobody there", request=request)
        status, headers = self._read.pick(_STATUSES), self._read.pick(_HEADERS)
        return httpx.Response(status, headers=headers, content=self._read.until(0))


def check(data: bytes) -> Done:
    """Raises if an answer makes anything go wrong but that it is not followed."""
    with capture_logs():
        return loop().run(_follow(_Answers(Reader(data))))


async def _follow(answers: _Answers) -> Done:
    for client in _CLIENTS:
        client._client = httpx.AsyncClient(base_url=_URL, transport=httpx.MockTransport(answers), trust_env=False)
    link = NegotiatedLink(
        NodeApi(_CLIENTS[0], _SETTINGS, Limits()), PublicList(_CLIENTS[1], _SETTINGS), asyncio.get_running_loop().time
    )
    table = Table(Limits(), lambda: 1)
    applied: Version | None = None
    outcomes: Counter[str] = Counter()
    checks = 0
    while answers.left:
        before = answers.count
        try:
            news = await link.heartbeat(Report(applied, Load(0, False), ()), 0.0)
            for _ in table.leave_relays(news.fleet.sockets if news is not None and news.fleet is not None else (), 1.0):
                """At once."""
            same = news is not None and applied is not None and news.version.epoch == applied.epoch
            applied = await _read(link, applied if same else None, table)
            outcome = "followed"
        except (LinkError, InvalidSessionsError) as error:
            applied, outcome = None, "refused"
            _one_sentence(error)
        outcomes[outcome] += answers.count - before
        _holds_together(table)
        checks += 1
    await link.close()
    return Done(outcomes, checks)


async def _read(link: NegotiatedLink, applied: Version | None, table: Table) -> Version | None:
    whole: Snapshot | None = None
    version: Version | None = None
    async for part in link.read(applied):
        version = part.version
        if part.full:
            whole = whole or Snapshot()
            for spec in part.upserts:
                whole.add(spec)
        else:
            table.change(Change(part.upserts, part.removals), 1.0)
    if whole is not None:
        table.apply(whole, 1.0)
    return version


def _one_sentence(error: Exception) -> None:
    assert str(error)
    assert "\n" not in str(error)
    if isinstance(error, LinkError) and error.retry_after_seconds is not None:
        assert math.isfinite(error.retry_after_seconds)
        assert 0 <= error.retry_after_seconds <= 300


def _holds_together(table: Table) -> None:
    assert {session.token for session in table.sessions.values()} == set(table.by_token)
    assert len(table.by_token) == len(table.sessions)
    for token, session in table.by_token.items():
        assert 0 < token < 1 << 32
        assert all(0 < user < 1 << 32 for user in session.users)
