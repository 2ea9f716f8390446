"""Token buckets and the limiter of refusals against models that keep every take."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from relayd.core.limits import Limits, RefusalLimiter, TokenBucket

# Quarters of a second and rates of powers of two: exact in binary, so that model and bucket round alike.
pauses = st.integers(-8, 12).map(lambda quarters: quarters / 4)
rates = st.sampled_from([0, 1, 2, 4, 8])


class NaiveBucket:
    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self.takes: list[Fraction] = []
        self.begin = self.latest = Fraction(now)

    def level(self) -> Fraction:
        level, at = Fraction(self.rate), self.begin
        for take in self.takes:
            level = min(Fraction(self.rate), level + (take - at) * self.rate) - 1
            at = take
        return min(Fraction(self.rate), level + (self.latest - at) * self.rate)

    def take(self, now: float) -> bool:
        self.latest = max(self.latest, Fraction(now))
        if self.level() < 1:
            return False
        self.takes.append(self.latest)
        return True


@given(rates, st.lists(pauses, max_size=40))
def test_a_bucket_does_as_the_model(rate: int, steps: list[float]) -> None:
    now = 100.0
    bucket, naive = TokenBucket(rate, now), NaiveBucket(rate, now)
    for step in steps:
        now += step
        assert bucket.take(now) == naive.take(now)


@given(rates, st.lists(pauses.map(abs), max_size=40))
def test_a_bucket_lets_no_more_through_than_its_burst_and_rate(rate: int, steps: list[float]) -> None:
    now = 0.0
    bucket = TokenBucket(rate, now)
    passed = 0
    for step in steps:
        now += step
        passed += bucket.take(now)
        assert passed <= rate + rate * now


@given(
    rates,
    rates,
    st.integers(1, 3),
    st.lists(st.tuples(st.sampled_from("abcde"), pauses), max_size=60),
)
def test_the_limiter_does_as_the_model(
    total: int, per_source: int, max_sources: int, asked: list[tuple[str, float]]
) -> None:
    limits = Limits(refusals_per_second=total, refusals_per_source_per_second=per_source)
    limiter = RefusalLimiter(limits, max_sources)
    all_of_them, sources = NaiveBucket(total, 0.0), list[tuple[str, NaiveBucket]]()
    now = 100.0
    for source, step in asked:
        now += step
        known = [bucket for name, bucket in sources if name == source]
        if known:
            expected = known[0].take(now) and all_of_them.take(now)
        elif all_of_them.take(now):
            sources = [*sources, (source, NaiveBucket(per_source, now))][-max_sources:]
            expected = sources[-1][1].take(now)
        else:
            expected = False
        assert limiter.allows(source, now) == expected
        assert len(limiter._sources) <= max_sources
        assert list(limiter._sources) == [name for name, _ in sources]
