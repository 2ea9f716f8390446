"""Sessions from a file, read at start and again whenever it changes."""

import asyncio
from pathlib import Path

import structlog

from relayd.core.desired import Snapshot
from relayd.core.session_file import SessionFileError, read_sessions
from relayd.core.shrink_guard import ShrinkGuard
from relayd.core.source_status import SourceStatus
from relayd.event_loop.garbage import many_new_objects
from relayd.event_loop.pacing import in_slices
from relayd.files import Stamp
from relayd.session_source import SessionTable, count_missing
from relayd.session_source.looks import HungError, Looks

_log = structlog.get_logger()


class FileSource:
    """Looks at the file every ``poll_interval`` seconds; polling, because it sees replaced files and network mounts."""

    def __init__(self, path: Path, table: SessionTable, *, poll_interval: float, shrink_hold: float) -> None:
        self.status = SourceStatus()
        self._path = path.absolute()
        self._poll_interval = poll_interval
        self._table = table
        self._shrink_hold = shrink_hold
        self._guard = ShrinkGuard(shrink_hold)
        self._seen: Stamp | None = None
        self._settled = False
        """Whether what was seen needs no second look: it was applied, or it is broken and will stay so."""
        self._asked = False
        """Whether it is to be read, changed or not."""
        self._wake = asyncio.Event()
        self._looks = Looks(self._path, self._wake.set)

    lookups = None
    usage = None

    def session_ended(self, session_id: str) -> None:
        """A file cannot be told anything; the table itself remembers that the session ended."""

    def reload(self) -> None:
        """Reads the file at once, changed or not."""
        self._asked = True
        self._wake.set()

    async def run(self) -> None:
        """Follows the file until cancelled."""
        loop = asyncio.get_running_loop()
        self.status.started(loop.time())
        while True:
            self._wake.clear()
            began = loop.time()
            await self._look()
            self.status.looked(began)
            try:
                await asyncio.wait_for(self._wake.wait(), max(self._poll_interval, self._looks.pause_seconds))
            except TimeoutError:
                continue

    async def _look(self) -> None:
        known = self._seen if self._settled and not self._asked else None
        self._asked = False
        try:
            stamp, content = await self._looks.look(known)
            if content is None:
                if self.status.problem is None:
                    self.status.succeeded(asyncio.get_running_loop().time())
                return
            if stamp != self._seen:
                self._settled = False
            self._seen = stamp
            # Some editors put a byte order mark in front.
            text = await asyncio.to_thread(content.decode, "utf-8-sig")
            snapshot = await _parse(text)
        except HungError as error:
            self._seen = None
            self._fail(f"{self._path}: {error}")
        except OSError as error:
            self._seen = None
            self._fail(f"{self._path}: cannot be read: {error.strerror}")
        except UnicodeDecodeError:
            self._fail(f"{self._path}: not UTF-8 text")
        except SessionFileError as error:
            self._fail(f"{self._path}:{error}")
        except Exception as error:  # noqa: BLE001 - whatever happens here, the games go on
            _log.exception("reading the session file failed")
            self._fail(f"{self._path}: a defect ({type(error).__name__}), see the log")
        else:
            await self._apply(snapshot)

    async def _apply(self, snapshot: Snapshot) -> None:
        present = list(self._table.session_ids())
        missing = await count_missing(present, snapshot)
        left = self._guard.seconds_left(len(present), missing, asyncio.get_running_loop().time())
        if left > 0:
            self._doubt(
                f"{self._path}: lacks {missing} of {len(present)} sessions; they are kept unless it stays so for"
                f" {self._shrink_hold:g} s (source.shrink_hold)"
            )
            return
        await self._table.replace(snapshot)
        self._settled = True
        if self.status.problem is not None:
            _log.info("session file followed again")
        self.status.succeeded(asyncio.get_running_loop().time())

    def _doubt(self, problem: str) -> None:
        if problem != self.status.problem:
            self.status.failed(problem)
            _log.warning("session file not believed yet", problem=problem)

    def _fail(self, problem: str) -> None:
        """Says once what is wrong; the table stays as it is."""
        self._settled = True
        if problem != self.status.problem:
            self.status.failed(problem)
            _log.error("session file refused, the table stays as it was", problem=problem)


async def _parse(text: str) -> Snapshot:
    snapshot = Snapshot()
    with many_new_objects():
        async for _ in in_slices(read_sessions(text, snapshot)):
            pass
    return snapshot
