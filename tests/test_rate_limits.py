"""Token buckets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from homeserver.config import RateLimit, RateLimitsConfig
from homeserver.protocol.errors import LimitExceeded
from homeserver.rate_limits import RateLimits, address_key


class _Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def _allowed(limits: RateLimits, key: str = "a") -> bool:
    try:
        limits.use("message", key)
    except LimitExceeded:
        return False
    return True


def _limits(per_second: float, burst: int) -> tuple[RateLimits, _Clock]:
    clock = _Clock()
    return RateLimits(RateLimitsConfig(message=RateLimit(per_second=per_second, burst=burst)), clock), clock


def test_several_uses_at_once() -> None:
    """They count as so many, but never as more than a full bucket holds; refused, they count as none."""
    limits, clock = _limits(2, 3)
    limits.use("message", "a", 2)
    with pytest.raises(LimitExceeded):
        limits.use("message", "a", 2)
    assert [_allowed(limits) for _ in range(2)] == [True, False]
    clock.now += 1.5
    limits.use("message", "a", 100)
    assert not _allowed(limits)


def test_a_burst_and_then_the_rate() -> None:
    """As many as the burst at once, then one each time that the rate gives one back; others have their own."""
    limits, clock = _limits(2, 3)
    assert [_allowed(limits) for _ in range(4)] == [True, True, True, False]
    assert _allowed(limits, "b")
    clock.now += 0.5
    assert [_allowed(limits) for _ in range(2)] == [True, False]
    clock.now += 1000
    assert [_allowed(limits) for _ in range(4)] == [True, True, True, False]


@given(st.floats(0.01, 100), st.integers(1, 50), st.lists(st.floats(0, 100), max_size=50))
def test_the_rate_is_never_exceeded(per_second: float, burst: int, pauses: list[float]) -> None:
    """Over any time no more are let through than the burst and what the rate gave back meanwhile."""
    limits, clock = _limits(per_second, burst)
    done = 0
    for pause in pauses:
        clock.now += pause
        done += _allowed(limits)
        assert done <= burst + (clock.now - 1000) * per_second + 1e-3


@given(st.floats(0.01, 100), st.integers(1, 50))
def test_the_time_to_wait_is_right(per_second: float, burst: int) -> None:
    """Whoever waits as long as told is let through, and not much before."""
    limits, clock = _limits(per_second, burst)
    while _allowed(limits):
        pass
    with pytest.raises(LimitExceeded) as caught:
        limits.use("message", "a")
    assert 0 < caught.value.retry_after_ms <= 1000 / per_second + 2
    clock.now += caught.value.retry_after_ms / 1000
    assert _allowed(limits)


def test_limits_are_switched_off() -> None:
    """Each limit by itself, and all at once."""
    for config in (RateLimitsConfig(message=None), RateLimitsConfig(enabled=False)):
        limits = RateLimits(config, _Clock())
        assert all(_allowed(limits) for _ in range(1000))


def test_full_buckets_are_forgotten() -> None:
    """Memory does not grow with everyone who ever came by."""
    limits, clock = _limits(1, 1)
    for number in range(30_000):
        clock.now += 0.01
        _allowed(limits, str(number))
    assert len(limits._full_at) < 11_000


@pytest.mark.parametrize(
    ("address", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("", ""),
    ],
)
def test_what_counts_as_one_address(address: str, key: str) -> None:
    """An IPv4 address, or the /64 of an IPv6 address, of which one household has as many as it likes."""
    assert address_key(address) == key
