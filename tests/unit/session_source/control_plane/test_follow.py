"""Following a control plane: what is asked, what is applied, what is said, and when; on a clock that jumps."""

import asyncio
import itertools
from typing import Any

import pytest
from structlog.testing import capture_logs

from relayd.core.source_status import Load
from relayd.core.wire import State
from relayd.session_source.control_plane.link import NO_FLEET, FleetSockets, LinkError, Version
from tests.support.links import FakeLink, session
from tests.support.virtual_loop import now, run, turns, until
from tests.unit.session_source.control_plane.worlds import HOLD_SECONDS, POLL_SECONDS, World


def gaps(times: list[float]) -> list[float]:
    return [after - before for before, after in itertools.pairwise(times)]


def test_what_is_there_is_applied_whole_and_confirmed_at_once() -> None:
    async def work() -> None:
        world = World()
        world.link.put(*(session(number) for number in range(5)))
        began = now()
        async with world.running():
            await until(lambda: len(world.link.reports) >= 2)
            assert now() - began < 0.1, "the control plane is to know at once"
            assert world.table.replaced == 1, "five sessions in three parts are one state"
            assert world.ids() == {f"game-{number}" for number in range(5)}
            assert [report.applied for report in world.link.reports[:2]] == [None, world.link.version]
            assert (world.status.problem, world.status.followed, world.status.failures) == (None, True, 0)
        assert world.link.closed

    run(work())


def test_news_are_applied_while_the_answer_is_held_back() -> None:
    async def work() -> None:
        world = World()
        world.link.put(session(1), session(2))
        async with world.running():
            await asyncio.sleep(1.0)
            asked = len(world.link.reports)
            world.link.put(session(3))
            world.link.remove("game-1")
            await turns(50)
            assert world.ids() == {"game-2", "game-3"}
            assert world.table.replaced == 1, "only what changed is read"
            assert len(world.link.reports) == asked + 1, "and confirmed"
            assert world.link.reports[-1].applied == world.link.version

    run(work())


def test_what_a_list_repeats_is_not_kept_again() -> None:
    class NoDisk:
        def __init__(self) -> None:
            self.changes: list[Version | None] = []

        async def load(self) -> None:
            return None

        async def keep(self) -> None:
            await asyncio.Event().wait()

        def changed(self, version: Version | None) -> None:
            self.changes.append(version)

    async def work() -> None:
        keeper: Any = NoDisk()
        world = World(FakeLink(revisions=False), keeper)
        world.link.put(session(1))
        async with world.running():
            await asyncio.sleep(60.0)
            assert len(world.link.readings) > 10
            assert keeper.changes == [None]
            world.link.put(session(2))
            await asyncio.sleep(60.0)
            assert keeper.changes == [None, None]

    run(work())


def test_with_nothing_new_it_asks_once_an_interval() -> None:
    async def work() -> None:
        world = World()
        async with world.running():
            await asyncio.sleep(60.0)
        pauses = [
            after - before for before, after in zip(world.link.beats_at[2:], world.link.beats_at[3:], strict=False)
        ]
        assert pauses
        assert set(world.link.waits[2:]) == {POLL_SECONDS}
        assert pauses == pytest.approx([POLL_SECONDS] * len(pauses))
        assert world.link.readings == [None], "what it has is not read again"

    run(work())


def test_the_age_of_what_it_knows_goes_on_while_nothing_answers() -> None:
    async def work() -> None:
        world = World()
        world.link.put(session(1))
        async with world.running():
            await asyncio.sleep(10.0)
            assert world.status.fresh_at is not None
            fresh_at = world.status.fresh_at
            assert fresh_at > now() - POLL_SECONDS - 0.1
            world.link.failure = LinkError("away")
            await asyncio.sleep(100.0)
            assert world.status.fresh_at - fresh_at <= POLL_SECONDS + 0.1
            assert world.status.problem == "away"
            assert world.ids() == {"game-1"}, "the last good table serves"

    run(work())


