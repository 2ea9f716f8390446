"""Copies of the tree, in each of which one mutant at a time is tried."""

import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Self, TypeVar

from mutation.mutant import Mutant
from mutation.trial import Answer, Outcome, Request

T = TypeVar("T")

_NOT_COPIED = (".git", ".venv", "build", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", "*.egg-info")
# A network and a BPF file system of its own, so that nothing a mutant leaves behind is met by anybody else.
_APART = ("unshare", "--net", "--mount", "sh", "-c")
_AND_THEN = 'ip link set lo up && { mount -t bpf bpf /sys/fs/bpf || true; } && exec "$@"'


def copy_tree(root: Path, folder: Path) -> None:
    """Copies all that the tests need, in the place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(root, folder, ignore=shutil.ignore_patterns(*_NOT_COPIED), symlinks=True)


class Copy:
    """One copy, and the process that runs tests in it."""

    def __init__(self, root: Path, folder: Path, modules: Sequence[str] = ()) -> None:
        self.folder = folder
        copy_tree(root, folder)
        command = [sys.executable, "-m", "mutation.trial", *modules]
        if os.geteuid() == 0:
            command = [*_APART, _AND_THEN, "sh", *command]
        self._process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def run(self, request: Request) -> Answer:
        """Runs tests on the copy as it stands.

        Raises:
            RuntimeError: the process that runs them ended.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(asdict(request)) + "\n")
            self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"what runs the tests in {self.folder} ended with {self._process.wait()}")
        answer = json.loads(line)
        return Answer(**{**answer, "outcome": Outcome(answer["outcome"])})

    @contextlib.contextmanager
    def changed(self, mutant: Mutant) -> Iterator[None]:
        """The copy with a mutant in it."""
        path = self.folder / mutant.file
        before, times = path.read_bytes(), path.stat()
        path.write_text(mutant.source, "utf-8")
        _forget_compiled(path)
        try:
            yield
        finally:
            path.write_bytes(before)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            _forget_compiled(path)


def _forget_compiled(path: Path) -> None:
    """Python takes a file of the same second and size for the same."""
    for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*.pyc"):
        compiled.unlink()


def share(copies: Sequence[Copy], tasks: Sequence[T], work: Callable[[Copy, T], None]) -> None:
    """Does each task with whichever copy is free; the first error ends it."""
    left: queue.SimpleQueue[T] = queue.SimpleQueue()
    for task in tasks:
        left.put(task)
    errors: list[BaseException] = []

    def serve(copy: Copy) -> None:
        while not errors:
            try:
                task = left.get_nowait()
            except queue.Empty:
                return
            try:
                work(copy, task)
            except BaseException as error:  # noqa: BLE001 - raised again below
                errors.append(error)

    threads = [threading.Thread(target=serve, args=(copy,)) for copy in copies]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]
