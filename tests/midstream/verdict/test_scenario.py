"""Scenario files: what is wrong with one is said in one line that names file, key and what is allowed."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import jsonschema  # type: ignore[import-untyped]
import pytest

from midstream._catalog import bundled, read_scenarios, scenario_folder
from midstream._errors import UsageError
from midstream._model import json_schema, parse_size
from midstream._scenario import Loaded, applies, load_text, parse_values, schedule_of, select

HEAD = """
requirement = "A driver does what it is asked to do, in one sentence."
properties = ["P1"]
"""


def load(more: str = "", name: str = "a-b") -> Loaded:
    return load_text(name, HEAD + more, f"{name}.toml")


def problem(more: str, name: str = "a-b", head: str = HEAD) -> str:
    with pytest.raises(UsageError) as caught:
        load_text(name, head + more, f"{name}.toml")
    text = str(caught.value)
    assert text.startswith(f"{name}.toml: ")
    assert "\n" not in text
    return text.removeprefix(f"{name}.toml: ")


def values(more: str, seed: int = 0) -> list[str]:
    return [v.name.partition("=")[2] for v in load(more).variants(seed)]


def test_defaults() -> None:
    """A scenario of two keys is a whole one: one case, 64 KiB, no fault, an exact file required."""
    loaded = load()
    (variant,) = loaded.variants(0)
    assert (variant.size, variant.faults, variant.name) == (65536, (), "")
    assert (loaded.model.kind, loaded.model.expect.outcome, loaded.model.deadline) == (
        "must",
        "complete",
        30.0,
    )


@pytest.mark.parametrize(
    ("more", "text"),
    [
        ("nope = 1", "nope: unknown key; allowed: requirement, direction, kind, quick, properties,"),
        ("object.nope = 1", "object.nope: unknown key; allowed: size, validator, framing, ranges, digest,"),
        ("expect.nope = 1", "expect.nope: unknown key; allowed: outcome, restart, refetch, "),
        ("object = 3", "object: must be a table, not 3"),
        ('kind = "may"', "kind: must be 'must', 'should' or 'observe', not 'may'"),
        ('expect.outcome = "x"', "expect.outcome: must be 'complete', 'failure', 'either' or"),
        ('object.framing = "x"', "object.framing: must be 'length', 'chunked' or 'close', not 'x'"),
        ('object.validator = "x"', "object.validator: must be 'strong', 'weak', 'modified' or"),
        ('object.ranges = "yes"', "object.ranges: must be true or false, not 'yes' (whether the store"),
        ("object.size = 1.5", "object.size: must be a whole number or text, not 1.5 (bytes, or 64KiB"),
        (
            'object.size = "5 parsecs"',
            "object.size: '5 parsecs' is no size; use bytes, or 64KiB, 5MiB+1, 1GiB",
        ),
        ('object.part = "3-64"', "object.part: '3-64': at least 63 bytes, or nobody can tell where they co"),
        ('object.part = "9-3"', "object.part: '9-3': at least 63 bytes"),
        ('object.part = "9"', r"object.part: must fit ^(\d+-\d+)?$, not '9'"),
        ("object.size = -1", "object.size: -1 is no size"),
        ('object.size = "2048GiB"', "object.size: '2048GiB' is out of range"),
        ('expect.refetch = "lots"', "expect.refetch: 'lots' is no size"),
        ("expect.requests = 0", "expect.requests: must be at least 1"),
        ('expect.requests = "4"', "expect.requests: must be a whole number, not '4' (more object requests"),
        ("deadline = 0", "deadline: must be above 0"),
        ("deadline = inf", "deadline: must be at most 600"),
        ("deadline = nan", "deadline: must be "),
        ('deadline = "soon"', "deadline: must be a number, not 'soon'"),
        ("faults = [3]", "faults.0: must be text, not 3"),
        ('faults = "GET cut@1"', "faults: must be a list, not 'GET cut@1'"),
        ('faults = ["GET cut at 1"]', "faults: fault 'GET cut at 1': not of the form WHO[/PATH][#ORDINAL]"),
        ('faults = ["GET cot@1"]', "faults: fault 'GET cot@1': no fault is called 'cot'; did you mean cut?"),
        ('faults = ["GET cut@x"]', "faults: fault 'GET cut@x': 'x' is no position; use an object offset, N%"),
        ('faults = ["fetch cut@1"]', "faults: fault 'fetch cut@1': no operation 'fetch' (known: get_object,"),
        (
            'faults = ["GET cut@65537"]',
            "faults: fault 'GET cut@65537': the object ends at byte 65536, so it cannot fire",
        ),
        (
            'faults = ["GET cut@{at}"]\nvary.at = [1, 70000]',
            "faults: fault 'GET cut@70000': the object ends at byte 65536, so it cannot fire",
        ),
        ('faults = ["GET cut@{at}"]', "faults: {at} is not a key of `vary` (it has none)"),
        (
            'faults = ["GET cut@{at}"]\nvary.to = [1]',
            "vary.to: no fault line or size uses {to} (used: at)",
        ),
        ('object.size = "{n}"\nvary.n = ["x"]', "object.size: 'x' is no size"),
        ("vary.at = [1]", "vary.at: no fault line or size uses {at} (they use none)"),
        ("vary.At2 = [1]", "vary: 'At2' cannot be written in braces; use a-z and _"),
        (
            "vary.at = 3",
            "vary.at: must be a list or text, not 3 (values for each {name}: a list, or a plan: each A-B,",
        ),
        ("vary.at = {sample = 3}", "vary.at: must be a list or text, not a table (values for each {name}: a"),
        ("vary.at = [{sample = 3}]", "vary.at.0: must be a whole number or text, not a table (values for"),
        ("vary.at = true", "vary.at: must be a list or text, not true ("),
        ("vary = [1]", "vary: must be a table, not a list ("),
        (
            "vary.at = [1.5]",
            "vary.at.0: must be a whole number or text, not 1.5 (values for each {name}: a list, or a plan",
        ),
        ('faults = ["GET cut@{at}"]\nvary.at = []', "vary.at: [] gives no value"),
        ('faults = ["GET cut@{at}"]\nvary.at = "each 5-4"', "vary.at: 'each 5-4' gives no value"),
        ('faults = ["GET cut@{at}"]\nvary.at = "each five"', "vary.at: 'each five': use each A-B with two"),
        (
            'faults = ["GET cut@{at}"]\nvary.at = "each 1-99999999"',
            "vary.at: 'each 1-99999999': 99999999 val",
        ),
        ('faults = ["GET cut@{at}"]\nvary.at = "sample -1"', "vary.at: 'sample -1': use sample N with a num"),
        ('faults = ["GET cut@{at}"]\nvary.at = "sample many"', "vary.at: 'sample many': use sample N with"),
        ('faults = ["GET cut@{at}"]\nvary.at = "boundaries 0"', "vary.at: 'boundaries 0': a step is at lea"),
        ('faults = ["GET cut@{at}"]\nvary.at = "around x"', "vary.at: 'around x': 'x' is no size"),
        (
            'faults = ["GET cut@{at}"]\nobject.size = "{n}"\nvary.n = [9]\nvary.at = "sample 2"',
            "vary.at: 'sample 2': needs an object of one size",
        ),
        ("= 3", "not TOML: "),
    ],
)
def test_problems(more: str, text: str) -> None:
    """What does not fit is named with its key and what is allowed there."""
    assert problem(more).startswith(text)


@pytest.mark.parametrize("item", ["P0", "P49", "p1", "P01", "X", ""])
def test_unknown_property(item: str) -> None:
    """Properties are P1 to P48."""
    head = HEAD.replace("P1", item)
    assert problem("", head=head) == f"properties: {item!r} is no property; use P1 to P48"


def test_missing_keys() -> None:
    """All problems of a file are in the one line."""
    text = problem("", head="")
    assert text == "requirement: is missing; properties: is missing"
    text = problem("", head='requirement = "short"\nproperties = []')
    assert text == "requirement: must have at least 20 characters; properties: must not be empty"


@pytest.mark.parametrize("name", ["A", "a_b", "-a", "a-", "a--b", "", "a b", "ä"])
def test_file_name(name: str) -> None:
    """The file's name is the id, so it must be one."""
    assert problem("", name=name).startswith(
        "a scenario's file name is its id: lower case, digits and single"
    )