def test_a_control_plane_that_fails_is_left_alone_longer_each_time_and_said_once() -> None:
    async def work() -> None:
        world = World()
        world.link.failure = LinkError("away")
        with capture_logs() as logs:
            async with world.running():
                await asyncio.sleep(300.0)
                beats = world.link.beats_at
                pauses = gaps(beats)
                assert pauses[0] <= 0.5
                assert all(0.25 * 2**number <= pause <= 0.5 * 2**number for number, pause in enumerate(pauses[:6]))
                assert all(15.0 <= pause <= 30.0 for pause in pauses[6:])
                assert world.status.failures == len(beats)
                world.link.failure = None
                await asyncio.sleep(31.0)
                assert world.status.problem is None
                world.link.failure = LinkError("away")
                await until(lambda: world.status.problem)
                failed_at = now()
                world.link.failure = None
                await until(lambda: not world.status.problem)
                assert now() - failed_at <= POLL_SECONDS + 1.0, "it begins anew after it worked"
        said = [line["event"] for line in logs]
        assert said.count("control plane not followed, the table stays as it was") == 2
        assert said.count("control plane followed again") == 2

    run(work())


def test_it_waits_as_long_as_the_control_plane_asks() -> None:
    async def work() -> None:
        world = World()
        world.link.failure = LinkError("too busy", 77.0)
        async with world.running():
            await asyncio.sleep(100.0)
        first, second = world.link.beats_at[:2]
        assert second - first == pytest.approx(77.0)

    run(work())


def test_a_reload_asks_at_once_even_one_that_failed() -> None:
    async def work() -> None:
        world = World()
        world.link.failure = LinkError("away", 250.0)
        async with world.running():
            await asyncio.sleep(1.0)
            assert len(world.link.beats_at) == 1
            world.link.failure = None
            world.link.put(session(1))
            world.source.reload()
            await turns(100)
            assert world.ids() == {"game-1"}

    run(work())


def test_what_ended_is_reported_until_somebody_took_it() -> None:
    async def work() -> None:
        world = World()
        world.link.put(session(1), session(2))
        async with world.running():
            await asyncio.sleep(5.0)
            world.link.failure = LinkError("away")
            world.source.session_ended("game-1")
            await asyncio.sleep(20.0)
            assert ("game-1",) in [report.ended for report in world.link.reports], "asked at once"
            world.link.failure = None
            await asyncio.sleep(60.0)
            ended = [report.ended for report in world.link.reports]
            last = max(number for number, one in enumerate(ended) if one)
            assert ended[last] == ("game-1",)
            assert set(ended[last + 1 :]) == {()}, "once taken, it is not said again"

    run(work())


def test_what_ended_is_told_at_once_and_not_held_back() -> None:
    async def work() -> None:
        world = World()
        async with world.running():
            await asyncio.sleep(POLL_SECONDS * 5.5)
            began = now()
            world.source.session_ended("game-1")
            await until(lambda: any(report.ended for report in world.link.reports))
            told = next(number for number, report in enumerate(world.link.reports) if report.ended)
            assert world.link.waits[told] == 0.0
            assert now() - began <= POLL_SECONDS + 0.1

    run(work())


def test_very_many_that_ended_are_reported_in_turn_oldest_first() -> None:
    async def work() -> None:
        world = World()
        async with world.running():
            await asyncio.sleep(1.0)
            for number in range(1200):
                world.source.session_ended(f"game-{number}")
            await asyncio.sleep(30.0)
        told = [report.ended for report in world.link.reports if report.ended]
        assert [len(one) for one in told] == [500, 500, 200]
        assert [name for one in told for name in one] == [f"game-{number}" for number in range(1200)]

    run(work())


def test_what_is_forgotten_first_is_what_ended_first() -> None:
    async def work() -> None:
        world = World()
        world.link.failure = LinkError("away for days")
        for number in range(100_003):
            world.source.session_ended(f"game-{number}")
        async with world.running():
            await turns(20)
            told = world.link.reports[0].ended
        assert told[0] == "game-3", "100,000 are kept"

    run(work())


