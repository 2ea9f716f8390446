"""Any text as a session file: refused in one sentence, or read as Python's own parser reads it."""

import json
from collections import Counter
from typing import Any

from fuzz.figures import Done
from relayd.core.desired import Snapshot
from relayd.core.relay_session import RelaySession
from relayd.core.session_file import SessionFileError, read_sessions

UNIT = "files"


class _NamedTwiceError(Exception):
    """A key appears twice in an object, of which Python's parser would keep only the last."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise _NamedTwiceError
    return dict(pairs)


def check(data: bytes) -> Done:
    """Raises if the text is neither refused as it should be, nor read as it stands there."""
    text = data.decode(errors="replace")
    snapshot = Snapshot()
    try:
        for _ in read_sessions(text, snapshot):
            pass
    except SessionFileError as error:
        line, _, reason = str(error).partition(": ")
        assert 1 <= int(line) <= text.count("\n") + 1
        assert reason.strip()
        assert "\n" not in reason
        return Done(Counter(refused=1), 1)
    try:
        plain = json.loads(text, object_pairs_hook=_object)
    except _NamedTwiceError:
        return Done(Counter(read=1), 1)
    specs = [RelaySession.model_validate(one).spec() for one in plain["sessions"]]
    assert list(snapshot.sessions.values()) == [one for one in specs if one is not None]
    return Done(Counter(read=1), 1)
