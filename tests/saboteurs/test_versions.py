"""Whether the scenarios of a versioned bucket catch what they should, on a store that has one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _zoo import HERE, Row, Zoo, spread, versioned

from midstream._verdict import FINE

SPLICERS = ("forgets_the_validator", "goes_on_with_the_new_version")


@pytest.fixture(scope="module")
def moto() -> Iterator[Zoo]:
    with Zoo("moto") as zoo:
        yield zoo


def rows(zoo: Zoo, name: str, most: int) -> list[Row]:
    cases = [(loaded, variant) for loaded in versioned() for variant in spread(loaded, most)]
    return zoo.run(f"py:{HERE / 'sins.py'}:{name}", cases, deadline=30)


@pytest.mark.parametrize("name", ["fetch", "in_parts"])
def test_the_correct_client_is_never_accused(moto: Zoo, name: str) -> None:
    """One that binds by If-Match is right here, though it never names a version."""
    assert [row for row in rows(moto, name, 9) if row.verdict not in FINE] == []


@pytest.mark.parametrize("name", SPLICERS)
def test_a_splice_of_two_versions_is_caught(moto: Zoo, name: str) -> None:
    """A client that binds by nothing gets the newest version, and is told so."""
    found = rows(moto, name, 9)
    assert not [row for row in found if row.level == "harness"]
    spliced = {row.scenario for row in found if row.verdict == "spliced"}
    assert spliced >= {"versioned-replaced-before-the-rest", "versioned-replaced-is-had-whole"}
