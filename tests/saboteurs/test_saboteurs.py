"""Whether the suite catches what it should: correct clients are never accused, each sin is, by its name."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from itertools import chain

import pytest
from _zoo import HERE, Row, Zoo, cases_for, heavy, scenarios, spread, strict
from sins import SINS, UPLOAD_SINS

from midstream._registry import names
from midstream._verdict import FINE, Verdict

DOC = HERE.parents[1] / "docs" / "kill-matrix.md"
SLICES = 8
OTHERS = 10  # scenarios that a saboteur is let loose on besides its own


@pytest.fixture(scope="session")
def zoo() -> Iterator[Zoo]:
    with Zoo() as zoo:
        yield zoo


def driver(name: str) -> str:
    return f"py:{HERE / 'sins.py'}:{name}"


def explain(rows: list[Row]) -> str:
    return "\n".join(f"{row.place}: {row.verdict}: {row.diagnosis}" for row in rows)


@pytest.mark.parametrize("number", range(SLICES))
def test_the_correct_client_is_never_accused(zoo: Zoo, number: int) -> None:
    """Whatever goes wrong, a client that keeps the rules is fine, and so is the harness."""
    chosen = scenarios()[number::SLICES]
    rows = zoo.run(driver("fetch"), [(s, v) for s in chosen for v in spread(s, 2)], deadline=30)
    assert not [row for row in rows if row.verdict not in FINE], explain(
        [row for row in rows if row.verdict not in FINE]
    )


@pytest.mark.parametrize("number", range(SLICES // 2))
def test_the_correct_client_in_parts_is_never_accused(zoo: Zoo, number: int) -> None:
    """The one that splits keeps no journal, so runs after a kill are not for it."""
    chosen = [s for s in scenarios() if not heavy(s) and s.model.process.runs == 1]
    rows = zoo.run(driver("in_parts"), [(s, v) for s in chosen[number :: SLICES // 2] for v in spread(s, 1)])
    assert not [row for row in rows if row.verdict not in FINE], explain(
        [row for row in rows if row.verdict not in FINE]
    )


@pytest.mark.parametrize("name", SINS)
def test_a_saboteur_is_caught(zoo: Zoo, name: str) -> None:
    """Each sin gets the verdict it deserves where it is meant to be caught, by the checks it offends."""
    sin, number = SINS[name], list(SINS).index(name)
    assert sin.caught, "no scenario is named that catches it"
    own = list(cases_for(tuple(sin.caught), sin.slow, 1, others=False))
    others = [c for c in cases_for((), (), 1) if c[0].model.process.runs == 1]
    step = len(others) // OTHERS
    rows = zoo.run(driver(name), own + others[number % step :: step], sin.deadline or 8.0)
    assert not [row for row in rows if row.level == "harness"], explain(rows)
    for place, verdicts in sin.caught.items():
        here = [row for row in rows if place in (row.place, row.scenario)]
        assert {row.verdict for row in here if row.caught} & set(verdicts.split("|")), explain(here)
    assert set(sin.trips) <= set(chain.from_iterable(row.checks for row in rows if row.caught))


def test_every_verdict_is_deserved_by_a_saboteur() -> None:
    """No verdict against a driver goes without a saboteur that gets it."""
    deserved = {v for sin in SINS.values() for text in sin.caught.values() for v in text.split("|")}
    assert set(Verdict) - FINE - {Verdict.HARNESS_ERROR} <= deserved


def test_every_check_is_tripped_by_a_saboteur() -> None:
    """No check goes without a saboteur that offends it."""
    assert set(chain.from_iterable(sin.trips for sin in {**SINS, **UPLOAD_SINS}.values())) == set(
        names("checks")
    )


def test_a_sin_is_one_sentence() -> None:
    """The docstring of a saboteur says what it does wrong; the kill matrix shows it."""
    for name, sin in SINS.items():
        assert re.fullmatch(r"[A-Z][^\n]+\.", sin.__doc__ or ""), name


def test_the_kill_matrix_lists_the_zoo() -> None:
    """The generated page is of the saboteurs there are."""
    page = DOC.read_text(encoding="utf-8")
    listed = re.findall(r"^\| `([a-z_0-9]+)` \| [A-Z]", page, re.MULTILINE)
    assert listed == sorted(SINS) + sorted(UPLOAD_SINS)


def test_few_scenarios_catch_nobody() -> None:
    """A scenario that no saboteur trips may still find a real client out, but most should find one here."""
    tripped = set(re.findall(r"^\| `([a-z0-9-]+)` \| [1-9]", DOC.read_text(encoding="utf-8"), re.MULTILINE))
    meant = {s.id for s in scenarios() if strict(s)}
    if idle := sorted(meant - tripped):
        warnings.warn(f"{len(idle)} of {len(meant)} catch nobody: {', '.join(idle)}", stacklevel=1)
    assert len(idle) <= 0.3 * len(meant), "run tools/killmatrix.py, or add saboteurs"