@pytest.mark.parametrize(
    ("text", "size"),
    [
        (0, 0),
        ("65536", 65536),
        ("64KiB", 65536),
        ("5MiB+1", 5242881),
        ("1 MiB - 1", 1048575),
        ("1GiB", 1 << 30),
    ],
)
def test_sizes(text: int | str, size: int) -> None:
    """Sizes are bytes or binary units, with a few bytes on top or less."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "-1", "1KB", "1.5MiB", "1KiB+", "0-1", "٣", "1e3"])
def test_bad_sizes(text: str) -> None:
    """Nothing is guessed: what is no size is refused."""
    with pytest.raises(ValueError, match=r"size|range"):
        parse_size(text)


AT = 'faults = ["GET cut@{at}"]\n'


def test_plan_each() -> None:
    """Each offset from A to B, both included."""
    assert values(AT + 'vary.at = "each 3-6"') == ["3", "4", "5", "6"]


def test_plan_around() -> None:
    """One byte before, at, and after, but none before the first byte."""
    assert values(AT + 'vary.at = "around 4KiB"') == ["4095", "4096", "4097"]
    assert values(AT + 'vary.at = "around 0"') == ["0", "1"]


def test_plan_boundaries() -> None:
    """Each multiple of the step inside the object, with its neighbours."""
    found = values(AT + 'vary.at = "boundaries 16KiB"\nobject.size = "64KiB"')
    assert found == [str(16384 * k + d) for k in (1, 2, 3) for d in (-1, 0, 1)]


def test_plan_sample() -> None:
    """A sample is sorted, distinct, inside the object, the same for a seed and another for another."""
    plan = AT + 'vary.at = "sample 50"'
    found = values(plan)
    assert found == values(plan)
    assert found != values(plan, seed=1)
    offsets = [int(v) for v in found]
    assert offsets == sorted(set(offsets))
    assert len(offsets) == 50
    assert offsets[0] > 0
    assert offsets[-1] < 65536
    assert len(values(AT + 'vary.at = "sample 50"\nobject.size = 11')) == 10


def test_values_once() -> None:
    """A value that a list and a plan both give is one case."""
    assert values(AT + 'vary.at = [3, "3", "each 2-4"]') == ["3", "2", "4"]


def test_combinations() -> None:
    """Every combination of values is a case; keys in order of their names."""
    loaded = load('faults = ["GET cut@{b}:{a}"]\nvary.b = [1, 2]\nvary.a = ["fin", "rst"]')
    assert [v.name for v in loaded.variants(0)] == ["a=fin;b=1", "a=fin;b=2", "a=rst;b=1", "a=rst;b=2"]
    assert [v.faults for v in loaded.variants(0)][2] == ("GET cut@1:rst",)


@pytest.mark.parametrize("value", ["50%", "a;b", "50%25", "%3B", ";;", "a=b", "%", "%253B;"])
def test_names_read_back(value: str) -> None:
    """A case's name gives its values back, whatever is in them."""
    loaded = load(
        'faults = ["GET#{n} status@head:503,body={v}"]\n'
        f'vary.v = [{json.dumps(value)}, "x"]\nvary.n = [1]'
    )
    variant = next(loaded.variants(0))
    assert parse_values(variant.name) == {"v": value, "n": "1"}
    assert loaded.variant(parse_values(variant.name)) == variant


