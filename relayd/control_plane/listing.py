"""Where pages of the list of sessions ended, so that the next one goes on there whatever was deleted meanwhile.

A page is asked for by its number, and counting from the front would skip as many sessions as were deleted there since
the page before was read. So a page begins behind the last session of the one before it, as that was answered to the
same key with the same `limit`. Where several readers share a key, the one least far counts: a session may come twice
then, and none is left out.
"""

from collections import OrderedDict

KEPT_SECONDS = 300.0
"""Between two pages of one reader."""

MOST_PAGES = 10_000
"""Remembered, of all readers; then those first read are forgotten."""

MOST_ENDS = 16
"""Of one page; then those farthest on are forgotten, which costs a repetition at most."""


class _End:
    """The end of a page: when it was read, and whether the page behind it was since."""

    __slots__ = ("at", "followed")

    def __init__(self, at: float) -> None:
        self.at = at
        self.followed = False


class Bookmarks:
    """Ends of pages that were read: by key, `limit` and page."""

    def __init__(self) -> None:
        self._pages: OrderedDict[tuple[str, int, int], dict[int, _End]] = OrderedDict()
        """By the number of the last session on it."""

    def before(self, reader: str, limit: int, page: int, now: float) -> int | None:
        """The number of the session behind which that page begins; None where nobody read the page before."""
        ends = self._pages.get((reader, limit, page - 1), {})
        least = min((number for number, end in ends.items() if now - end.at <= KEPT_SECONDS), default=None)
        if least is not None:
            ends[least].followed = True
        return least

    def ended(self, reader: str, limit: int, page: int, number: int, now: float) -> None:
        """That page was read up to the session of that number, and there are more behind it."""
        before = self._pages.pop((reader, limit, page), {})
        # Whoever was answered the page behind has no need of an end any more: somebody reads anew.
        ends = {one: end for one, end in before.items() if not end.followed and now - end.at <= KEPT_SECONDS}
        ends[number] = _End(now)
        self._pages[reader, limit, page] = dict(sorted(ends.items())[:MOST_ENDS])
        if len(self._pages) > MOST_PAGES:
            self._pages.popitem(last=False)
