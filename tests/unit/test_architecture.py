"""Who may import whom, read from the source, with the reason for each ban."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in sorted((ROOT / "relayd").rglob("*.py"))
}

WORLD = {"socket", "asyncio", "time", "random", "secrets", "logging", "structlog"}
CONTROLPLANE_MAY_USE = (
    "core",
    "settings",
    "errors",
    "pacing",
    "http_server",
    "tcp",
    "tls",
    "log",
    "service_manager",
    "controlplane",
)
EDGE_MAY_USE = {
    "sockets": {"sockets"},
    "systemd": {"systemd", "sockets"},
    "probes": {"probes", "sockets"},
    "udp": {"udp", "sockets"},
    "xdp": {"xdp", "addresses"},
    "native": {"native", "udp", "sockets"},
    "forwarder": {"forwarder", "native", "udp", "sockets"},
    "source": {"source"},
    "live": {"live"},
    "metrics": {"metrics", "source"},
    "explain": {"explain", "source"},
    "drain": {"drain", "source"},
    "status": {"status", "source"},
    "admin": {"admin", "drain", "explain", "live", "metrics", "source", "status", "watch"},
}
"""By first part below edge. Anything that is not listed may use only itself."""


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


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


def banned_in_core(names: set[str]) -> set[str]:
    outside = {name for name in names if within(name, "relayd") and not within(name, "relayd.core")} - {"relayd"}
    return outside | {name for name in names if name.partition(".")[0] in WORLD}


def banned_in_edge(module: str, names: set[str]) -> set[str]:
    feature = module.split(".")[2]
    allowed = EDGE_MAY_USE.get(feature, {feature})
    features = {name for name in names if name.startswith("relayd.edge.")}
    return {name for name in features if name.split(".")[2] not in allowed}


def banned_in_controlplane(names: set[str]) -> set[str]:
    ours = {name for name in names if name.startswith("relayd.") and name != "relayd.__version__"}
    return {name for name in ours if name.split(".")[1] not in CONTROLPLANE_MAY_USE}


def modules_in(package: str) -> list[str]:
    return [module for module in FILES if within(module, package)]


@pytest.mark.parametrize("module", modules_in("relayd.core"))
def test_core_knows_neither_the_world_nor_the_rest_of_relayd(module: str) -> None:
    banned = banned_in_core(imported(module))
    assert not banned, (
        f"{module} imports {sorted(banned)}: the core gets time, randomness and datagrams as arguments, so that the"
        " same behaviour can be tested on a clock turned by hand and repeated by other engines"
    )


@pytest.mark.parametrize("module", [module for module in modules_in("relayd.edge") if module != "relayd.edge"])
def test_edges_do_not_know_each_other(module: str) -> None:
    banned = banned_in_edge(module, imported(module))
    assert not banned, (
        f"{module} imports {sorted(banned)}: edges meet only in app.py, so that a source, a port or an exporter can"
        " be replaced without a look at the others"
    )


@pytest.mark.parametrize("module", [*modules_in("relayd.edge"), *modules_in("relayd.controlplane")])
def test_nothing_below_knows_the_app(module: str) -> None:
    banned = {name for name in imported(module) if within(name, "relayd.app") or within(name, "relayd.dev")}
    assert not banned, f"{module} imports {sorted(banned)}: the app puts the parts together, a part cannot need it"


def test_the_control_plane_runs_alone() -> None:
    banned = {module: banned_in_controlplane(imported(module)) for module in modules_in("relayd.controlplane")}
    assert not any(banned.values()), (
        f"{banned}: the control plane also runs on a machine without a relay, so it may share models and plumbing"
        " with it and nothing that forwards"
    )


@pytest.mark.parametrize("module", [module for module in FILES if module not in ("relayd.cli", "relayd.__main__")])
def test_nothing_but_the_command_line_knows_the_command_line(module: str) -> None:
    banned = {name for name in imported(module) if within(name, "relayd.cli")}
    assert not banned, f"{module} imports {sorted(banned)}: what the commands do must be usable without a terminal"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("import a.b as c", {"a.b"}),
        ("from a import b", {"a", "a.b"}),
        ("from . import b", {"relayd.core", "relayd.core.b"}),
        ("from .x import b", {"relayd.core.x", "relayd.core.x.b"}),
        ("from ..edge import b", {"relayd.edge", "relayd.edge.b"}),
        ("def f():\n    import time", {"time"}),
    ],
)
def test_imports_are_found_however_they_are_written(text: str, names: set[str]) -> None:
    assert imports_of(text, "relayd.core.table", is_package=False) == names


def test_bans_are_noticed() -> None:
    assert banned_in_core({"time", "asyncio.events", "relayd.errors", "relayd.core.wire"}) == {
        "time",
        "asyncio.events",
        "relayd.errors",
    }
    assert banned_in_edge("relayd.edge.udp", {"relayd.edge.sockets", "relayd.edge.metrics"}) == {"relayd.edge.metrics"}
    assert banned_in_edge("relayd.edge.source.file", {"relayd.edge.source", "relayd.edge.udp"}) == {"relayd.edge.udp"}
    assert banned_in_controlplane({"relayd.core.wire", "relayd.edge.udp", "json"}) == {"relayd.edge.udp"}
