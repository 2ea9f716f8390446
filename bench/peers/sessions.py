"""The sessions that relayd is given."""

import json
from pathlib import Path

SESSION = 0x1000_0000
"""Token of session 0; the others follow."""
HOST = 0x2000_0000
_PLAYER = 0x4000_0000


def player_token(flow: int) -> int:
    """Token of the player of a flow."""
    return _PLAYER + flow


def write_sessions(path: Path, sessions: int, players: int) -> None:
    """A session file in which player p of session s has flow p * sessions + s."""
    content = [
        {
            "session_id": f"{number:012x}-S",
            "authorization_token": SESSION + number,
            "session_users": [
                {"authorization_token": HOST + number},
                *({"authorization_token": player_token(turn * sessions + number)} for turn in range(players)),
            ],
        }
        for number in range(sessions)
    ]
    path.write_text(json.dumps({"sessions": content}), encoding="utf-8")
