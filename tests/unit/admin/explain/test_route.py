"""Questions about players, sessions and addresses, asked of a relay in which something happened."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from relayd.admin.explain.causes import Cause
from relayd.core.desired import SessionSpec, UserSpec
from relayd.core.limits import Limits
from relayd.core.verdict import Verdict
from relayd.core.wire import Port, encode_host_data
from tests.support.admin_server import AdminWorld, FakeKernel, with_admin
from tests.support.relays import (
    ALICE,
    ALICE_AT,
    BOB,
    BOB_AT,
    HOST,
    HOST_AT,
    SERVER,
    SESSION,
    STRANGER_AT,
    spec,
)
from tests.support.virtual_loop import now

OTHER = SESSION + 1


class Asked:
    """An answer, and what there is to say of it."""

    def __init__(self, body: dict[str, Any]) -> None:
        self.body = body
        self.causes = [finding["code"] for finding in body["findings"]]
        self.verdicts = [one["verdict"] for one in body["refusals"]]
        self.changes = [one["what"] for one in body["changes"]]

    def has(self, cause: Cause) -> bool:
        return cause.value in self.causes


def asked(work: Callable[[AdminWorld], None], target: str, after_seconds: float = 1.0, **options: Any) -> Asked:
    """Lets something happen, and asks a while later."""
    found: list[Asked] = []

    async def ask(world: AdminWorld) -> None:
        world.source.started(now())
        work(world)
        await asyncio.sleep(after_seconds)
        world.source.succeeded(now())
        found.append(Asked(await world.explain(target)))

    with_admin(ask, **options)
    return found[0]


def play(world: AdminWorld) -> None:
    world.relay.host_pings()
    world.relay.player_pings()
    world.relay.player_sends()
    (connection_id,) = world.relay.table.sessions["game"].players
    world.relay.host_sends(connection_id)


@pytest.mark.parametrize("target", [str(ALICE), "game", str(SESSION), ALICE_AT[0], f"{ALICE_AT[0]}:{ALICE_AT[1]}"])
def test_one_that_gets_through_is_found_by_all_its_names(target: str) -> None:
    answer = asked(play, target)
    assert answer.has(Cause.GETS_THROUGH)
    assert str(ALICE) not in str(answer.body["findings"])
    assert "user bound" in answer.changes


def test_a_user_that_never_came() -> None:
    answer = asked(play, str(BOB))
    assert answer.has(Cause.NOT_HEARD)
    assert answer.verdicts == []


def test_nothing_is_known_of_a_token_that_nobody_has() -> None:
    answer = asked(play, "4711")
    assert not answer.has(Cause.GETS_THROUGH)
    assert answer.causes


def test_a_wrong_user_token_is_found_by_the_session_and_by_the_address() -> None:
    def wrong(world: AdminWorld) -> None:
        world.relay.host_pings()
        world.relay.player_pings(user=4711, source=STRANGER_AT)

    for target in ("game", STRANGER_AT[0], "4711"):
        answer = asked(wrong, target)
        assert answer.has(Cause.USER_TOKEN_UNKNOWN), target
        assert answer.verdicts == [Verdict.UNKNOWN_PAIR.label]
        assert answer.body["refusals"][0]["address"] == f"{STRANGER_AT[0]} {STRANGER_AT[1]}"


def test_a_token_of_another_session_names_that_one() -> None:
    def mixed_up(world: AdminWorld) -> None:
        world.relay.player_pings(user=77, session=SESSION)

    answer = asked(mixed_up, "77", specs=[spec(), spec("other", OTHER, (77,))])
    assert "other" in str(answer.body["findings"])


def test_tokens_that_were_exchanged_are_recognised() -> None:
    def exchanged(world: AdminWorld) -> None:
        world.relay.player_pings(user=SESSION, session=ALICE)

    answer = asked(exchanged, "game")
    assert answer.has(Cause.TOKENS_SWAPPED)


def test_a_session_token_that_nobody_knows_is_found_by_the_address() -> None:
    def unknown(world: AdminWorld) -> None:
        world.relay.player_pings(session=9999, source=STRANGER_AT)

    answer = asked(unknown, STRANGER_AT[0])
    assert answer.verdicts == [Verdict.UNKNOWN_PAIR.label]


def test_a_member_with_a_token_of_no_session_may_have_meant_this_one() -> None:
    def confused(world: AdminWorld) -> None:
        world.relay.player_pings(session=9999, source=STRANGER_AT)

    assert asked(confused, "game").verdicts == [Verdict.UNKNOWN_PAIR.label]


def test_a_player_whose_host_is_away() -> None:
    def alone(world: AdminWorld) -> None:
        world.relay.player_pings()
        world.relay.player_sends()

    answer = asked(alone, str(ALICE))
    assert answer.has(Cause.NO_HOST)


def test_a_session_that_ended_is_remembered_with_those_who_were_in_it() -> None:
    def ended(world: AdminWorld) -> None:
        play(world)
        world.relay.apply()
        world.relay.player_pings()

    answer = asked(ended, str(SESSION))
    assert "session removed by its source" in answer.changes
    assert answer.has(Cause.SESSION_ENDED)


def test_somebody_who_moved_and_came_back() -> None:
    def moved(world: AdminWorld) -> None:
        play(world)
        world.relay.now += 10.0
        world.relay.player_sends(source=(ALICE_AT[0], 6000))

    answer = asked(moved, str(ALICE), after_seconds=11.0)
    assert "user moved to another address" in answer.changes


def test_only_what_was_asked_about_is_shown() -> None:
    def two(world: AdminWorld) -> None:
        world.relay.player_pings(user=4711, source=STRANGER_AT)
        world.relay.player_pings(user=4712, source=(BOB_AT[0], 1))

    answer = asked(two, f"{STRANGER_AT[0]}:{STRANGER_AT[1]}")
    assert [one["address"] for one in answer.body["refusals"]] == [f"{STRANGER_AT[0]} {STRANGER_AT[1]}"]


def test_a_pinned_user_from_another_address() -> None:
    def elsewhere(world: AdminWorld) -> None:
        world.relay.player_pings(source=STRANGER_AT)

    specs = [SessionSpec("game", SESSION, (UserSpec(ALICE, ALICE_AT[0]),))]
    answer = asked(elsewhere, str(ALICE), specs=specs, limits=Limits(pin_ip=True))
    assert answer.has(Cause.ADDRESS_PINNED)


def test_a_connection_id_that_nobody_has() -> None:
    def wrong(world: AdminWorld) -> None:
        play(world)
        world.relay.send(SERVER, encode_host_data(HOST, SESSION, 4242, b"payload"), HOST_AT)

    assert asked(wrong, str(HOST)).verdicts == [Verdict.UNKNOWN_CONNECTION.label]


def test_the_counters_of_those_in_question_are_brought_up_to_date() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        await world.explain(str(ALICE))
        assert [[one.session_id for one in call] for call in world.absorbed] == [["game"]]

    with_admin(work, specs=[spec(), spec("other", OTHER, (77,))])


def test_what_the_kernel_dropped_in_somebodys_name() -> None:
    async def work(world: AdminWorld) -> None:
        play(world)
        binding = world.relay.user().client_binding
        assert binding is not None
        assert world.kernel is not None
        world.kernel.conflicting[binding] = 250
        world.kernel.counts[Port.CLIENT, Verdict.UNKNOWN_PAIR] = 3
        answer = Asked(await world.explain(str(ALICE)))
        assert "250" in str(answer.body["findings"])

    with_admin(work, kernel=FakeKernel())


def test_a_source_that_does_not_answer_is_said() -> None:
    async def work(world: AdminWorld) -> None:
        world.source.started(now())
        await asyncio.sleep(500.0)
        answer = Asked(await world.explain("4711"))
        assert "does not answer" in str(answer.body["findings"])

    with_admin(work)


def test_an_empty_question_is_refused() -> None:
    async def work(world: AdminWorld) -> None:
        assert (await world.client.get("/v1/explain", params={"target": " "})).status_code == 400
        assert (await world.client.get("/v1/explain")).status_code == 422

    with_admin(work)


def test_not_followed_and_draining_are_said_too() -> None:
    async def work(world: AdminWorld) -> None:
        world.relay.engine.draining = True
        world.relay.player_pings()
        answer = Asked(await world.explain(str(ALICE)))
        assert answer.has(Cause.DRAINING)

    with_admin(work)
