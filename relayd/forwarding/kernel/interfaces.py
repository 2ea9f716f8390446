"""The program on the interfaces of the settings: put on, taken up again where they come back, watched for losses."""

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence

import structlog

from relayd.core.verdict import Verdict
from relayd.core.views import InterfaceState, InterfaceView
from relayd.core.wire import Port
from relayd.errors import UnavailableError
from relayd.forwarding.kernel.attach import Link, attach, attached_mode, detach, examine, exchange, link_ifindex
from relayd.forwarding.kernel.attached import Attached, Seen, indexes_by_name, survey
from relayd.forwarding.kernel.counters import Totals
from relayd.forwarding.kernel.interface_counters import Moved
from relayd.forwarding.kernel.loss import LossWatch
from relayd.forwarding.kernel.pins import Pins
from relayd.forwarding.kernel.program import KernelProgram

_LOOK_SECONDS = 1.0
_TRIAL_LOOK_SECONDS = 0.1

_log = structlog.get_logger()


class Interfaces:
    """The interfaces of the settings.

    Args:
        names: theirs.
        program: what is put on them.
        pins: where links are kept; None for nowhere.
        totals: what the program counted.
        serving: how many bindings the program serves.
        clock: in seconds.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        program: KernelProgram,
        pins: Pins | None,
        totals: Totals,
        serving: Callable[[], int],
        clock: Callable[[], float],
    ) -> None:
        self.lost = 0
        """Of what the program counted as forwarded or answered."""
        self._names = list(dict.fromkeys(names))
        self._program = program
        self._pins = pins
        self._totals = totals
        self._serving = serving
        self._clock = clock
        self._on: dict[str, Attached] = {}
        self._why_off: dict[str, str] = {}
        """Why the program is not on an interface; told once."""
        self._away: set[str] = set()
        self._refused: dict[str, int] = {}
        """Indexes of interfaces that the kernel did not take it on: it is not asked again."""
        self._lost: dict[str, int] = dict.fromkeys(self._names, 0)
        self._lost_at: dict[str, float] = dict.fromkeys(self._names, 0.0)
        self._sent_before = 0
        self._sent = 0

    @property
    def links(self) -> list[Link]:
        """The program on each interface that it was put on."""
        return [self._on[name].link for name in self._names if name in self._on]

    @property
    def awaited(self) -> bool:
        """Whether some are not there, and are taken up when they come."""
        return bool(self._away)

    @property
    def up(self) -> bool:
        """Whether the kernel forwards on all of them."""
        return bool(self._names) and all(view.state is InterfaceState.FORWARDS for view in self.views())

    @property
    def some_left_to_sockets(self) -> bool:
        """Whether the program is on one that it must not send by."""
        return any(not one.watch.forwards and not one.taken_off for one in self._on.values())

    def views(self) -> list[InterfaceView]:
        """How each of them stands."""
        return [self._view(name) for name in self._names]

    # Put on and taken off -------------------------------------------------------------------------------------

    def attach_all(self, pinned: dict[str, int]) -> list[str]:
        """Puts the program on all of them.

        Args:
            pinned: links of the predecessor, by interface.

        Returns:
            What was not available, a line each.
        """
        indexes = indexes_by_name()
        for interface in self._names:
            fd = pinned.pop(interface, None)
            if fd is not None and link_ifindex(fd) != indexes.get(interface):
                self._let_go(interface, fd)
                fd = None
            if self._put_on(interface, fd, indexes.get(interface, 0)) and fd is None:
                self._pin(interface)
        for interface, fd in pinned.items():
            self._let_go(interface, fd)
        self._write()
        self._sent_before = self._sent_by_program()
        return list(self._why_off.values())

    def stop(self, *, remove: bool) -> None:
        """Closes the links; with ``remove`` the program is taken off before."""
        for link in self.links:
            if remove:
                detach(link.fd)
            os.close(link.fd)

    def _put_on(self, interface: str, fd: int | None, ifindex: int) -> bool:
        """By a link that there is, or by a new one. Returns whether it is on; `_why_off` says why not."""
        try:
            if fd is not None:
                link = self._take_over(interface, fd)
            else:
                examine(interface)
                self._refused[interface] = ifindex
                link = attach(self._program.fd, interface)
        except UnavailableError as error:
            self._why_off[interface] = str(error)
            if not ifindex:
                self._away.add(interface)
            return False
        self._on[interface] = Attached(link, self._clock())
        self._why_off.pop(interface, None)
        self._refused.pop(interface, None)
        _log.info("fast path is on", interface=interface, mode=link.mode.name.lower(), why=link.why_not_native)
        return True

    def _pin(self, interface: str) -> None:
        if self._pins is not None:
            self._pins.pin_link(interface, self._on[interface].link.fd)

    def _pin_if_possible(self, interface: str) -> None:
        try:
            self._pin(interface)
        except OSError as error:
            _log.warning(
                "the fast path on an interface cannot be kept, and ends with this process",
                interface=interface,
                why=str(error),
            )

    def _take_over(self, interface: str, fd: int) -> Link:
        exchange(fd, self._program.fd)
        ifindex = link_ifindex(fd)
        return Link(interface, ifindex, attached_mode(ifindex), fd)

    def _let_go(self, interface: str, fd: int) -> None:
        detach(fd)
        os.close(fd)
        if self._pins is not None:
            self._pins.unpin_link(interface)

    def _write(self) -> None:
        """Tells the program by which interfaces it may send."""
        interfaces = self._program.map("interfaces")
        modes = {
            one.link.ifindex.to_bytes(4, "little"): int(one.link.mode).to_bytes(4, "little")
            for one in self._on.values()
            if one.sends
        }
        for key in {key for key, _ in interfaces.items()} - modes.keys():
            interfaces.delete(key)
        for key, mode in modes.items():
            interfaces.update(key, mode)

    # Watched --------------------------------------------------------------------------------------------------

    @property
    def pause_seconds(self) -> float:
        """Until the next look: short where that may show that all is lost."""
        on_trial = any(one.watch.on_trial for one in self._on.values()) and self._serving()
        return _TRIAL_LOOK_SECONDS if on_trial else _LOOK_SECONDS

    async def look(self) -> bool:
        """Follows interfaces that came, went or lost something. Returns whether the program sends by others now."""
        # The kernel answers with a lock held that whatever sets up interfaces may hold for long.
        seen = await asyncio.to_thread(survey, dict(self._on))
        changed = self._note_losses(seen.moved)
        for interface in self._names:
            changed |= self._follow(interface, seen)
        if changed:
            self._write()
        return changed

    def _follow(self, interface: str, seen: Seen) -> bool:
        """Whether the program is put on an interface or let go of it."""
        ifindex = seen.indexes.get(interface, 0)
        one = self._on.get(interface)
        if one is None:
            return self._try_again(interface, ifindex)
        on = seen.links[interface]
        if one.taken_off or (on and on == ifindex):
            return False
        if not on and ifindex == one.link.ifindex:
            one.taken_off = True
            self._why_off[interface] = f"the program was taken off {interface}"
            _log.warning(
                "the fast path was taken off an interface; the sockets serve what comes in there", interface=interface
            )
            return True
        del self._on[interface]
        try:
            self._let_go(interface, one.link.fd)
        except OSError as error:
            _log.warning("what is pinned of an interface that is gone cannot be removed", why=str(error))
        self._away.add(interface)
        self._why_off[interface] = f"no interface {interface}"
        _log.warning("an interface of the fast path is gone; it is taken up again when it comes", interface=interface)
        return True

    def _try_again(self, interface: str, ifindex: int) -> bool:
        """Whether it can be put on now."""
        if not ifindex:
            self._away.add(interface)
            return False
        self._away.discard(interface)
        if self._refused.get(interface) == ifindex:
            return False
        before = self._why_off.get(interface)
        try:
            if self._put_on(interface, None, ifindex):
                self._pin_if_possible(interface)
        except OSError as error:
            self._why_off[interface] = f"{interface}: {error.strerror}"  # gone again, perhaps
        why = self._why_off.get(interface)
        if why is not None and why != before:
            _log.warning(why)
        return interface in self._on

    def _note_losses(self, moved: Mapping[str, Moved]) -> bool:
        """Counts what was lost, and whether that changes by which interfaces the program may send."""
        now = self._clock()
        sent_by_program = self._sent_by_program()
        sent = sent_by_program - self._sent_before
        self._sent_before = sent_by_program
        self._sent += sent
        changed = False
        for interface, counted in moved.items():
            one = self._on[interface]
            # Drivers count late, and what others send may be lost too: never more than there was.
            lost = min(counted.lost, self._sent - self.lost) if one.watch.counts else 0
            if lost:
                self.lost += lost
                self._lost[interface] += lost
                self._lost_at[interface] = now
            if one.watch.note(now, sent if counted.sent is None else counted.sent + lost, lost):
                self._say(interface, one.watch, lost)
                changed = True
        return changed

    def _say(self, interface: str, watch: LossWatch, lost: int) -> None:
        if watch.forwards:
            _log.info("fast path tries an interface again that lost what it sent", interface=interface)
            return
        _log.warning(
            "an interface loses what the fast path sends by it; the sockets serve what comes in there",
            interface=interface,
            lost=lost,
            again_in_seconds=round(watch.again_at - self._clock()),
            way_out=self._on[interface].way_out,
        )

    def _sent_by_program(self) -> int:
        self._totals.absorb()
        return sum(
            self._totals.by_kernel(port, verdict) for port in Port for verdict in (Verdict.FORWARDED, Verdict.ANSWERED)
        )

    def _view(self, interface: str) -> InterfaceView:
        lost, lost_at = self._lost[interface], self._lost_at[interface]
        one = self._on.get(interface)
        if one is None or one.taken_off:
            state = InterfaceState.AWAY if interface in self._away else InterfaceState.OFF
            problem = self._why_off.get(interface, "")
            return InterfaceView(interface, state, lost, lost_at, problem, self._what_brings_it_back(interface))
        way_out = one.way_out if lost else ""
        if one.watch.forwards:
            return InterfaceView(interface, InterfaceState.FORWARDS, lost, lost_at, "", way_out)
        again = max(0.0, one.watch.again_at - self._clock())
        problem = (
            f"{interface} lost {lost:,} datagrams that the kernel program sent by it: the sockets serve there, and the"
            f" program tries again in {again:.0f} s"
        )
        return InterfaceView(interface, InterfaceState.LOSES, lost, lost_at, problem, way_out)

    def _what_brings_it_back(self, interface: str) -> str:
        if interface in self._on:
            return "restart relayd to put it on again"
        if interface in self._away:
            return "it is taken up when it comes"
        if interface in self._refused:
            return "restart relayd when that has changed"
        return "it is taken up when that has changed"