def test_a_control_plane_that_lost_its_data_is_read_anew() -> None:
    async def work() -> None:
        world = World()
        world.link.put(session(1), session(2), session(3))
        async with world.running():
            await asyncio.sleep(5.0)
            world.link.remove("game-3")
            world.link.begin_anew("second")
            await asyncio.sleep(5.0)
            assert world.table.replaced == 2
            assert world.ids() == {"game-1", "game-2"}
            assert world.link.reports[-1].applied == world.link.version

    run(work())


def test_most_sessions_gone_at_once_is_believed_only_after_a_while() -> None:
    async def work() -> None:
        world = World()
        world.link.put(*(session(number) for number in range(10)))
        async with world.running():
            await asyncio.sleep(5.0)
            world.link.remove(*(f"game-{number}" for number in range(9)))
            world.link.begin_anew("restored from a backup")
            await asyncio.sleep(HOLD_SECONDS - 5.0)
            assert len(world.ids()) == 10
            assert "lacks 9 of 10" in (world.status.problem or "")
            beats = world.link.beats_at[-3:]
            assert beats[2] - beats[1] == pytest.approx(POLL_SECONDS), "a doubt is no failure of the control plane"
            await asyncio.sleep(10.0)
            assert world.ids() == {"game-9"}
            assert world.status.problem is None

    run(work())


def test_sessions_that_contradict_each_other_change_nothing_and_are_read_anew() -> None:
    async def work() -> None:
        world = World()
        world.link.put(session(1), session(2))
        async with world.running():
            await asyncio.sleep(5.0)
            twin = session(1)._replace(session_id="twin")
            world.link.put(twin)
            await turns(50)
            assert world.ids() == {"game-1", "game-2"}
            assert "contradicts itself" in (world.status.problem or "")
            world.link.remove("game-1")
            await asyncio.sleep(40.0)
            assert world.link.readings[-1] is None, "what it has is not trusted any more: all is read"
            assert world.ids() == {"game-2", "twin"}

    run(work())


def test_a_defect_is_logged_with_its_traceback_and_the_next_attempt_goes_on() -> None:
    async def work() -> None:
        world = World()
        world.link.failure = ZeroDivisionError("nobody thought of it")
        with capture_logs() as logs:
            async with world.running():
                await asyncio.sleep(0.1)
                assert world.status.problem == "a defect (ZeroDivisionError), see the log"
                world.link.failure = None
                world.link.put(session(1))
                await asyncio.sleep(5.0)
                assert world.ids() == {"game-1"}
        assert any(line.get("exc_info") for line in logs)

    run(work())


def test_an_unknown_player_is_asked_about_and_denied_when_the_answer_lacks_it() -> None:
    async def work() -> None:
        world = World()
        world.link.put(session(1))
        async with world.running():
            await asyncio.sleep(POLL_SECONDS * 4.3)
            asked = len(world.link.reports)
            assert world.source.lookups.state_of(7, 101, now()) is State.CHECKING
            await asyncio.sleep(POLL_SECONDS + 1.0)
            assert len(world.link.reports) > asked
            assert world.source.lookups.state_of(7, 101, now()) is State.INVALID

    run(work())


def test_however_many_are_unknown_five_questions_a_second_are_asked() -> None:
    async def work() -> None:
        world = World()
        async with world.running():
            await asyncio.sleep(10.0)
            asked, began = len(world.link.reports), now()
            while now() - began < 4.0:
                world.source.lookups.state_of(int(now() * 1000), 9, now())
                await asyncio.sleep(0.01)
            assert 2 <= len(world.link.reports) - asked <= 5 * 4 + 3

    run(work())


def test_a_drain_is_told_and_what_was_told_is_remembered() -> None:
    async def work() -> None:
        world = World()
        async with world.running():
            await asyncio.sleep(3.0)
            assert world.status.told_draining is False
            world.load = Load(17, True)
            await asyncio.sleep(2 * POLL_SECONDS)
            assert world.link.reports[-1].load == Load(17, True)
            assert world.status.told_draining is True

    run(work())


