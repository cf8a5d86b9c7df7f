"""The same schedule through every engine gives the same verdict, over each store."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.real.conftest import need
from tests.real.engines.conftest import ENGINES, engine

from midstream._catalog import scenario_folder
from midstream._grounds import Grounds
from midstream._registry import load
from midstream._runner import Case, Result
from midstream._scenario import Loaded, load_text
from midstream._workers import DriverProcess, process_for
from midstream.drivers._spec import resolve
from midstream.injectors import Injector

ALL = ("embedded", *ENGINES)
STORES = ("origin", "minio", "nginx", "swift-aio")
Run = Callable[..., Result]

# Ten ways for a wire to fail, each with the positions and endings that every engine has.
SCENARIOS = {
    "fin-in-mid-body": 'faults = ["get_object cut@50%:fin"]',
    "rst-in-mid-body": 'faults = ["get_object cut@50%:rst"]',
    "rst-one-byte-before-the-end": 'faults = ["get_object cut@100%-1:rst"]',
    "fin-behind-the-head": 'faults = ["get_object#1-2 cut@body+0:fin"]',
    "cut-inside-the-head": 'faults = ["get_object#1 cut@headers:rst"]',
    "three-cuts": 'faults = ["get_object cut@1000", "get_object cut@1001:rst", "get_object cut@150000"]',
    "a-cut-of-a-continuation": 'faults = ["get_object#1 cut@70000", "get_object#2 cut@body+5:rst"]',
    "a-stall-in-mid-body": 'faults = ["get_object#1 stall@50%"]\ndeadline = 30',
    "hangups": 'faults = ["CONNECTION#1 hangup@accept:rst", "CONNECTION#2 hangup@accept:fin"]',
    "replaced-behind-a-cut": 'faults = ["get_object cut@50%:rst", "get_object#2 replace@request:same"]\n'
    'expect.outcome = "either"\nexpect.generations = [1, 2]\nexpect.restart = true',
    "never-a-byte": 'faults = ["get_object#* cut@body+0:rst"]\nexpect.outcome = "failure"',
}


def scenario(name: str, more: str) -> Loaded:
    head = f'requirement = "The engines agree on {name}."\nproperties = ["P1"]\nobject.size = 200003\n'
    return load_text(name, head + more + "\n", f"{name}.toml")


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    """Runs the first case of a scenario with reknit over a store, through an engine."""
    kinds: dict[str, Injector] = {
        name: engine(name) if name in ENGINES else load("injectors", name) for name in ALL
    }
    grounds = Grounds(kinds)
    driver = resolve("reknit")
    process: DriverProcess = process_for(driver, grounds.folder)

    def one(loaded: Loaded, name: str, store: str = "origin") -> Result:
        variant = next(loaded.variants(0))
        return grounds.run(Case(loaded, variant, driver, "", load("stores", store), name, 0), process)

    yield one
    process.close()
    grounds.close()


@pytest.mark.parametrize("store", STORES)
@pytest.mark.parametrize("name", SCENARIOS)
def test_the_same_verdict(run: Run, name: str, store: str) -> None:
    """The verdict, and what fired behind how many bytes, are the same through all three."""
    need(store)
    seen = {}
    for injector in ALL:
        result = run(scenario(name, SCENARIOS[name]), injector, store)
        assert not result.facts.trouble, (injector, result.facts.trouble)
        assert result.facts.fired, injector
        fired = [(f.spec, f.body) for f in result.facts.fired]
        seen[injector] = (result.judgement.verdict, result.judgement.level, fired[:20])
    assert seen["toxiproxy"] == seen["embedded"]
    assert seen["mitmproxy"] == seen["embedded"]


@pytest.mark.parametrize("topic", ["resume", "connections", "tls"])
def test_bundled_scenarios(run: Run, topic: str) -> None:
    """The bundled scenarios about the wire give the same verdict through every engine that carries them."""
    folder: Path = scenario_folder() / topic
    compared = 0
    for path in sorted(folder.glob("*.toml")):
        loaded = load_text(path.stem, path.read_text(encoding="utf-8"), str(path))
        if "origin" not in loaded.model.stores and "http" not in loaded.model.stores and loaded.model.stores:
            continue
        want = run(loaded, "embedded").judgement
        for name in ENGINES:
            got = run(loaded, name).judgement
            if got.verdict != "not_applicable":
                assert (got.verdict, got.level) == (want.verdict, want.level), (path.stem, name, got)
                compared += 1
    assert compared >= 5
