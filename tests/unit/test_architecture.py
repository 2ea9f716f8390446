"""Who may import whom, read from the source: every folder of `relayd/`, with the reason for each arrow there is."""

import ast
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "relayd").rglob("*.py"))
}

PURE = {
    "bisect",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "hashlib",
    "heapq",
    "ipaddress",
    "itertools",
    "json",
    "mmap",
    "pydantic",
    "re",
    "struct",
    "typing",
}
"""All that the core may use besides itself, none of which knows a clock, chance or a file (a `mmap` is handed to it).
The same behaviour runs on a clock turned by hand, and in other engines."""

BASE = {"core", "settings", "errors", "log", "event_loop", "files"}
"""What every room but the core may use: the model, options, errors in one sentence, how not to hold the loop, and files
that others write."""

PUT_TOGETHER = ("admin", "forwarding", "http", "session_source", "state", "supervision", "usage")
ASKED_OR_STARTED = (
    "admin",
    "app",
    "client",
    "control_plane",
    "forwarding",
    "http",
    "session_source",
    "simulation",
    "supervision",
)

ARROWS: dict[str, dict[str, str]] = {
    "core": {},
    "settings": {
        "core": "limits are checked where they are used, and named here",
        "errors": "what is wrong, in one sentence",
    },
    "errors": {},
    "log": {"event_loop": "lines are written by a thread, so that none holds up the loop"},
    "files": {},
    "event_loop": {"core": "a session is what the collector is kept away from"},
    "http": {},
    "client": {
        "admin": "its answers, as they are declared",
        "http": "the certificate that the admin server shows, and where its socket is",
    },
    "forwarding": {},
    "session_source": {
        "http": "an authority of its own for https",
        "control_plane": "only `embedded`, which spares `relayd dev` the way over HTTP",
    },
    "state": {"forwarding": "bindings are numbered by the sockets they are at"},
    "usage": {"state": "what is counted outlives the process in the state file"},
    "admin": {"http": "both of its listening sockets, and what serves them"},
    "supervision": {
        "forwarding": "sockets are kept and probed",
        "http": "the socket for commands is left to the program that replaces this one",
    },
    "control_plane": {
        "http": "the server it shares with the admin port",
        "supervision": "systemd is told when it is ready",
    },
    "simulation": {},
    "app": dict.fromkeys(PUT_TOGETHER, "it puts the parts together"),
    "commands": dict.fromkeys(ASKED_OR_STARTED, "a command starts or asks something"),
    "cli": {
        "commands": "it names the commands",
        "supervision": "it takes up the capabilities it is permitted",
    },
    "__main__": {"cli": "python -m relayd"},
}
"""By room, or by file at the root: which rooms it may use besides BASE, and why."""

NARROW = {("session_source", "control_plane"): {"relayd.session_source.embedded"}}
"""Arrows that start in these files only."""

BESIDE: dict[str, dict[str, str]] = {
    "relayd.control_plane.api": {"relayd.control_plane.store": "keys are looked up where they are kept"},
    "relayd.control_plane.fleet": {"relayd.control_plane.store": "relays as they are kept"},
    "relayd.control_plane.webhooks": {"relayd.control_plane.store": "calls as they are kept"},
}
"""By folder inside of a room: which of those beside it it may use, and why. So no engine knows another."""

COMMON_NAMES = {"__init__.py"}


