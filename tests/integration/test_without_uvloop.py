"""A relay where uvloop cannot be imported, as on systems that it is not made for: asyncio's own loop serves."""

import subprocess
from pathlib import Path
from typing import IO

import pytest

from tests.integration.config import new_session, with_forwarder
from tests.integration.peers import OPENS_CONNECTION, VALID
from tests.integration.programs import Process
from tests.integration.relay_process import RelayProcess, environment
from tests.thread.compiled import needs_native

KEYS = new_session("game")


class _WithoutUvloop(RelayProcess):
    def _popen(self, arguments: list[str], out: IO[bytes], err: IO[bytes]) -> Process:
        there_instead = self.folder / "modules"
        there_instead.mkdir(exist_ok=True)
        # Found before the installed one.
        (there_instead / "uvloop.py").write_text("raise ImportError\n", encoding="ascii")
        variables = {**environment(), "PYTHONPATH": str(there_instead)}
        return subprocess.Popen(arguments, stdout=out, stderr=err, cwd=self.home, env=variables)


@pytest.mark.parametrize("forwarder", ["python", pytest.param("native", marks=needs_native)])
def test_it_forwards_all_the_same(tmp_path: Path, forwarder: str) -> None:
    with _WithoutUvloop(tmp_path, [KEYS], with_forwarder(forwarder)) as relay:
        assert "uvloop" not in Path(f"/proc/{relay.process.pid}/maps").read_text(encoding="utf-8")
        with relay.host(KEYS) as host, relay.player(KEYS) as player:
            assert (host.ping(), player.ping()) == (VALID, VALID)
            player.say(OPENS_CONNECTION)
            connection_id, heard = host.hear()
            assert heard == OPENS_CONNECTION
            host.say(connection_id, b"answer")
            assert player.hear() == b"answer"
