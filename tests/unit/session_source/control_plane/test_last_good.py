"""The file of last good sessions: the state in its first line is what the control plane is asked about next."""

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest

from relayd.core.desired import SessionSpec, UserSpec
from relayd.session_source.control_plane.last_good import LastGood, LastGoodError
from relayd.session_source.control_plane.link import Version
from tests.support.away import Away
from tests.support.virtual_loop import now, run

SPEC = SessionSpec("game", 1, (UserSpec(2, "10.0.0.1"), UserSpec(3, None)))


def test_what_was_kept_is_loaded(tmp_path: Path) -> None:
    last_good = LastGood(tmp_path)
    asyncio.run(last_good.save([SPEC], Version("epoch", 12)))
    found = asyncio.run(last_good.load())
    assert found is not None
    assert (found[0].sessions, found[1]) == ({"game": SPEC}, Version("epoch", 12))


@pytest.mark.parametrize(
    "head",
    [
        '{"epoch": "e", "revision": Infinity',
        '{"epoch": "e", "revision": -1',
        '{"epoch": "e", "revision": 9007199254740993',
        '{"epoch": "e", "revision": 1.5',
        '{"epoch": "e", "revision": "1"',
        '{"epoch": "", "revision": 1',
        '{"epoch": null, "revision": 1',
    ],
)
def test_a_state_that_no_control_plane_has_is_none(tmp_path: Path, head: str) -> None:
    session = {"session_id": "game", "authorization_token": 1, "session_users": []}
    (tmp_path / "last-good-sessions.json").write_text(f'{head}, "sessions": [\n{json.dumps(session)}]}}')
    found = asyncio.run(LastGood(tmp_path).load())
    assert found is not None
    assert list(found[0].sessions) == ["game"]
    assert found[1] is None


def test_all_is_on_the_disk_before_it_takes_the_place_of_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_disk: list[bytes] = []

    def fsync(fd: int) -> None:
        on_disk.append(Path(f"/proc/self/fd/{fd}").read_bytes())
        assert not LastGood(tmp_path).path.exists()

    monkeypatch.setattr(os, "fsync", fsync)
    kept = LastGood(tmp_path)
    asyncio.run(kept.save([SPEC], Version("first", 3)))
    assert on_disk == [kept.path.read_bytes()]


def test_a_disk_that_hangs_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def work() -> None:
        Away(monkeypatch)
        began = now()
        with pytest.raises(LastGoodError, match=r"last-good-sessions\.json: no answer within 10 s"):
            await LastGood(tmp_path).load()
        assert now() - began == 10

    run(work())


def test_what_an_earlier_attempt_still_writes_is_in_no_later_file(tmp_path: Path) -> None:
    unfinished = tmp_path / "last-good-sessions.new"
    with unfinished.open("wb", buffering=0) as earlier:
        asyncio.run(LastGood(tmp_path).save([SPEC], None))
        earlier.write(b"late")
    found = asyncio.run(LastGood(tmp_path).load())
    assert found is not None
    assert found[0].sessions == {"game": SPEC}


def test_what_is_written_in_parts_is_written_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, content: write(fd, content[:7]))
    asyncio.run(LastGood(tmp_path).save([SPEC], None))
    found = asyncio.run(LastGood(tmp_path).load())
    assert found is not None
    assert found[0].sessions == {"game": SPEC}


def test_no_file_stays_open_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(LastGoodError, match="cannot be written: No space left on device"):
        asyncio.run(LastGood(tmp_path).save([SPEC], None))
    assert len(list(Path("/proc/self/fd").iterdir())) == before
