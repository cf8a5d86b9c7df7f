"""Whether the suite catches a gateway that makes a fragment look whole, and clears one that does not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _zoo import HERE, Row, Zoo, named, spread

SCENARIOS = ("store-lost-for-good", "store-lost-and-length-unknown", "object-lost-for-good")


@pytest.fixture(scope="module")
def zoo() -> Iterator[Zoo]:
    with Zoo() as zoo:
        yield zoo


def run(zoo: Zoo, name: str) -> list[Row]:
    cases = [(loaded, v) for loaded, _ in map(named, SCENARIOS) for v in spread(loaded, 6)]
    return zoo.run(f"py:{HERE / 'gateways.py'}:{name}", cases, deadline=20)


@pytest.mark.parametrize("name", ["ends_cleanly", "serves_the_fragment"])
def test_a_fragment_that_looks_whole(zoo: Zoo, name: str) -> None:
    """Each of the scenarios tells it as a truncated object."""
    rows = run(zoo, name)
    assert not [row for row in rows if row.level == "harness"], rows
    assert {row.scenario for row in rows if row.verdict == "truncated"} == set(SCENARIOS), rows


def test_an_unclean_end(zoo: Zoo) -> None:
    """The gateway that resets what it cannot heal is a clean failure in all of them."""
    rows = run(zoo, "keeps_the_rules")
    assert {row.verdict for row in rows} == {"clean_failure"}, rows
