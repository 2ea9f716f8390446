"""Starting the fast path: as the settings want it, taking over what an earlier process left, or saying why not."""

import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import structlog

from relayd.core.endpoint import Endpoint
from relayd.core.engine import Engine
from relayd.core.views import KeptCounts
from relayd.errors import UnavailableError
from relayd.forwarding.kernel import layout
from relayd.forwarding.kernel.fast_path import FastPath, control
from relayd.forwarding.kernel.fitness import misfit
from relayd.forwarding.kernel.libbpf import LibraryMissingError
from relayd.forwarding.kernel.occupants import unexpected
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.program import KernelProgram, Sizes
from relayd.settings import Settings

_log = structlog.get_logger()


def start_fast_path(
    *,
    settings: Settings,
    engine: Engine,
    endpoints: list[tuple[Endpoint, str]],
    later: Callable[[Callable[[], None]], object],
    kept: KeptCounts,
    config: Path | None = None,
) -> FastPath | None:
    """The fast path as the settings want it; None where it is off or, with "auto", not available, and the log says why.

    Args:
        settings: the whole configuration.
        engine: the engine whose table is followed.
        endpoints: the relay's sockets, in their order, each with the address it is bound to.
        later: has a function called soon, from the event loop.
        kept: the counts that outlive the process.
        config: the file that the settings are from; None for the default one.

    Raises:
        UnavailableError: it is required and not available.
    """
    fast_path = _as_wanted(settings, engine, endpoints, later, kept)
    for one in unexpected(settings, config):
        (_log.warning if one.is_known else _log.info)(one.sentence)
    return fast_path


def _as_wanted(
    settings: Settings,
    engine: Engine,
    endpoints: list[tuple[Endpoint, str]],
    later: Callable[[Callable[[], None]], object],
    kept: KeptCounts,
) -> FastPath | None:
    wanted = settings.fast_path
    pins = Pins(wanted.pin_directory, settings.relay.id)
    if wanted.mode == "off" or not wanted.interfaces:
        if wanted.mode == "require":
            raise UnavailableError('fast_path.interfaces: names none, and fast_path.mode is "require"')
        _remove_leftovers(pins)
        if wanted.mode == "auto":
            _log.info('fast path is off: name interfaces in fast_path.interfaces, such as ["eth0"], to turn it on')
        return None
    try:
        return _start(settings, engine, endpoints, pins, later, kept)
    except UnavailableError as error:
        if wanted.mode == "require":
            raise
        _remove_leftovers(pins)
        _log.warning("no fast path, the sockets serve everybody", why=str(error))
        return None


def _start(
    settings: Settings,
    engine: Engine,
    endpoints: list[tuple[Endpoint, str]],
    pins: Pins,
    later: Callable[[Callable[[], None]], object],
    kept: KeptCounts,
) -> FastPath:
    wanted = settings.fast_path
    sizes = Sizes(wanted.max_authorized_users, wanted.max_bound_users)
    keep: Pins | None = pins
    try:
        pins.prepare()
    except UnavailableError as error:
        if wanted.mode == "require":
            raise
        _log.warning(str(error))
        keep = None
    program: KernelProgram | None = None
    fast_path: FastPath | None = None
    try:
        program, adopt = _load(settings, sizes, keep)
        fast_path = FastPath(
            settings=settings,
            engine=engine,
            endpoints=endpoints,
            program=program,
            pins=keep,
            adopt=adopt,
            later=later,
            kept=kept,
        )
        problems = fast_path.interfaces.attach_all(pins.links() if keep is not None and adopt else {})
    except OSError as error:
        if fast_path is not None:
            # Else it would go on following the table, and forwarding where it was attached, with nobody to count it.
            with suppress(OSError):
                fast_path.stop(remove=True)
        elif program is not None:
            program.close()
        raise UnavailableError(f"the fast path cannot be set up in {pins.folder}: {error.strerror}") from None
    except LibraryMissingError as error:
        # Pinned maps are opened before a program is loaded.
        raise UnavailableError(str(error)) from None
    waits = fast_path.interfaces.links or fast_path.interfaces.awaited
    if problems and (wanted.mode == "require" or not waits):
        fast_path.stop(remove=True)
        raise UnavailableError("\n".join(problems))
    for problem in problems:
        _log.warning(problem)
    return fast_path


def _load(settings: Settings, sizes: Sizes, pins: Pins | None) -> tuple[KernelProgram, bool]:
    """The program with the maps that are pinned, and True; or with new ones, and False, where those do not fit."""
    if pins is None:
        return KernelProgram.load(sizes), False
    pinned = pins.maps()
    try:
        why = misfit(pinned, control(settings, layout.ControlFlag(0)), sizes)
        if not why:
            return KernelProgram.load(sizes, {name: one.fd for name, one in pinned.items()}), True
    finally:
        for one in pinned.values():
            os.close(one.fd)
    if pins.exist():
        _log.info("pinned state of an earlier fast path does not fit: it is replaced", why=why)
        pins.remove()
        pins.prepare()
    program = KernelProgram.load(sizes)
    try:
        for one in program.maps.values():
            pins.pin_map(one)
    except OSError:
        program.close()
        raise
    return program, False


def _remove_leftovers(pins: Pins) -> None:
    try:
        if not pins.exist():
            return
    except OSError:
        return  # no right to look there, or no such folder: nothing there can be this relay's
    try:
        pins.remove()
    except (OSError, LibraryMissingError) as error:
        _log.warning("pinned state of an earlier fast path cannot be removed", why=str(error))
    else:
        _log.info("pinned state of an earlier fast path is removed")