def test_values_that_do_not_fit() -> None:
    """A replay with other keys than the scenario's is refused, with those there are."""
    loaded = load(AT + "vary.at = [1]")
    for wrong in ({}, {"to": "1"}, {"at": "1", "to": "2"}):
        with pytest.raises(UsageError, match=r"scenario a-b: (at is missing|to is none).*keys: at\)"):
            loaded.variant(wrong)


def test_schedule_of_a_percentage() -> None:
    """Percentages are offsets of the object of the case."""
    loaded = load('faults = ["GET cut@50%", "GET cut@100%"]\nobject.size = 1001')
    assert [str(r) for r in schedule_of(next(loaded.variants(0))).rules] == [
        "GET cut@500:fin",
        "GET cut@1001:fin",
    ]


def test_where_a_scenario_applies() -> None:
    """Store kinds and store ids both select."""
    loaded = load('stores = ["s3", "origin"]')
    assert applies(loaded, "moto", "s3")
    assert applies(loaded, "origin", "http")
    assert not applies(loaded, "swift", "swift")


def test_select() -> None:
    """Globs choose in their order, each scenario once; one that matches nothing is an error with a hint."""
    three = [load("", name) for name in ("cut-a", "cut-b", "stall-a")]
    assert [s.id for s in select(three, [])] == ["cut-a", "cut-b", "stall-a"]
    assert [s.id for s in select(three, ["*-a", "cut-*"])] == ["cut-a", "stall-a", "cut-b"]
    with pytest.raises(UsageError, match="no scenario matches 'cut-c'; did you mean cut-b or cut-a"):
        select(three, ["cut-c"])


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    """A file that is no text, or no file, is named."""
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match=rf"^{tmp_path}/a\.toml: cannot be read: "):
        read_scenarios([tmp_path / "a.toml"])
    (tmp_path / "b.toml").mkdir()
    with pytest.raises(UsageError, match=rf"^{tmp_path}/b\.toml: cannot be read: "):
        read_scenarios([tmp_path / "b.toml"])


