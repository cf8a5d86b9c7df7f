"""The check of Retry-After, over exchanges written by hand."""

from __future__ import annotations

import pytest

from midstream._evidence import Exchange, Facts
from midstream._registry import load
from midstream._verdict import Expectation, Outcome, Seen, Sink


def get(number: int, asked: str, status: int, at: float, retry_after: str | None = None) -> Exchange:
    fields = [("Range", asked)] if asked else []
    one = Exchange(1, number, "GET", "/o", "get_object", fields, status, 0, 0, retry_after=retry_after)
    one.started_at, one.ended_at = at, at + 0.01
    return one


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        ("", "", True),
        ("bytes=5-", "bytes=5-", True),
        ("bytes=5-", "", True),
        ("bytes=5-9", "bytes=5-9", True),
        ("bytes=5-9", "bytes=10-14", False),
    ],
)
def test_another_range_may_be_on_its_way(first: str, second: str, found: bool) -> None:
    """An early request breaks the rule, unless both are for ranges apart whose ends the driver chose."""
    exchanges = [get(1, first, 503, 0.0, "1"), get(2, second, 206, 0.1)]
    seen = Seen(Expectation(), Outcome("ok"), Sink(False), Facts(exchanges, [], {}, [], 1), 100, ())
    assert (load("checks", "retry-after").check(seen) is not None) is found
