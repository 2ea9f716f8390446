"""Has the copy of the state kept up to date by another process, and says when it is not: see `copying`."""

import io
import os
import select
import subprocess
import sys
import threading
from pathlib import Path

import structlog

from relayd.event_loop.threads import within

_QUIET_SECONDS = 30.0
"""Without a word from it, its disk hangs: a round takes milliseconds."""
_AGAIN_SECONDS = 5.0
"""Until it is started again where it ended by itself."""
_LAST_ROUND_SECONDS = 2.0
"""How long the end of the process waits for it. It goes on by itself if it takes longer."""
_PROGRAM = "relayd.state.copying"
_HOME = Path(__file__).parents[2]
"""Where the package is that this process runs."""

_log = structlog.get_logger()


class Copier:
    """Follows the other process from a thread, which does nothing that could hang.

    Args:
        live: the state file in memory.
        copy: the file that is to be like it.
        aside: where a copy of another layout is moved.
    """

    def __init__(self, live: Path, copy: Path, aside: Path) -> None:
        self._files = [str(live), str(copy), str(aside)]
        self._directory = str(copy.parent)
        self._problem = ""
        self._ending = threading.Event()
        self._asked, self._asks = os.pipe()
        """Whoever reads from the one learns that the other was closed: its standard input."""
        self._thread = threading.Thread(target=self._follow, name="state copy", daemon=True)
        self._thread.start()

    async def finish(self) -> None:
        """Has the copy brought up to date once more, and ends it: in a bounded time, whatever the disk does."""
        self._ending.set()
        os.close(self._asks)
        try:
            await within(_LAST_ROUND_SECONDS, self._thread.join)
        except TimeoutError:
            self._note(f"the last copy takes longer than {_LAST_ROUND_SECONDS:g} s")

    def _follow(self) -> None:
        again = True
        while again:
            try:
                status = self._run()
            except OSError as error:
                self._note(f"what copies it cannot be started: {error.strerror}")
            else:
                if not self._ending.is_set():
                    self._note(f"what copies it ended with status {status}, and is started again")
            again = not self._ending.wait(_AGAIN_SECONDS)
        os.close(self._asked)

    def _run(self) -> int:
        """Runs it to its end. Returns its status."""
        hears, says = os.pipe()
        try:
            process = subprocess.Popen(  # noqa: S603 - this program's own
                [sys.executable, "-P", "-S", "-m", _PROGRAM, *self._files],
                stdin=self._asked,
                stdout=says,
                stderr=subprocess.DEVNULL,
                # The package of this process, and none that lies where it happens to be.
                env={**os.environ, "PYTHONPATH": str(_HOME)},
                # What is typed at a terminal is for the relay.
                start_new_session=True,
            )
        except OSError:
            os.close(hears)
            raise
        finally:
            os.close(says)
        with io.FileIO(hears) as said:
            self._listen(said)
        return process.wait()

    def _listen(self, said: io.FileIO) -> None:
        something = select.poll()
        something.register(said, select.POLLIN)
        while True:
            if not something.poll(_QUIET_SECONDS * 1000):
                self._note("the disk hangs")
                continue
            lines = said.read(select.PIPE_BUF)
            if not lines:
                return
            # Whole ones: what is shorter than PIPE_BUF is written at once (pipe(7)).
            self._note(lines.decode().splitlines()[-1])

    def _note(self, problem: str) -> None:
        before, self._problem = self._problem, problem
        if problem and problem != before:
            _log.warning("the copy of the state is behind", directory=self._directory, why=problem)
        elif before and not problem:
            _log.info("the copy of the state is up to date again", directory=self._directory)
