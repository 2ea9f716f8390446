"""Every input that fuzzing found worth keeping passes, as do those it begins with."""

import subprocess
from pathlib import Path

import pytest

from fuzz import forwarder, keep, registry, seeds
from tests.integration.waiting import PATIENCE_SECONDS


@pytest.mark.parametrize("name", registry.TARGETS)
def test_all_that_is_kept_passes(name: str) -> None:
    target = registry.load(name)
    kept = registry.corpus(name)
    assert kept
    for path in kept:
        target.check(path.read_bytes())
    for data in seeds.of(name):
        assert target.check(data).outcomes.total() > 0


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    try:
        return forwarder.build(tmp_path_factory.mktemp("fuzz"))
    except forwarder.CannotBuildError as error:
        pytest.skip(str(error).partition("\n")[0])


def test_so_it_is_by_the_forwarding_thread(program: Path, tmp_path: Path) -> None:
    for number, data in enumerate(forwarder.seeds()):
        (tmp_path / str(number)).write_bytes(data)
    kept = registry.CORPUS / forwarder.NAME
    command = [str(program), "-runs=0", f"-artifact_prefix={tmp_path}/crash-", str(kept), str(tmp_path)]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=5 * PATIENCE_SECONDS)
    assert ended.returncode == 0, ended.stderr
    tried = len(list(kept.iterdir())) + len(forwarder.seeds())
    assert f"seed corpus: files: {tried} " in ended.stderr


def test_of_inputs_that_reach_the_same_the_shortest_is_kept() -> None:
    target = registry.load("session-file")
    short, long, other = b'{"sessions":[]}', b'{"sessions": [  ]}', b"["
    assert keep.fewest(target, [long, short, other]) == [other, short]


def test_what_once_failed_stays(tmp_path: Path) -> None:
    for name in ("crash-1234", "reached nothing more"):
        (tmp_path / name).write_bytes(name.encode())
    keep.write(tmp_path, [b"reaches more"])
    assert {path.read_bytes() for path in tmp_path.iterdir()} == {b"crash-1234", b"reaches more"}
