"""The scenario files and the property catalogue, held against each other and against the faults."""

from __future__ import annotations

from collections import Counter
from functools import cache

import pytest

from midstream import _catalog, _registry
from midstream._scenario import Loaded, load_text
from midstream._schedule import Rule, Schedule

MOST_VARIANTS = 200

# What stands for each fault of the taxonomy: a fault, a fault with a value or at a place, an operation that
# it strikes, a key of the object, the process or the upload that is not at its default, `tls`, `upload`, or
# a property. One of the tuples has to be found whole in at least one scenario.
STANDS_FOR: dict[str, tuple[tuple[str, ...], ...]] = {
    "T1": (("cut", "cut:fin", "object.framing=length"),),
    "T2": (("cut", "cut:rst", "object.framing=length"),),
    "T3": (("stall", "stall:forever"),),
    "T4": (("throttle",), ("delay",)),
    "T5": (("cut", "object.framing=chunked"),),
    "T6": (("cut", "object.framing=close"),),
    "T7": (("cut", "cut:fin", "tls"),),
    "T8": (("reset-stream",),),
    "T9": (("cut", "cut@end"),),
    "T10": (("process.pause", "process.sink=pipe"),),
    "T11": (("cut", "cut#*"),),
    "T12": (("cut", "cut#2"),),
    "T13": (("refuse",),),
    "H1": (("ignore-range",),),
    "H2": (("header", "header::status"),),
    "H3": (("shift-range",),),
    "H4": (("shorten-range",),),
    "H5": (("content-range",),),
    "H6": (("status", "status:416"),),
    "H7": (("status", "status:412"),),
    "H8": (("status", "status:503"),),
    "H9": (("status", "status:401"), ("redirect",)),
    "H10": (("status", "status:200"),),
    "H11": (("gzip",),),
    "H12": (("object.validator=weak",), ("object.validator=modified",), ("object.validator=none",)),
    "H13": (("multipart",),),
    "H14": (("object.head",),),
    "H15": (("P15",),),  # the check `ranges` holds it against every case
    "H16": (("truncate",),),
    "S1": (("replace",),),
    "S2": (("delete",),),
    "S3": (("append",),),
    "S4": (("replica",), ("backends",)),
    "S5": (("object.layout=multipart",), ("object.layout=slo",), ("object.layout=dlo",)),
    "S6": (("segment",),),
    "S9": (("expire",),),
    "S10": (("status:498",), ("status:429",)),
    "C1": (("kill", "kill:INT"),),
    "C2": (("kill", "kill:KILL", "process.runs"),),
    "C3": (("process.tamper=zero",),),
    "C4": (("process.existing",),),
    "C5": (("process.together",),),
    "C6": (("process.tamper=longer",), ("process.tamper=foreign",)),
    "C7": (("process.room",),),
    "C8": (("process.sink=pipe",),),
    "S7": (("complete-error", "lost-answer"), ("complete-error",)),
    "U1": (("cut", "cut@sent"),),
    "U2": (("source",), ("upload.ends",)),
    "U3": (("lost-answer",),),
    "U4": (("cut", "cut@sent", "status", "P43"), ("kill", "kill@request", "P48"), ("status", "abort")),
    "U5": (("offset",),),
    "U6": (("status", "upload_offset"),),
    "U7": (("upload.leftover=other-key",),),
    "U8": (("upload.rival",),),
    "U9": (("expire", "upload"), ("status", "status:403", "P27")),
}
# P16 needs drivers that take a range of their caller's; P46 is about gateways.
GROUNDED = [f"P{n}" for n in range(1, 49) if n not in (16, 46)]

FILES = sorted(_catalog.scenario_folder().rglob("*.toml"))


@cache
def scenarios() -> tuple[Loaded, ...]:
    return _catalog.bundled()


def lines(scenario: Loaded) -> set[str]:
    """Every fault line of every variant."""
    return {line for variant in scenario.variants(0) for line in variant.faults}


