"""The object in the tree is what its source gives."""

import re
import shutil
import subprocess
from importlib import resources
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[3]
COMPILED_BY = "14"
"""Major version of clang that made the object; another gives other, equally good, instructions."""
NOT_IN_C = shutil.ignore_patterns("*.o", "*.so", "*.py", "*.pyi", "__pycache__")


def unfit_compiler() -> str | None:
    clang = shutil.which("clang")
    if clang is None or shutil.which("llvm-strip") is None:
        return "needs clang and llvm-strip (Debian: clang, llvm)"
    if not Path("/usr/include/bpf/bpf_helpers.h").exists():
        return "needs bpf/bpf_helpers.h (Debian: libbpf-dev)"
    said = subprocess.run([clang, "--version"], capture_output=True, text=True, check=True).stdout
    version = re.search(r"version (\d+)", said)
    return (
        None if version and version[1] == COMPILED_BY else f"needs clang {COMPILED_BY}, this is {said.splitlines()[0]}"
    )


@pytest.mark.skipif(unfit_compiler() is not None, reason=unfit_compiler() or "")
def test_the_source_gives_this_object(tmp_path: Path) -> None:
    folder = tmp_path / "relayd/forwarding/kernel"
    # All C of it and of the forwarding thread, with which it has headers in common.
    shutil.copytree(REPOSITORY / "relayd/forwarding", tmp_path / "relayd/forwarding", ignore=NOT_IN_C)
    shutil.copy(REPOSITORY / "Makefile", tmp_path)
    committed = resources.files("relayd.forwarding.kernel").joinpath("relay.bpf.o")
    subprocess.run(["make", "-C", str(tmp_path), "fast-path"], check=True, capture_output=True)
    assert (folder / "relay.bpf.o").read_bytes() == committed.read_bytes(), "run: make fast-path"
