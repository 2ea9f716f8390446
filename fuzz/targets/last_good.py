"""Any bytes as the file of last good sessions: refused, or read with a state that a control plane can have."""

from collections import Counter

from fuzz.figures import Done
from fuzz.resources import folder, loop
from relayd.session_source.control_plane.last_good import LastGood, LastGoodError

UNIT = "files"


def check(data: bytes) -> Done:
    """Raises if loading it raises anything but what is caught."""
    last_good = LastGood(folder())
    last_good.path.write_bytes(data)
    try:
        found = loop().run(last_good.load())
    except LastGoodError as error:
        assert "\n" not in str(error)
        return Done(Counter(refused=1), 1)
    assert found is not None
    snapshot, version = found
    if version is not None:
        assert version.epoch
        assert 0 <= version.revision < 1 << 53
    # Kept again, it is what it was.
    specs = list(snapshot.sessions.values())
    loop().run(last_good.save(specs, version))
    again = loop().run(last_good.load())
    assert again is not None
    assert (list(again[0].sessions.values()), again[1]) == (specs, version)
    return Done(Counter(read=1), 1)