def marks(scenario: Loaded) -> set[str]:
    """What a scenario has of the things `STANDS_FOR` names."""
    model = scenario.model
    found = {*model.properties, *(["tls"] if model.tls else []), model.direction}
    for rule in map(Rule.parse, lines(scenario)):
        fault = rule.fault.id
        value = rule.fault.value.partition(",")[0].partition("=")[0]
        found |= {fault, f"{fault}:{value}", f"{fault}@{rule.position}", f"{fault}{rule.ordinals}"}
        found |= {rule.who, f"{fault}@sent"} if rule.in_request else {rule.who}
    for name, part in (("object", model.object), ("process", model.process), ("upload", model.upload)):
        for key, value in part:
            if value != type(part).model_fields[key].default:
                found.add(f"{name}.{key}")
            found.add(f"{name}.{key}={value}")
    return found


@cache
def all_marks() -> dict[str, set[str]]:
    return {s.id: marks(s) for s in scenarios()}


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
    """The catalogue holds at least 160 scenarios."""
    assert len(scenarios()) >= 160


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


@pytest.mark.parametrize("fault", _registry.names("faults"))
def test_each_fault_occurs_in_two_scenarios(fault):
    """Each fault is used by at least two scenarios."""
    users = {s.id for s in scenarios() if any(Rule.parse(line).fault.id == fault for line in lines(s))}
    assert len(users) >= 2


def test_the_taxonomy_is_listed():
    """The faults are T1 to T13, H1 to H16, S1 to S7, S9, S10, C1 to C8 and U1 to U9."""
    counted = {"T": range(1, 14), "H": range(1, 17), "S": (*range(1, 8), 9, 10), "C": range(1, 9)}
    counted["U"] = range(1, 10)
    assert set(STANDS_FOR) == {f"{letter}{n}" for letter, numbers in counted.items() for n in numbers}


@pytest.mark.parametrize("fault", STANDS_FOR)
def test_each_fault_of_the_taxonomy_occurs(fault):
    """At least one scenario shows what each fault of the taxonomy is."""
    shown = [
        name for name, found in all_marks().items() if any(found.issuperset(one) for one in STANDS_FOR[fault])
    ]
    assert shown != []


@pytest.mark.parametrize("fault", STANDS_FOR)
def test_what_stands_for_a_fault_says_so(fault):
    """Each fault of ours that stands for one of the taxonomy names it among its grounds."""
    ours = {word for one in STANDS_FOR[fault] for word in one} & set(_registry.names("faults"))
    for name in ours:
        assert fault in _registry.load("faults", name).grounds


@pytest.mark.parametrize("fault", _registry.names("faults"))
def test_grounds_are_of_the_taxonomy(fault):
    """No fault rests on an id that the taxonomy does not have."""
    assert set(_registry.load("faults", fault).grounds) <= set(STANDS_FOR)


@pytest.mark.parametrize("name", GROUNDED)
def test_each_property_has_two_scenarios(name):
    """Each property a driver can show is grounded by at least two scenarios."""
    assert len([s.id for s in scenarios() if name in s.model.properties]) >= 2


def test_there_are_enough_scenarios_of_uploads():
    """At least 60 scenarios are about uploads, and they lie in folders of their own."""
    uploads = {s.id for s in scenarios() if s.model.direction == "upload"}
    assert len(uploads) >= 60
    assert uploads == {p.stem for p in FILES if p.parent.name.startswith("upload-") or "-upload-" in p.stem}


@pytest.mark.parametrize("name", [f"P{n}" for n in (41, 42, 43, 44, 45, 47, 48)])
def test_the_rules_of_uploads_are_shown_by_uploads(name):
    """P41 to P45, P47 and P48 are each grounded by at least two scenarios in which a driver uploads."""
    assert len([s for s in scenarios() if name in s.model.properties and s.model.direction == "upload"]) >= 2


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


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_quick_ones(direction: str) -> None:
    """A first verdict takes seconds: few and small objects, and no silence that has to end."""
    chosen = [s for s in _catalog.bundled() if s.model.quick and s.model.direction == direction]
    assert 5 <= len(chosen) <= 15
    for loaded in chosen:
        first = next(loaded.variants(0))
        assert first.size <= 2 << 20, loaded.id
        assert not any(word in fault for fault in first.faults for word in ("stall", "forever")), loaded.id
    assert {s.model.expect.outcome for s in chosen} >= {"complete", "failure", "either"}
