"""The C headers are what the declaration gives, and C has no second place for any of it."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from relayd.core.verdict import Verdict
from relayd.forwarding.generated.__main__ import FOLDER, main, outdated
from relayd.forwarding.generated.headers import HEADERS

ROOT = Path(__file__).parents[3]
WRITTEN_BY_HAND = sorted(
    path
    for folder in ("relayd", "fuzz", "bench", "tests")
    for ending in ("*.c", "*.h")
    for path in (ROOT / folder).rglob(ending)
    if path.parent != FOLDER
)
TEXTS = "".join(header() for header in HEADERS.values())
STRUCTURES = re.findall(r"^struct (\w+) \{", TEXTS, re.MULTILINE)
NUMBERS = re.findall(r"^#define (\w+) ", TEXTS, re.MULTILINE) + re.findall(r"^\t(\w+) = \d+,", TEXTS, re.MULTILINE)
CLOCKS = re.compile(r"\b(bpf_ktime_get_\w+|clock_gettime|gettimeofday)\(")


def test_headers_are_current() -> None:
    assert not outdated(), "run: make generate"


def test_no_header_is_left_over() -> None:
    assert {path.name for path in FOLDER.glob("*.h")} == HEADERS.keys()


def test_who_checks_is_told_what_to_do(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(["--check"]) == 0
    monkeypatch.setitem(HEADERS, "wire.h", lambda: "#define PING 3\n")
    assert main(["--check"]) == 1
    assert capsys.readouterr().err == "wire.h is not what relayd/core/declaration gives: run make generate\n"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
def test_a_compiler_takes_all_of_it(tmp_path: Path) -> None:
    program = tmp_path / "all.c"
    includes = "".join(f'#include "{name}"\n' for name in HEADERS if name != "maps.h")
    program.write_text(
        f"{includes}const __u64 bounds[DELAY_BUCKETS] = DELAY_BOUNDS_NS;\n"
        "const char *const labels[VERDICTS] = VERDICT_LABELS;\n",
        encoding="utf-8",
    )
    options = ["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fsyntax-only", f"-I{FOLDER}"]
    done = subprocess.run(["gcc", *options, str(program)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_what_is_outdated_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relayd.forwarding.generated.__main__.FOLDER", tmp_path)
    assert len(outdated()) == len(HEADERS)
    assert main([]) == 0
    assert outdated() == []
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in FOLDER.glob("*.h")
    }


def test_every_verdict_has_its_number_in_c() -> None:
    for verdict in Verdict:
        assert f"\t{verdict.name} = {int(verdict)},\n" in TEXTS
    assert TEXTS.count("enum verdict {") == 1


@pytest.mark.parametrize("path", WRITTEN_BY_HAND, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_of_it_is_written_by_hand_again(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    again = [name for name in STRUCTURES if re.search(rf"^struct {name} \{{", text, re.MULTILINE)]
    again += [name for name in NUMBERS if re.search(rf"(^#define {name} |\b{name} = \d)", text, re.MULTILINE)]
    assert not again, f"{again}: include generated/*.h"
    assert not re.search(r"^enum (verdict|port)\b", text, re.MULTILINE)


@pytest.mark.parametrize("path", WRITTEN_BY_HAND, ids=lambda path: str(path.relative_to(ROOT)))
def test_time_is_read_in_one_place(path: Path) -> None:
    if path.parts[-4:-2] == ("relayd", "forwarding") and path.name != "clock.h":
        assert not CLOCKS.search(path.read_text(encoding="utf-8")), "clock.h is where it is read"
