"""Whether the scenarios for objects that the origin cannot make catch what they should, where they run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from _zoo import ELSEWHERE, HERE, Row, Zoo, laid_out, spread

from midstream._verdict import FINE

CAUGHT = [
    ("versioned", "forgets_the_validator", "versioned-replaced-before-the-rest", "spliced"),
    ("versioned", "goes_on_with_the_new_version", "versioned-replaced-is-had-whole", "spliced"),
    ("dlo", "forgets_the_validator", "dynamic-segment-changed-before-the-rest", "spliced"),
    ("dlo", "goes_on_with_the_new_version", "dynamic-segment-changed-before-the-rest", "spliced"),
    ("dlo", "takes_a_refused_range_for_done", "dynamic-segment-lost-before-the-rest", "truncated"),
]


@pytest.fixture(scope="module", params=ELSEWHERE)
def there(request: pytest.FixtureRequest) -> Iterator[tuple[str, Zoo]]:
    """A layout, and the zoo on the store that has it."""
    with Zoo(ELSEWHERE[request.param]) as zoo:
        yield request.param, zoo


def rows(zoo: Zoo, layout: str, name: str) -> list[Row]:
    cases = [(loaded, variant) for loaded in laid_out(layout) for variant in spread(loaded, 9)]
    return zoo.run(f"py:{HERE / 'sins.py'}:{name}", cases, deadline=30)


@pytest.mark.parametrize("name", ["fetch", "in_parts"])
def test_the_correct_client_is_never_accused(there: tuple[str, Zoo], name: str) -> None:
    """One that binds by the entity tag is right, though it knows nothing of versions or segments."""
    layout, zoo = there
    assert [row for row in rows(zoo, layout, name) if row.verdict not in FINE] == []


def test_a_sin_is_caught(there: tuple[str, Zoo]) -> None:
    """What is joined of two versions, or of two objects that segments make, is called so."""
    layout, zoo = there
    for name, scenario, verdict in (caught[1:] for caught in CAUGHT if caught[0] == layout):
        found = rows(zoo, layout, name)
        assert not [row for row in found if row.level == "harness"]
        assert (scenario, verdict) in {(row.scenario, row.verdict) for row in found}, (name, found)
