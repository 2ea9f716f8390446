"""Any bytes as the file of last good sessions: refused, or read with a state that a control plane can be asked about."""

import asyncio
import tempfile
from pathlib import Path

from relayd.edge.source.control_plane.last_good import LastGood, LastGoodError

UNIT = "files"

_loop = asyncio.Runner()
_folder = Path(tempfile.mkdtemp(prefix="relayd-fuzz-"))


def check(data: bytes) -> int:
    """Raises if loading it raises anything but what is caught."""
    last_good = LastGood(_folder)
    last_good.path.write_bytes(data)
    try:
        found = _loop.run(last_good.load())
    except LastGoodError as error:
        assert "\n" not in str(error)
        return 1
    assert found is not None
    snapshot, version = found
    if version is not None:
        assert version.epoch
        assert 0 <= version.revision < 1 << 53
    # Kept again, it is what it was.
    specs = list(snapshot.sessions.values())
    _loop.run(last_good.save(specs, version))
    again = _loop.run(last_good.load())
    assert again is not None
    assert (list(again[0].sessions.values()), again[1]) == (specs, version)
    return 1