def test_two_files_of_one_name(tmp_path: Path) -> None:
    """An id stands for one scenario, whatever folder it is in."""
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.toml").write_text(HEAD)
    with pytest.raises(UsageError, match=rf"^{tmp_path}/y/a\.toml: {tmp_path}/x/a\.toml has this name"):
        read_scenarios(tmp_path.rglob("*.toml"))


def test_schema_file_is_current() -> None:
    """scenarios/schema.json is what `midstream schema` prints."""
    written = (scenario_folder() / "schema.json").read_text(encoding="utf-8")
    assert written == json.dumps(json_schema(), indent=2) + "\n"


def documents() -> list[Any]:
    paths = sorted(scenario_folder().rglob("*.toml"))
    return [pytest.param(tomllib.loads(p.read_text(encoding="utf-8")), id=p.stem) for p in paths]


@pytest.mark.parametrize("document", documents())
def test_schema_accepts_every_bundled_scenario(document: dict[str, Any]) -> None:
    """Editors that check files against the schema accept what the harness accepts."""
    jsonschema.Draft202012Validator(json_schema()).validate(document)


@pytest.mark.parametrize(
    "change",
    [{"nope": 1}, {"kind": "may"}, {"object": {"nope": 1}}, {"requirement": "short"}, {"deadline": 0}],
)
def test_schema_refuses(change: dict[str, Any]) -> None:
    """And they refuse what it refuses."""
    document = {**tomllib.loads(HEAD), **change}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema()).validate(document)


def test_bundled_scenarios_have_cases() -> None:
    """Every bundled scenario reads, has cases of distinct names, and the same ones again."""
    for loaded in bundled():
        names = [v.name for v in loaded.variants(3)]
        assert names
        assert len(set(names)) == len(names)
        assert names == [v.name for v in loaded.variants(3)]
