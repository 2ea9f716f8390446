"""Who is compared with whom: which subjects are relayd, which are peers, which peer is best."""

from collections.abc import Iterable, Mapping

from bench.results import Series

OURS = ("relayd", "relayd (fast path)", "relayd (plain)")
PEERS = ("nginx", "coturn", "asyncio")
"""Programs that forward as relayd does. The subject "direct" forwards nothing, so it is no peer."""
ORDER = (*OURS, *PEERS, "direct")


def in_order(subjects: Iterable[str]) -> list[str]:
    """Without doubles: the known ones as they are always shown, then the others as they come."""
    given = list(dict.fromkeys(subjects))
    return [subject for subject in ORDER if subject in given] + [s for s in given if s not in ORDER]


def best_peer(by_subject: Mapping[str, Series]) -> str | None:
    """The peer with the best median of one figure; None if there is no peer, or no better and worse."""
    peers = [by_subject[peer] for peer in PEERS if peer in by_subject]
    if not peers or peers[0].better == "none":
        return None
    choose = min if peers[0].better == "lower" else max
    return choose(peers, key=lambda series: series.median).subject


def ratio(by_subject: Mapping[str, Series], ours: str) -> float | None:
    """Median of ours divided by the best peer's, where both exist and the peer's is not 0."""
    peer = best_peer(by_subject)
    if peer is None or ours not in by_subject or by_subject[peer].median == 0:
        return None
    return by_subject[ours].median / by_subject[peer].median
