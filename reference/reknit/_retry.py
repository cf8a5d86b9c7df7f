"""When to ask again, and how long to wait first. Pure: the clock and the dice are handed in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# RFC 9110 §15.5.9 (408) and §15.6; RFC 6585 §4 (429); RFC 8470 §5.2 (425). 498 is Swift's rate limit.
# Everything else in 4xx, and 501 or 505, is an answer, not a mishap.
RETRYABLE = frozenset({408, 425, 429, 498, 500, 502, 503, 504})

# Answers that new credentials or a new link can turn round (RFC 9110 §15.5.2, §15.5.4, §15.5.11).
RENEWABLE = frozenset({401, 403, 410})


@dataclass(frozen=True, slots=True)
class Limits:
    """How long to keep trying. Times in seconds."""

    attempts: int = 6
    """Failures in a row without a new byte in the sink."""
    restarts: int = 2
    """How often the whole may begin again because the object changed."""
    base: float = 0.5
    cap: float = 30.0
    retry_after_cap: float = 120.0
    """The longest Retry-After that is honoured in full: a wait has to end (RFC 9110 §10.2.3 sets no limit).
    """


def times(failures: int) -> str:
    """`1 failure`, `2 failures`."""
    return f"{failures} failure{'' if failures == 1 else 's'}"


def backoff(failures: int, base: float, cap: float, roll: float) -> float:
    """Seconds to wait: full jitter over an exponential window.

    `failures` counts failures in a row (1 for the first), `roll` is in [0, 1). Full jitter spreads clients
    that were cut off together (AWS Architecture Blog, "Exponential Backoff And Jitter").
    """
    return roll * min(cap, base * 2.0 ** min(failures - 1, 30))


def retry_after(headers: Mapping[str, str], now: float) -> float:
    """The Retry-After of an answer in seconds from `now` (epoch seconds), 0 when there is none (§10.2.3)."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return 0.0
    if value.isdecimal():
        return float(value)
    from email.utils import parsedate_to_datetime  # rarely needed, and slow to import

    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, OverflowError):
        return 0.0
