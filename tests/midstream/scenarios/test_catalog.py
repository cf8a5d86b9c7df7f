"""The scenario files and the property catalogue, held against each other and against the faults."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from midstream import _catalog, _registry
from midstream._scenario import Loaded, load_text
from midstream._schedule import Rule, Schedule
from midstream._verbs import Kill, Mutate

MOST_VARIANTS = 200

FILES = sorted(_catalog.scenario_folder().rglob("*.toml"))


@cache
def scenarios() -> tuple[Loaded, ...]:
    return _catalog.bundled()


def lines(scenario: Loaded) -> set[str]:
    """Every fault line of every variant."""
    return {line for variant in scenario.variants(0) for line in variant.faults}


def on_the_wire(fault: str) -> bool:
    """Whether a fault changes no store, asks no second one and signals no process."""
    verbs = Rule.parse(_registry.load("faults", fault).example).fault.verbs()
    return not any(isinstance(verb, Kill | Mutate) or getattr(verb, "twin", False) for verb in verbs)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_each_file_loads(path):
    """Each scenario file reads by itself, under the id its name gives it."""
    assert load_text(path.stem, path.read_text(encoding="utf-8"), path.name).id == path.stem


def test_files_lie_in_topic_folders():
    """Each scenario file lies in exactly one folder, its topic."""
    root = _catalog.scenario_folder()
    assert {len(p.relative_to(root).parts) for p in FILES} == {2}


def test_ids_are_unique():
    """No two files, in whatever folders, share an id."""
    assert [i for i, n in Counter(p.stem for p in FILES).items() if n > 1] == []


def test_there_are_enough_scenarios():
    """The catalogue holds at least 40 scenarios."""
    assert len(scenarios()) >= 40


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.id)
def test_fault_lines_round_trip(scenario):
    """Each fault line, written out again, reads back to the same rule."""
    for line in lines(scenario):
        rule = Rule.parse(line)
        assert Rule.parse(str(rule)) == rule


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.id)
def test_schedules_can_be_aimed(scenario):
    """Each variant's schedule resolves to offsets of its object."""
    for variant in scenario.variants(0):
        for rule in Schedule.parse(variant.faults).aim(variant.size).rules:
            assert rule.position.kind != "percent"


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.id)
def test_properties_exist(scenario):
    """Each property a scenario grounds is in the catalogue, and is named once."""
    named = scenario.model.properties
    assert set(named) <= {p.id for p in _catalog.properties()}
    assert len(set(named)) == len(named)


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.id)
def test_requirement_is_a_sentence(scenario):
    """Each requirement begins with a capital letter, ends with a period and is a single line."""
    text = scenario.model.requirement
    assert text[0].isupper() or text[0].isdigit()
    assert text.endswith(".")
    assert "\n" not in text


def test_requirements_are_unique():
    """No two scenarios require the same in the same words."""
    assert [r for r, n in Counter(s.model.requirement for s in scenarios()).items() if n > 1] == []


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.id)
def test_each_scenario_has_a_clause(scenario):
    """Each scenario names at least one clause it rests on."""
    assert scenario.model.clauses


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.id)
def test_variants_stay_few(scenario):
    """No scenario has more variants than a default run can bear, and no two of them are the same case."""
    names = [variant.name for variant in scenario.variants(0)]
    assert len(names) <= MOST_VARIANTS
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("scenario", scenarios(), ids=lambda s: s.id)
def test_variants_are_the_same_for_the_same_seed(scenario):
    """Sampled values depend on the seed alone."""
    assert list(scenario.variants(7)) == list(scenario.variants(7))


def test_all_properties_are_there():
    """The catalogue is P1 to P48, in order."""
    assert [p.id for p in _catalog.properties()] == [f"P{n}" for n in range(1, 49)]


@pytest.mark.parametrize("entry", _catalog.properties(), ids=lambda p: p.id)
def test_property_is_well_formed(entry):
    """Each property has a level, one sentence that begins with a verb's capital, and a clause."""
    assert entry.level in ("must", "should")
    assert entry.text[0].isupper()
    assert entry.text.endswith(".")
    assert entry.clause


def test_property_texts_are_unique():
    """No two properties say the same."""
    assert len({p.text for p in _catalog.properties()}) == 48


@pytest.mark.parametrize("fault", [f for f in _registry.names("faults") if on_the_wire(f)])
def test_each_fault_of_the_wire_occurs_in_two_scenarios(fault):
    """Each fault that is of the wire alone is used by at least two scenarios."""
    users = {s.id for s in scenarios() if any(Rule.parse(line).fault.id == fault for line in lines(s))}
    assert len(users) >= 2


@pytest.mark.parametrize("kind", ["must", "should", "observe"])
def test_each_kind_occurs(kind):
    """Scenarios of every kind ship with the package."""
    assert kind in {s.model.kind for s in scenarios()}


@pytest.mark.parametrize("store_kind", ["http", "s3", "swift"])
def test_most_scenarios_run_on_each_kind_of_store(store_kind):
    """More than half of the scenarios are meant for each kind of store."""
    from midstream.stores import Store

    members = _registry.members("stores")
    ids = {name for name, member in members if isinstance(member, Store) and member.kind == store_kind}
    meant = [s for s in scenarios() if {store_kind, *ids} & set(s.model.stores)]
    assert len(meant) > len(scenarios()) / 2
