"""Scenarios: data files that say what goes wrong and what a correct driver does about it.

One TOML file is one scenario; its stem is its id. Models are strict: an unknown key or a wrong type is an
error that names the file, the key and what is allowed. A scenario is a template: `vary` lists values for the
names in braces, and each combination is one case.
"""

from __future__ import annotations

import itertools
import random
import re
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from midstream._errors import UsageError
from midstream._schedule import Schedule

_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
MAX_SIZE = 1 << 40

Kind = Literal["must", "should", "observe"]


def parse_size(text: str | int) -> int:
    """Bytes: `65536`, `64KiB`, `5MiB+1`, `1MiB-1`; raises ValueError."""
    found = re.fullmatch(r"(\d+)\s*(KiB|MiB|GiB)?\s*(?:([+-])\s*(\d+))?", str(text))
    if not found:
        raise ValueError(f"{text!r} is no size; use bytes, or 64KiB, 5MiB+1, 1GiB")
    size = int(found[1]) * _UNITS[found[2] or ""] + int(f"{found[3] or '+'}{found[4] or 0}")
    if not 0 <= size <= MAX_SIZE:
        raise ValueError(f"{text!r} is out of range (0 to {MAX_SIZE})")
    return size


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


class ObjectModel(_Strict):
    """The object of a case, and how the store presents it."""

    size: int | str = Field("64KiB", description="bytes, or 64KiB, 5MiB+1; may hold a {name} of `vary`")
    validator: Literal["strong", "weak", "modified", "none"] = Field(
        "strong", description="strong ETag, weak ETag, Last-Modified only, or nothing"
    )
    framing: Literal["length", "chunked", "close"] = Field(
        "length", description="how the end of a body is told: Content-Length, chunked, or end of connection"
    )
    ranges: bool = Field(True, description="whether the store honours Range")
    digest: bool = Field(True, description="whether the store offers a digest of the whole object")
    head: bool = Field(True, description="whether the store answers HEAD")


class Expect(_Strict):
    """What a correct driver does."""

    outcome: Literal["complete", "failure", "either", "observe"] = Field(
        "complete",
        description="complete: the exact object; failure: a clean error and nothing under the final name; "
        "either: one of the two; observe: record what happens",
    )
    restart: bool = Field(False, description="fetching again what was there is right here (no SHOULD broken)")
    refetch: int | str = Field(
        "1MiB", description="payload bytes that may be fetched again per fault that fired"
    )
    requests: int = Field(40, ge=1, description="more object requests than this are a retry storm")


