"""Faults of the servers behind a store: on a store of the case's own, that is whole again afterwards."""

from __future__ import annotations

from typing import Any

import pytest

from midstream._campaign import Campaign, Matrix
from midstream._grounds import Grounds
from midstream._runner import Place, Result
from midstream._scenario import Loaded, load_text
from midstream._verdict import Verdict
from midstream.drivers._spec import resolve
from midstream.injectors.embedded import MEMBER as EMBEDDED
from midstream.stores import Store
from midstream.stores.origin import MEMBER, Origin, RunningOrigin


class Backed(Origin):
    """An origin that lets itself be told of its servers, and has none."""

    backends = 3


def scenario(*faults: str) -> Loaded:
    text = 'requirement = "What the servers behind a store do is survived."\nproperties = ["P1"]\n'
    return load_text("harm", f"{text}faults = {list(faults)}\n", "harm.toml")


def run(store: Store, *scenarios: Loaded, jobs: int = 1) -> list[Result]:
    results: list[Result] = []
    Campaign(
        Matrix(scenarios, [(resolve("reknit"), "")], [store], [EMBEDDED]), results.append, jobs=jobs
    ).run()
    return results


@pytest.fixture
def orders(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, int | None]]:
    """Which store was told to have how many servers."""
    told: list[tuple[Any, int | None]] = []
    monkeypatch.setattr(RunningOrigin, "run_backends", lambda store, count: told.append((store, count)))
    return told


def test_a_store_of_their_own(orders: list[tuple[Any, int | None]], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cases that harm the store share one, apart from all others, and leave it with all its servers."""
    used: list[tuple[Place, bool]] = []
    placing = Grounds.place

    def place(self: Grounds, store: Store, injector: str, *, alone: bool = False) -> Place:
        found = placing(self, store, injector, alone=alone)
        used.append((found, alone))
        return found

    monkeypatch.setattr(Grounds, "place", place)
    harm = [scenario(f"get_object backends@50%:{n}", "get_object cut@75%") for n in (2, 0)]
    results = run(Backed(), harm[0], scenario("get_object cut@50%"), harm[1], jobs=2)
    assert [r.judgement.verdict for r in results] == [Verdict.PASS] * 3
    (alone,) = {id(p.running) for p, a in used if a}
    assert alone not in {id(p.running) for p, a in used if not a}
    assert {id(store) for store, _ in orders} == {alone}
    assert sorted([orders[0][1], orders[2][1]], key=str) == [0, 2]
    assert (orders[1][1], orders[3][1], len(orders)) == (None, None, 4)


def test_a_store_that_cannot_be_mended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The case is ours to set right, and the next one has a new store."""
    failing = iter([True, False])
    stores = set()

    def run_backends(store: RunningOrigin, count: int | None) -> None:
        stores.add(id(store))
        if count is None and next(failing):
            raise RuntimeError("does not come back")

    monkeypatch.setattr(RunningOrigin, "run_backends", run_backends)
    results = run(Backed(), *[scenario("get_object backends@50%:2", "get_object cut@75%")] * 2)
    assert [r.judgement.verdict for r in results] == [Verdict.HARNESS_ERROR, Verdict.PASS]
    assert "does not come back" in results[0].judgement.diagnosis
    assert len(stores) == 2


@pytest.mark.parametrize(
    ("store", "count", "reason"),
    [(MEMBER, 0, "origin has no servers behind it"), (Backed(), 4, "has 3 servers behind it, not 4")],
)
def test_not_applicable(store: Store, count: int, reason: str) -> None:
    """A store without such servers, or with fewer, is no place for the case; it says why."""
    (result,) = run(store, scenario(f"get_object backends@50%:{count}"))
    assert result.judgement.verdict is Verdict.NOT_APPLICABLE
    assert reason in result.judgement.diagnosis
