"""What is imported is declared in pyproject.toml, and the lock files hold versions that satisfy it."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
OWN = {"relayd", "tests", "bench", "fuzz", "mutation"}
GROUPS_OF = {
    "relayd": [],
    "bench": ["bench"],
    "fuzz": ["fuzz"],
    "mutation": ["mutation"],
    "tests": ["dev"],
    "docs": [],
}
"""Folder → what is installed, beyond relayd's own dependencies, for those who run what is in it."""

EXTRAS_OF_LOCK = {
    "run": ["build"],
    "bench": ["build", "bench"],
    "dev": ["dev"],
    "ci": ["ci"],
    "fuzz": ["fuzz"],
    "mutation": ["mutation"],
}
"""Lock file → extras that it holds; see `make lock`."""

PYTHONS = ["3.11", "3.12", "3.13"]
MACHINES = ["x86_64", "aarch64"]

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
PROJECT = PYPROJECT["project"]


def declared(extras: list[str]) -> Iterator[Requirement]:
    """What relayd needs with these extras; those that name relayd's own extras are followed."""
    groups = [PROJECT["dependencies"], *(PROJECT["optional-dependencies"][extra] for extra in extras)]
    for text in (text for group in groups for text in group):
        requirement = Requirement(text)
        if requirement.name == PROJECT["name"]:
            yield from declared(sorted(requirement.extras))
        else:
            yield requirement


def imported(folder: Path) -> dict[str, Path]:
    """Top-level modules that are not Python's, the project's, or files beside the importing one; and one that does."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module or ""]
            for name in names:
                top = name.partition(".")[0]
                if top not in sys.stdlib_module_names | OWN and not path.with_name(f"{top}.py").exists():
                    found[top] = path
    return found


def locked(name: str) -> list[Requirement]:
    """What a lock file pins."""
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    lines = re.sub(r"\s*\\\n\s*", " ", text).splitlines()
    return [Requirement(line.partition(" --hash=")[0]) for line in lines if line and not line.startswith("#")]


def pinned(name: str, python: str, machine: str) -> dict[str, str]:
    """Package → its one version, where that Python runs on that Linux."""
    environment = {
        **{key: str(value) for key, value in default_environment().items()},
        "python_version": python,
        "python_full_version": f"{python}.0",
        "platform_machine": machine,
        "sys_platform": "linux",
    }
    found: dict[str, str] = {}
    for requirement in locked(name):
        if requirement.marker is None or requirement.marker.evaluate(environment):
            (pin,) = requirement.specifier
            assert pin.operator == "==", f"{requirement} is no pin"
            assert canonicalize_name(requirement.name) not in found, f"{name}.lock has {requirement.name} twice"
            found[canonicalize_name(requirement.name)] = pin.version
    return found


@pytest.mark.parametrize("folder", GROUPS_OF)
def test_what_is_imported_is_declared(folder: str) -> None:
    distributions = packages_distributions()
    names = {canonicalize_name(requirement.name) for requirement in declared(GROUPS_OF[folder])}
    for module, path in imported(ROOT / folder).items():
        owners = {canonicalize_name(owner) for owner in distributions.get(module, [module])}
        assert owners & names, f"{path.relative_to(ROOT)} imports {module}: declare {sorted(owners)} in pyproject.toml"


def test_every_folder_with_code_is_looked_at() -> None:
    folders = {path.relative_to(ROOT).parts[0] for path in ROOT.glob("[!.]*/**/*.py")} - {"build", "systemd"}
    assert folders == GROUPS_OF.keys()


@pytest.mark.parametrize("machine", MACHINES)
@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", EXTRAS_OF_LOCK)
def test_a_lock_file_satisfies_what_is_declared(name: str, python: str, machine: str) -> None:
    versions = pinned(name, python, machine)
    for requirement in declared(EXTRAS_OF_LOCK[name]):
        version = versions.get(canonicalize_name(requirement.name))
        assert version is not None, f"requirements/{name}.lock lacks {requirement.name}: run `make lock`"
        assert requirement.specifier.contains(version), (
            f"requirements/{name}.lock has {requirement.name} {version},"
            f" pyproject.toml asks for {requirement.specifier}: run `make lock`"
        )


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("name", EXTRAS_OF_LOCK)
def test_a_package_has_one_version_in_all_lock_files(name: str, python: str) -> None:
    versions = pinned(name, python, "x86_64")
    for other in EXTRAS_OF_LOCK:
        others = pinned(other, python, "x86_64")
        shared = versions.keys() & others.keys()
        assert {package: versions[package] for package in shared} == {package: others[package] for package in shared}


@pytest.mark.parametrize("name", EXTRAS_OF_LOCK)
def test_a_lock_file_has_hashes_and_names_no_server(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.lock").read_text(encoding="utf-8")
    for line in re.sub(r"\s*\\\n\s*", " ", text).splitlines():
        assert line.startswith("#") or "--hash=sha256:" in line, line
    assert not re.search(r"://|index-url|find-links|\.(org|com|net|io)\b", text), "whoever installs says where from"


def test_there_is_no_other_lock_file() -> None:
    assert {path.stem for path in (ROOT / "requirements").iterdir()} == EXTRAS_OF_LOCK.keys()


def test_what_builds_relayd_is_locked_too() -> None:
    """It is built without isolation, from what the lock file installed."""
    assert PROJECT["optional-dependencies"]["build"] == PYPROJECT["build-system"]["requires"]