def test_reading_very_much_does_not_silence_the_heartbeats() -> None:
    async def work() -> None:
        link = FakeLink()
        world = World(link)
        async with world.running():
            await asyncio.sleep(3.0)
            link.between_parts_seconds = 1.0
            link.put(*(session(number) for number in range(60)))
            await asyncio.sleep(40.0)
            assert len(world.ids()) == 60
        assert max(gaps(link.beats_at)) < 10.0, "after 10 s of silence a relay is taken for dead"
        assert min(world.link.waits) == 0.0

    run(work())


def test_where_there_are_no_revisions_the_whole_list_is_read_each_time() -> None:
    async def work() -> None:
        link = FakeLink(revisions=False)
        world = World(link, load=Load(3, True))
        link.put(session(1))
        async with world.running():
            await asyncio.sleep(POLL_SECONDS * 3.5)
            assert world.ids() == {"game-1"}
            link.put(session(2))
            await asyncio.sleep(POLL_SECONDS)
            assert world.ids() == {"game-1", "game-2"}
        assert len(link.readings) == 5
        assert set(link.readings) == {None}
        assert world.status.told_draining is None, "it is told nothing"

    run(work())


def test_a_list_that_takes_long_to_read_is_not_read_all_the_time() -> None:
    async def work() -> None:
        link = FakeLink(page_sessions=1, revisions=False)
        link.put(*(session(number) for number in range(10)))
        link.between_parts_seconds = 1.0
        world = World(link)
        async with world.running():
            await asyncio.sleep(100.0)
        assert len(link.readings) == 5, "as long a pause as the ten seconds that it took"

    run(work())


def test_one_that_hangs_is_left_when_the_relay_ends() -> None:
    async def work() -> None:
        world = World()
        world.link.hangs = True
        async with world.running():
            await asyncio.sleep(100.0)
            assert len(world.link.reports) == 1
        assert world.link.closed

    run(work())


def test_the_first_question_about_an_unknown_player_waits_for_nothing() -> None:
    async def work() -> None:
        world = World()
        async with world.running():
            await asyncio.sleep(POLL_SECONDS * 4.3)
            asked = len(world.link.reports)
            world.source.lookups.state_of(7, 101, now())
            await until(lambda: len(world.link.reports) > asked)
            assert world.link.waits[asked] == 0.0, "a second one would wait, for the sake of the control plane"

    run(work())


def test_a_control_plane_that_holds_nothing_back_is_asked_no_more_often() -> None:
    async def work() -> None:
        world = World()
        world.link.holds_back = False
        async with world.running():
            await asyncio.sleep(60.0)
        pauses = gaps(world.link.beats_at[2:])
        assert pauses == pytest.approx([POLL_SECONDS] * len(pauses))
        assert len(pauses) > 20

    run(work())


def test_what_ended_is_told_at_once_to_one_that_holds_nothing_back_too() -> None:
    async def work() -> None:
        world = World()
        world.link.holds_back = False
        async with world.running():
            await asyncio.sleep(POLL_SECONDS * 4.5)
            ended_at = now()
            world.source.session_ended("game-1")
            await until(lambda: any(report.ended == ("game-1",) for report in world.link.reports))
            assert now() - ended_at < 0.3

    run(work())


def test_however_long_the_interval_it_is_heard_every_five_seconds() -> None:
    async def work() -> None:
        world = World(poll_seconds=60.0)
        async with world.running():
            await asyncio.sleep(60.0)
        pauses = gaps(world.link.beats_at[2:])
        assert pauses == pytest.approx([5.0] * len(pauses))
        assert len(pauses) >= 9

    run(work())


def test_the_sockets_of_other_relays_are_taken_once_each_time_they_change() -> None:
    async def work() -> None:
        world = World()
        first, second = (FleetSockets(name, frozenset({("203.0.113.9", port)})) for name, port in (("a", 1), ("b", 2)))
        world.link.fleet = first
        async with world.running():
            await asyncio.sleep(4 * POLL_SECONDS)
            assert world.table.fleets == [first.sockets]
            world.link.fleet = second
            await asyncio.sleep(4 * POLL_SECONDS)
            assert world.table.fleets == [first.sockets, second.sockets]
        assert [world.link.reports[at].fleet for at in (0, 1, -1)] == [NO_FLEET, "a", "b"]

    run(work())
