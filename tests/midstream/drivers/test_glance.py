"""glance_store's own drivers and reknit's, before the same cuts."""

from __future__ import annotations

import os

import pytest

from midstream._campaign import Campaign, Matrix
from midstream._catalog import bundled
from midstream._registry import load
from midstream._runner import Result
from midstream._scenario import parse_values
from midstream.drivers._spec import resolve

KNOWN = {scenario.id: scenario for scenario in bundled()}
CUT, LATER = "cut-mid-body[at=50%;end=rst]", "replaced-then-cut[at=50%;size=same]"
STOCK, OURS = "glance-stock", "glance-reknit"


@pytest.mark.parametrize(
    ("place", "store", "stock", "ours"),
    [
        (CUT, "origin", {"needless_failure"}, "pass"),
        (CUT, "moto", {"needless_failure"}, "pass"),
        (CUT, "swift", {"pass"}, "pass"),  # it resumes, and binds the rest to nothing:
        (LATER, "swift", {"spliced", "unsafe"}, "clean_failure"),
        ("slice-cut[at=500000;end=rst]", "origin", {"needless_failure"}, "pass"),
        ("damaged-body[damage=flip@50%:3]", "origin", {"corrupt"}, "clean_failure"),
        ("truncated-behind-a-gateway[at=50%;framing=length]", "origin", {"truncated"}, "clean_failure"),
    ],
)
def test_side_by_side(place: str, store: str, stock: set[str], ours: str) -> None:
    """What breaks the one is healed by the other, or is a clean error there."""
    drivers = [(resolve(name), "") for name in (STOCK, OURS)]
    if not drivers[0][0].available().available:
        (pytest.fail if os.environ.get("MIDSTREAM_CI") else pytest.skip)("glance_store is not installed")
    name, _, values = place.partition("[")
    loaded = KNOWN[name]
    results: list[Result] = []
    matrix = Matrix([loaded], drivers, [load("stores", store)], [load("injectors", "embedded")])
    matrix.only = loaded.variant(parse_values(values.removesuffix("]")))
    Campaign(matrix, results.append, jobs=1).run()
    found = {result.case.driver.id: result.judgement for result in results}
    assert found[STOCK].verdict.value in stock, found
    assert found[OURS].verdict.value == ours, found