class Scenario(_Strict):
    """One scenario as written in its file."""

    requirement: str = Field(min_length=20, description="what a correct driver does, in one sentence")
    kind: Kind = Field("must", description="must and should break a rule of that level; observe records only")
    properties: list[str] = Field(min_length=1, description="ids of the properties it grounds: P1, P17")
    clauses: list[str] = Field(default=[], description="RFC sections or API pages: RFC 9110 section 14.4")
    references: list[str] = Field(default=[], description="public reports of drivers that got it wrong")
    stores: list[str] = Field(
        default=["http", "s3", "swift"], description="store kinds (http, s3, swift) or store ids it runs on"
    )
    object: ObjectModel = ObjectModel()
    faults: list[str] = Field(default=[], description="fault lines; may hold {names} of `vary`")
    vary: dict[str, list[int | str] | str] = Field(
        default={},
        description="values for each {name}: a list, or a plan: each A-B, sample N, around X, boundaries STEP",
    )
    expect: Expect = Expect()
    deadline: float = Field(30.0, gt=0, le=600, description="seconds after which a driver counts as hung")

    @field_validator("properties")
    @classmethod
    def _known_properties(cls, value: list[str]) -> list[str]:
        for item in value:
            if not re.fullmatch(r"P([1-9]|[1-3]\d|4[0-8])", item):
                raise ValueError(f"{item!r} is no property; use P1 to P48")
        return value

    @field_validator("deadline", mode="before")
    @classmethod
    def _whole_seconds(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value


@dataclass(frozen=True)
class Variant:
    """One concrete choice of a scenario's `vary` values."""

    scenario: str
    values: tuple[tuple[str, str], ...]
    size: int
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        return ";".join(f"{k}={v}" for k, v in self.values)


@dataclass(frozen=True)
class Loaded:
    """A scenario with its id and the file it came from."""

    id: str
    model: Scenario
    source: str

    def variants(self, seed: int) -> Iterator[Variant]:
        """Every case of the scenario; the same for the same seed."""
        m = self.model
        names = sorted(m.vary)
        columns = [self._values(name, seed) for name in names]
        for combination in itertools.product(*columns):
            yield self.variant(dict(zip(names, combination, strict=True)))

    def variant(self, values: Mapping[str, str]) -> Variant:
        """One case by its values; raises UsageError for a name the scenario does not vary."""
        unknown = set(values) ^ set(self.model.vary)
        if unknown:
            raise UsageError(
                f"scenario {self.id}: {', '.join(sorted(unknown))} does not fit its `vary` keys "
                f"({', '.join(sorted(self.model.vary)) or 'it has none'})"
            )
        faults = tuple(self._fill(line, values) for line in self.model.faults)
        size = parse_size(self._fill(str(self.model.object.size), values))
        return Variant(self.id, tuple(sorted(values.items())), size, faults)

    def _fill(self, text: str, values: Mapping[str, str]) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                raise UsageError(f"{self.source}: {{{found[1]}}} is not a key of `vary`")
            return str(values[found[1]])

        return re.sub(r"\{([a-z_]+)\}", value, text)

    def _values(self, name: str, seed: int) -> list[str]:
        plan = self.model.vary[name]
        if isinstance(plan, list):
            return [v for item in plan for v in self._expand(name, str(item), seed)]
        return self._expand(name, plan, seed)

    def _expand(self, name: str, text: str, seed: int) -> list[str]:
        """A plan becomes offsets; anything else is a value itself."""
        if not (found := re.fullmatch(r"(each|sample|around|boundaries) +(\S+)", text)):
            return [text]
        word, rest = found.groups()
        size = parse_size(self.model.object.size) if "{" not in str(self.model.object.size) else None
        where = f"{self.source}: vary.{name}: {text!r}"
        try:
            if word == "each":
                low, _, high = rest.partition("-")
                return [str(i) for i in range(int(low), int(high) + 1)]
            if word == "around":
                middle = parse_size(rest)
                return [str(i) for i in (middle - 1, middle, middle + 1) if i >= 0]
            if size is None:
                raise ValueError("needs an object of one size")
            if word == "boundaries":
                step = parse_size(rest)
                marks = {k + d for k in range(step, size, step) for d in (-1, 0, 1)}
                return [str(i) for i in sorted(m for m in marks if 0 < m < size)]
            count = min(int(rest), max(0, size - 1))
            draw = random.Random(f"{seed} {self.id} {name}")
            return [str(i) for i in sorted(draw.sample(range(1, size), count))]
        except ValueError as error:
            raise UsageError(f"{where}: {error}") from None


def _explain(error: ValidationError, source: str) -> str:
    lines = []
    for problem in error.errors():
        where = ".".join(str(part) for part in problem["loc"]) or "(top level)"
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            model: type[BaseModel] = Scenario
            for part in problem["loc"][:-1]:
                annotation = model.model_fields[str(part)].annotation
                assert isinstance(annotation, type)
                model = annotation
            message = f"unknown key; allowed: {', '.join(model.model_fields)}"
        lines.append(f"{source}: {where}: {message}")
    return "\n".join(lines)


def load_text(name: str, text: str, source: str) -> Loaded:
    """Read and check one scenario, its fault lines included.

    Raises UsageError naming the file and key.
    """
    if not _ID.fullmatch(name):
        raise UsageError(f"{source}: a scenario's file name is its id: lower case, digits and single dashes")
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source}: not TOML: {error}") from None
    try:
        model = Scenario.model_validate(raw)
    except ValidationError as error:
        raise UsageError(_explain(error, source)) from None
    loaded = Loaded(name, model, source)
    used = set(re.findall(r"\{([a-z_]+)\}", " ".join([*model.faults, str(model.object.size)])))
    if unused := set(model.vary) - used:
        raise UsageError(f"{source}: vary.{min(unused)}: no fault line or size uses {{{min(unused)}}}")
    try:
        for variant in itertools.islice(loaded.variants(0), 2000):
            Schedule.parse(variant.faults)
    except (UsageError, ValueError) as error:
        text = str(error)
        raise UsageError(text if text.startswith(source) else f"{source}: faults: {text}") from None
    return loaded


def applies(loaded: Loaded, store_id: str, store_kind: str) -> bool:
    """Whether a scenario is meant for a store."""
    return store_id in loaded.model.stores or store_kind in loaded.model.stores


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    schema = Scenario.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "midstream scenario"
    return schema


def select(scenarios: Sequence[Loaded], globs: Sequence[str]) -> list[Loaded]:
    """Scenarios by id globs, all without any; raises UsageError for a glob that matches nothing."""
    from difflib import get_close_matches
    from fnmatch import fnmatchcase

    if not globs:
        return list(scenarios)
    chosen: dict[str, Loaded] = {}
    for glob in globs:
        hits = [s for s in scenarios if fnmatchcase(s.id, glob)]
        if not hits:
            near = get_close_matches(glob, [s.id for s in scenarios], 3, 0.5)
            meant = f"; did you mean {' or '.join(near)}?" if near else ""
            raise UsageError(f"no scenario matches {glob!r}{meant} (`midstream list scenarios` shows all)")
        chosen.update((s.id, s) for s in hits)
    return list(chosen.values())