def imports_of(text: str, module: str, is_package: bool) -> set[str]:
    """Absolute names of all that is imported, also inside functions; `from a import b` gives both a and a.b."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                up = node.level - is_package
                base = ".".join([*parts[: len(parts) - up], *([base] if base else [])])
            found |= {base, *(f"{base}.{alias.name}" for alias in node.names)}
    return found


def imported(module: str) -> set[str]:
    path = FILES[module]
    return imports_of(path.read_text(encoding="utf-8"), module, path.name == "__init__.py")


def room_of(name: str) -> str | None:
    """The room of a name in relayd; None for relayd itself and for all others."""
    package, _, rest = name.partition(".")
    room = rest.partition(".")[0]
    return room if package == "relayd" and room and not room.startswith("__version") else None


def folder_of(name: str) -> tuple[str, ...]:
    """The folders in which a module stands; a package stands in itself."""
    parts = tuple(name.split("."))
    return parts if FILES[name].name == "__init__.py" else parts[:-1]


def beside(module: str, name: str) -> tuple[str, str] | None:
    """The two folders where a module of one room imports from a folder beside its own; None for any other import."""
    if name not in FILES or room_of(module) != room_of(name):
        return None
    here, there = folder_of(module), folder_of(name)
    common = next((at for at, pair in enumerate(zip(here, there, strict=False)) if pair[0] != pair[1]), None)
    if common is None:  # one of them is inside of the other
        return None
    return ".".join(here[: common + 1]), ".".join(there[: common + 1])


def banned(module: str, names: set[str]) -> dict[str, str]:
    """What a module may not import, by room."""
    room = room_of(module)
    if room is None:
        return {}
    allowed = ARROWS[room].keys() | ({"core"} if room == "event_loop" else set())
    if room not in ("core", "errors", "log", "settings", "event_loop", "files"):
        allowed |= BASE
    found = {}
    for name in names:
        other = room_of(name)
        if other is None or other == room:
            continue
        if other not in allowed or module not in NARROW.get((room, other), {module}):
            found[name] = other
    return found


def test_every_room_has_a_rule() -> None:
    rooms = {room for module in FILES if (room := room_of(module))}
    assert rooms == ARROWS.keys(), "a folder or a file at the root of relayd/ needs a line in ARROWS, with the reason"


@pytest.mark.parametrize("module", FILES)
def test_rooms_import_only_what_is_listed(module: str) -> None:
    found = banned(module, imported(module))
    assert not found, f"{module} imports {sorted(found)}: ARROWS lists what {room_of(module)} may use, and why"


def test_every_arrow_is_used() -> None:
    used = {(room_of(module), room_of(name)) for module in FILES for name in imported(module)}
    idle = [(room, other) for room, arrows in ARROWS.items() for other in arrows if (room, other) not in used]
    assert not idle, f"{idle}: nothing imports that any more, so nothing may"


def test_no_arrow_runs_back() -> None:
    below = {room: set(arrows) | (BASE - {room} if room not in BASE else set()) for room, arrows in ARROWS.items()}
    while True:
        top = [room for room, others in below.items() if not others & below.keys()]
        if not top:
            break
        for room in top:
            del below[room]
    assert not below, f"these rooms use each other in a circle: {sorted(below)}"


def test_folders_beside_each_other_use_only_what_is_listed() -> None:
    used = {arrow for module in FILES for name in imported(module) if (arrow := beside(module, name))}
    listed = {(folder, other) for folder, others in BESIDE.items() for other in others}
    assert used == listed, "BESIDE lists what a folder inside of a room may use of those beside it, and why"
    assert not {(other, folder) for folder, other in listed} & listed


@pytest.mark.parametrize("module", [module for module in FILES if room_of(module) == "core"])
def test_the_core_does_not_know_the_world(module: str) -> None:
    found = {name for name in imported(module) if name.partition(".")[0] not in {*PURE, "relayd"}}
    assert not found, f"{module} imports {sorted(found)}: time, randomness and datagrams come in as arguments"


def test_no_file_name_stands_three_times() -> None:
    names = Counter(path.name for path in FILES.values())
    often = {name for name, times in names.items() if times > 2} - COMMON_NAMES
    assert not often, f"{sorted(often)}: whoever looks for one of them has to be able to tell them apart"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a.b as c", {"a.b"}),
        ("from a import b", {"a", "a.b"}),
        ("from . import b", {"relayd.core", "relayd.core.b"}),
        ("from .x import b", {"relayd.core.x", "relayd.core.x.b"}),
        ("from ..state import b", {"relayd.state", "relayd.state.b"}),
        ("def f():\n    import time", {"time"}),
    ],
)
def test_imports_are_found_however_they_are_written(text: str, names: set[str]) -> None:
    assert imports_of(text, "relayd.core.table", is_package=False) == names


def test_arrows_to_folders_beside_are_noticed() -> None:
    loader, ports = "relayd.forwarding.kernel.program", "relayd.forwarding.thread.ports"
    assert beside(loader, ports) == ("relayd.forwarding.kernel", "relayd.forwarding.thread")
    assert beside(loader, "relayd.forwarding.thread") == ("relayd.forwarding.kernel", "relayd.forwarding.thread")
    assert beside(loader, "relayd.forwarding.addresses") is None
    assert beside("relayd.forwarding.choose", ports) is None
    assert beside("relayd.app", ports) is None


def test_bans_are_noticed() -> None:
    assert banned("relayd.core.table", {"relayd.errors", "relayd.core.wire"}) == {"relayd.errors": "errors"}
    assert banned("relayd.forwarding.judge", {"relayd.admin.metrics", "relayd.core"}) == {
        "relayd.admin.metrics": "admin"
    }
    assert banned("relayd.session_source.embedded", {"relayd.control_plane.models"}) == {}
    assert banned("relayd.session_source.file", {"relayd.control_plane.models"}) != {}
    assert banned("relayd.state.records", {"relayd.app", "relayd.cli"}) == {"relayd.app": "app", "relayd.cli": "cli"}
