"""How fast a bucket gives tokens, by a clock that may jump."""

from __future__ import annotations

from vk_provider.aiokit.ratelimit import TokenBucket


def test_a_clock_that_is_set_back_takes_no_tokens_away() -> None:
    bucket = TokenBucket(1.0, 3.0, now=10_000.0)
    assert bucket.try_take(10_000.0)
    assert bucket.try_take(0.0) and bucket.try_take(0.0) and not bucket.try_take(0.0)
    assert bucket.try_take(1.0) and not bucket.try_take(1.0)
    assert bucket.take(1.0, 2.0) == 2.0
