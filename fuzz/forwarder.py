"""The forwarding thread in C under libFuzzer, with AddressSanitizer and UndefinedBehaviorSanitizer."""

import json
import shutil
import subprocess
from collections import Counter
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from fuzz import recorded, registry
from fuzz.bounds import Bounds
from fuzz.figures import Done, Tally

NAME = "forwarder"
_SOURCE = Path(__file__).parent / "native" / "forwarder.c"
_COMPILER = "clang"
_WHERE = "Debian: apt-get install clang libclang-rt-dev"
_INPUT_BYTES = 4096
_DATAGRAMS = 40


class CannotBuildError(Exception):
    """The compiler is not there, or has no libFuzzer; the text says what to install."""


def build(folder: Path) -> Path:
    """Compiles the fuzzer. Returns the program.

    Raises:
        CannotBuildError: see there.
    """
    if shutil.which(_COMPILER) is None:
        raise CannotBuildError(f"{_COMPILER} is not installed ({_WHERE})")
    folder.mkdir(parents=True, exist_ok=True)
    program = folder / NAME
    command = [
        _COMPILER, "-g", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-Wno-missing-field-initializers",
        "-Wno-gnu-variable-sized-type-not-at-end", "-fsanitize=fuzzer,address,undefined",
        "-fno-sanitize-recover=undefined", str(_SOURCE), "-o", str(program),
    ]  # fmt: skip
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise CannotBuildError(f"{_COMPILER} cannot build the fuzzer ({_WHERE}):\n{ended.stderr}")
    return program


def run(program: Path, found: Path, bounds: Bounds, seed: int) -> int:
    """Fuzzes until it is enough or something is found. Returns the exit status."""
    folders = [found / "corpus", found / "seeds", registry.CORPUS / NAME]
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    for number, data in enumerate(seeds()):
        (folders[1] / str(number)).write_bytes(data)
    options = [f"-artifact_prefix={found}/", f"-max_len={_INPUT_BYTES}", f"-seed={seed}"]
    options += ["-len_control=0", "-verbosity=0"]
    options += [f"-max_total_time={bounds.seconds:.0f}"] * (bounds.seconds > 0)
    options += [f"-runs={bounds.runs}"] * (bounds.runs > 0)
    options += [f"--datagrams={bounds.units}"] * (bounds.units > 0)
    tally = Tally("datagrams", seed)
    with subprocess.Popen([program, *options, *map(str, folders)], stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        for line in running.stdout:
            said = json.loads(line)
            tally.replace(said["runs"], Done(Counter(said["outcomes"]), said["checks"]))
            tally.show()
    tally.conclude(passed=running.returncode == 0)
    return running.returncode


def replay(program: Path, inputs: Sequence[Path]) -> int:
    """Tries these inputs, or all in these folders, once. Returns the exit status."""
    return _run(program, "-runs=0", *map(str, inputs))


def keep(program: Path, found: Path) -> int:
    """Adds to the corpus what reaches more than it does. Returns the exit status."""
    folders = [path for path in (found / "corpus", found / "seeds") if path.is_dir()]
    return _run(program, "-set_cover_merge=1", "-use_counters=0", str(registry.CORPUS / NAME), *map(str, folders))


def _run(program: Path, *options: str) -> int:
    # What libFuzzer says is in its standard error.
    return subprocess.run([program, *options], check=False, stdout=subprocess.DEVNULL).returncode


def seeds() -> list[bytes]:
    """The beginnings of the recorded games, as operations of fuzz/native/forwarder.c."""
    return [_recorded_game(name) for name in recorded.GAMES]


def _recorded_game(name: str) -> bytes:
    """Its peers are flows, and what they sent comes in batches of one; now and then the owner takes what waits."""
    operations = [bytes((1,))]
    peers: dict[str, int] = {}
    for one in islice(recorded.arrivals(name), _DATAGRAMS):
        endpoint = 0 if one.port == "server" else 1
        user = 1 + recorded.USERS.index(int.from_bytes(one.datagram[:4], "little"))
        if one.peer not in peers:
            peers[one.peer] = 2 * len(peers)
            operations.append(bytes((0, 1 + len(peers), endpoint + 4 * (4 + user % 2), user, peers[one.peer])))
            operations.append(bytes((3, 60)))
        content = one.datagram[: 13 + 24]
        operations.append(bytes((4, endpoint, 0, len(content), peers[one.peer])) + content)
    operations.append(bytes((2, 255)))
    return b"".join(operations)
