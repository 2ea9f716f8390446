"""`GET /v1/explain`: the question over HTTP, the findings as JSON, tokens shortened."""

import asyncio
from collections.abc import Iterator

from fastapi import APIRouter, Response

from relayd.admin.answers import ExplainedCause, ExplainedChange, ExplainedRefusal, Explanation
from relayd.admin.explain.causes import Finding
from relayd.admin.explain.facts import Attempt, Change, LossFacts, RelayFacts
from relayd.admin.explain.findings import CURRENT_SECONDS, explain
from relayd.admin.explain.gather import gather
from relayd.admin.explain.target import read_target, what_is_wrong
from relayd.admin.responses import answered, said
from relayd.core.engine import Engine
from relayd.core.source_status import SourceStatus
from relayd.core.verdict import Verdict
from relayd.core.views import Absorb, InterfaceState, KernelView
from relayd.core.wire import Port
from relayd.log import short_token
from relayd.settings import Settings

_MOST_SHOWN = 50
_TOLD_SECONDS = 600.0
"""For so long it is told what an interface lost that does well again."""
_STALE_LOOKS = 3
"""After this many missed looks at the source, it counts as hanging."""


def explain_route(
    *, settings: Settings, engine: Engine, source: SourceStatus, absorb: Absorb, kernel: KernelView | None
) -> APIRouter:
    """The one route. `absorb` is called before counters are read."""
    router = APIRouter()

    @router.get("/v1/explain")
    async def answer(target: str) -> Response:
        now = asyncio.get_running_loop().time()
        question = read_target(target)
        wrong = what_is_wrong(question)
        if wrong is not None and not _names_a_session(engine, question.session_id):
            return said(wrong, 400)
        facts = relay_facts(settings, engine, source, kernel, now)
        situation = await gather(engine, facts, question, now=now, absorb=absorb, kernel=kernel)
        return answered(
            Explanation(
                target=situation.asked,
                findings=[_cause(one) for one in explain(situation)[:_MOST_SHOWN]],
                refusals=[_refusal(one) for one in sorted(situation.attempts, key=_ago)[:_MOST_SHOWN]],
                changes=[_change(one) for one in sorted(situation.changes, key=_ago)[:_MOST_SHOWN]],
            )
        )

    return router


def _names_a_session(engine: Engine, text: str) -> bool:
    """Whether it is the id of one that is there, or was."""
    table = engine.table
    return text in table.sessions or any(own.session_id == text for own in table.history.sessions.values())


def relay_facts(
    settings: Settings, engine: Engine, source: SourceStatus, kernel: KernelView | None, now: float
) -> RelayFacts:
    """What is true of the relay as a whole.

    Args:
        settings: its configuration.
        engine: its engine.
        source: how its session source stands.
        kernel: its fast path.
        now: on the event loop's clock.
    """
    age = now - source.fresh_at if source.fresh_at is not None else 0.0
    hangs = age > _STALE_LOOKS * settings.source.poll_interval + settings.source.timeout
    server_port, client_port = settings.relay.named_ports
    return RelayFacts(
        server_port=server_port,
        client_port=client_port,
        limits=settings.limits,
        loaded=engine.table.loaded,
        draining=engine.draining,
        source_problem=source.problem or ("it does not answer" if hangs else None),
        source_age_seconds=age,
        unknown_by_kernel=sum(kernel.by_kernel(port, Verdict.UNKNOWN_PAIR) for port in Port)
        if kernel is not None
        else 0,
        losses=tuple(_losses(kernel, now)) if kernel is not None else (),
    )


def _losses(kernel: KernelView, now: float) -> Iterator[LossFacts]:
    for one in kernel.interface_views:
        ago = max(0.0, now - one.lost_at)
        if one.lost and (one.state is InterfaceState.LOSES or ago < _TOLD_SECONDS):
            yield LossFacts(one.name, one.lost, ago, one.state is InterfaceState.FORWARDS, one.way_out)


def _ago(one: Attempt | Change) -> float:
    return one.last_seconds_ago


def _cause(finding: Finding) -> ExplainedCause:
    return ExplainedCause(
        code=finding.cause.value,
        sentence=finding.sentence,
        advice=finding.advice,
        last_seconds_ago=round(finding.last_seconds_ago, 3),
        current=finding.last_seconds_ago <= CURRENT_SECONDS,
    )


def _refusal(attempt: Attempt) -> ExplainedRefusal:
    return ExplainedRefusal(
        verdict=attempt.verdict.label,
        session_id=attempt.session_id,
        user=_shown(attempt.user_token),
        session=_shown(attempt.session_token),
        port=attempt.port.label,
        address=f"{attempt.ip_address} {attempt.udp_port}",
        datagrams=attempt.datagrams,
        first_seconds_ago=round(attempt.first_seconds_ago, 3),
        last_seconds_ago=round(attempt.last_seconds_ago, 3),
    )


def _shown(token: int | None) -> str | None:
    return short_token(token) if token is not None else None


def _change(change: Change) -> ExplainedChange:
    return ExplainedChange(
        what=change.kind.value,
        session_id=change.session_id,
        user=_shown(change.user_token),
        port=change.port.label if change.port is not None else None,
        address=f"{change.ip_address} {change.udp_port}" if change.ip_address else None,
        times=change.times,
        seconds_ago=round(change.last_seconds_ago, 3),
    )
