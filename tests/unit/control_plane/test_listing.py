"""Bookmarks: where pages begin."""

from relayd.control_plane.listing import KEPT_SECONDS, MOST_ENDS, MOST_PAGES, Bookmarks


def test_a_page_begins_behind_the_one_before() -> None:
    marks = Bookmarks()
    assert marks.before("me", 10, 1, 0.0) is None
    marks.ended("me", 10, 1, 25, 0.0)
    assert marks.before("me", 10, 2, 1.0) == 25
    assert marks.before("me", 10, 2, 2.0) == 25, "asked for again"
    assert marks.before("me", 10, 3, 2.0) is None
    for other in (("you", 10), ("me", 11)):
        assert marks.before(*other, 2, 2.0) is None


def test_of_several_readers_the_one_least_far_counts() -> None:
    marks = Bookmarks()
    marks.ended("me", 10, 1, 25, 0.0)
    marks.ended("me", 10, 1, 31, 1.0)
    assert [marks.before("me", 10, 2, 2.0) for _ in range(2)] == [25, 25]
    marks.ended("me", 10, 1, 40, 3.0)
    assert marks.before("me", 10, 2, 4.0) == 31, "the second of them may still be reading"


def test_an_end_that_was_followed_is_forgotten_once_somebody_reads_anew() -> None:
    marks = Bookmarks()
    marks.ended("me", 10, 1, 25, 0.0)
    assert marks.before("me", 10, 2, 1.0) == 25
    marks.ended("me", 10, 1, 70, 2.0)
    assert marks.before("me", 10, 2, 3.0) == 70


def test_nothing_is_kept_for_long_or_without_bound() -> None:
    marks = Bookmarks()
    marks.ended("me", 10, 1, 25, 0.0)
    assert marks.before("me", 10, 2, KEPT_SECONDS) == 25
    assert marks.before("me", 10, 2, KEPT_SECONDS + 1) is None
    for end in range(100, 100 + 2 * MOST_ENDS):
        marks.ended("me", 10, 5, end, 0.0)
    assert marks.before("me", 10, 6, 0.0) == 100
    for page in range(1, MOST_PAGES + 1):
        marks.ended("you", 10, page, page, 0.0)
    assert marks.before("me", 10, 6, 0.0) is None
    assert marks.before("you", 10, 2, 0.0) == 1
