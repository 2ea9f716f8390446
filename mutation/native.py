"""Mutants of the thread in C and of the kernel program: compiled, and tried with the tests of each."""

import subprocess
import sysconfig
import tomllib
from dataclasses import replace
from pathlib import Path

from mutation.copies import Copy
from mutation.mutant import Mutant
from mutation.touching import check
from mutation.trial import Answer, Outcome, Request

MODULE = "relayd.forwarding.thread._forwarder"
THREAD, KERNEL = Path("relayd/forwarding/thread"), Path("relayd/forwarding/kernel")
FOLDERS = (THREAD, KERNEL)
_PROGRAM = KERNEL / "relay.bpf.o"


class DoesNotCompileError(Exception):
    """What the compiler says of a mutant."""


_ELSEWHERE = ("test_relays", "naive_relay", "core_engine", "python_forwarder")
"""Scenarios that neither is asked in."""

# The quickest first.
_THREAD_TESTS = (
    Request(["tests/thread"], left_out=["test_sanitizers"]),
    Request(["tests/scenarios"], left_out=[*_ELSEWHERE, "kernel_program", "passes_no_unknown_token_up"]),
    Request(["tests/thread/test_sanitizers.py"]),
)
_KERNEL_TESTS = (
    Request(["tests/unit/kernel"]),
    Request(["tests/scenarios"], left_out=[*_ELSEWHERE, "forwarding_thread"]),
)


def baseline(copy: Copy) -> dict[str, float]:
    """How long each request takes without a mutant, in seconds.

    Raises:
        FailingTestsError: one fails or is skipped.
    """
    seconds = {}
    for request in (*_THREAD_TESTS, *_KERNEL_TESTS):
        answer = copy.run(request)
        check(answer)
        seconds[_name(request)] = answer.seconds
    return seconds


def _name(request: Request) -> str:
    return f"{request.files} but {request.left_out}"


def attempt(copy: Copy, mutant: Mutant, seconds: dict[str, float]) -> Answer:
    """What becomes of a mutant that stands in a copy."""
    changed = Path(mutant.file)
    before = {path: path.read_bytes() for path in (*(copy.folder / THREAD).glob("*.so"), copy.folder / _PROGRAM)}
    of_thread = changed.is_relative_to(THREAD) or not changed.is_relative_to(KERNEL)
    of_kernel = changed.is_relative_to(KERNEL) or (changed.suffix == ".h" and _uses(copy.folder / KERNEL, changed))
    try:
        if of_thread:
            _build_module(copy.folder)
        if of_kernel:
            _run(["make", str(_PROGRAM)], copy.folder)
        requests = (*(_THREAD_TESTS if of_thread else ()), *(_KERNEL_TESTS if of_kernel else ()))
        return _run_tests(copy, requests, seconds)
    except DoesNotCompileError as error:
        return Answer(Outcome.STILLBORN, str(error), 0)
    finally:
        for path, compiled in before.items():
            path.unlink(missing_ok=True)
            path.write_bytes(compiled)


def _run_tests(copy: Copy, requests: tuple[Request, ...], seconds: dict[str, float]) -> Answer:
    taken = 0.0
    for request in requests:
        usual = seconds[_name(request)]
        answer = copy.run(replace(request, cpu_seconds=20 + 3 * usual, wall_seconds=120 + 20 * usual))
        taken += answer.seconds
        if answer.skipped:
            # As it would be where there is no compiler, or no right to load it.
            return replace(answer, outcome=Outcome.STILLBORN, seconds=taken)
        if answer.outcome is not Outcome.SURVIVED:
            return replace(answer, seconds=taken)
    return Answer(Outcome.SURVIVED, "", taken)


def _uses(kernel: Path, header: Path) -> bool:
    return any(header.name in source.read_text("utf-8") for source in (*kernel.glob("*.c"), *kernel.glob("*.h")))


def _build_module(folder: Path) -> None:
    declared = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))
    modules = declared["tool"]["setuptools"]["ext-modules"]
    module = next(module for module in modules if module["name"] == MODULE)
    target = folder / (MODULE.replace(".", "/") + sysconfig.get_config_var("EXT_SUFFIX"))
    command = [
        *sysconfig.get_config_var("CC").split(),
        *("-shared", "-fPIC", f"-I{sysconfig.get_path('include')}"),
        *module["extra-compile-args"],
        *module["extra-link-args"],
        *("-o", str(target.relative_to(folder))),
        *module["sources"],
    ]
    target.unlink()
    _run(command, folder)


def _run(command: list[str], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise DoesNotCompileError((done.stderr or done.stdout).strip())
