"""Whether the suite catches bad uploaders: a correct one is never accused, each sin is, by its name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import chain

import pytest
from _zoo import HERE, Row, Zoo, named_upload, spread, uploads
from sins import UPLOAD_SINS

from midstream._registry import names
from midstream._verdict import FINE

STORES = ("origin", "moto", "swift")
SLICES = 4
OF_UPLOADS = {"gap", "orphans", "part-list", "resent", "same-bytes", "status-query"}


@pytest.fixture(scope="session")
def zoos() -> Iterator[dict[str, Zoo]]:
    zoos = {name: Zoo(name).__enter__() for name in STORES}
    yield zoos
    for zoo in zoos.values():
        zoo.__exit__()


def driver(name: str) -> str:
    return f"put:{HERE / 'sins.py'}:{name}"


def explain(rows: list[Row]) -> str:
    return "\n".join(f"{row.place}: {row.verdict}: {row.diagnosis}" for row in rows)


@pytest.mark.parametrize("number", range(SLICES))
@pytest.mark.parametrize("store", STORES)
def test_the_correct_uploader_is_never_accused(zoos: dict[str, Zoo], store: str, number: int) -> None:
    """Whatever goes wrong, one that keeps the rules is fine, and so is the harness."""
    chosen = uploads(store)[number::SLICES]
    rows = zoos[store].run(driver("send"), [(s, v) for s in chosen for v in spread(s, 2)], deadline=30)
    wrong = [row for row in rows if row.verdict not in FINE]
    assert not wrong, explain(wrong)


@pytest.mark.parametrize("name", UPLOAD_SINS)
def test_a_saboteur_is_caught(zoos: dict[str, Zoo], name: str) -> None:
    """Each sin gets the verdict it deserves where it is meant to be caught, by the checks it offends."""
    sin = UPLOAD_SINS[name]
    assert sin.caught, "no scenario is named that catches it"
    rows: list[Row] = []
    for place, verdicts in sin.caught.items():
        here = zoos[sin.store].run(driver(name), named_upload(sin.store, place))
        rows += here
        assert {row.verdict for row in here if row.caught} & set(verdicts.split("|")), explain(here)
    assert not [row for row in rows if row.level == "harness"], explain(rows)
    assert set(sin.trips) <= set(chain.from_iterable(row.checks for row in rows))


def test_every_check_of_uploads_is_tripped() -> None:
    """No check about uploads goes without a saboteur that offends it."""
    assert set(names("checks")) >= OF_UPLOADS
    assert set(chain.from_iterable(sin.trips for sin in UPLOAD_SINS.values())) >= OF_UPLOADS


def test_a_sin_is_one_sentence() -> None:
    """The docstring of a saboteur says what it does wrong."""
    for name, sin in UPLOAD_SINS.items():
        assert re.fullmatch(r"[A-Z][^\n]+\.", sin.__doc__ or ""), name
