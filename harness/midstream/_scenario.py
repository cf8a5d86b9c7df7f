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
from typing import Any, Literal, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from midstream._errors import UsageError
from midstream._schedule import Schedule

_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
_ID = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
_BRACES = re.compile(r"\{([a-z_]+)\}")
MAX_SIZE = 1 << 40
MAX_VALUES = 1_000_000  # of one `vary` key: a plan is a line, and a slip in it must not fill the memory

Kind = Literal["must", "should", "observe"]


def parse_size(text: str | int) -> int:
    """Bytes: `65536`, `64KiB`, `5MiB+1`, `1MiB-1`; raises ValueError."""
    found = re.fullmatch(r"([0-9]{1,15})\s*(KiB|MiB|GiB)?\s*(?:([+-])\s*([0-9]{1,15}))?", str(text))
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
    layout: Literal["plain", "multipart", "slo", "dlo"] = Field(
        "plain", description="one piece, an S3 multipart upload, or a Swift large object (static or dynamic)"
    )

    part: str = Field(
        "", pattern=r"^(\d+-\d+)?$", description="the bytes that are asked for, FIRST-LAST; empty: all"
    )

    def bounds(self, size: int) -> tuple[int, int]:
        """Offset and length of what is asked for, in an object of this size."""
        if not self.part:
            return 0, size
        first, last = map(int, self.part.split("-"))
        return first, max(0, min(last + 1, size) - first)

    @field_validator("size")
    @classmethod
    def _readable(cls, value: int | str) -> int | str:
        if not _BRACES.search(str(value)):
            parse_size(value)
        return value


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
    generations: list[int] = Field(
        default=[1],
        description="which generations of the object may be delivered, of those the case puts into the store",
    )
    requests: int = Field(40, ge=1, description="more object requests than this are a retry storm")
    orphans: bool = Field(
        False, description="uploads: parts and segments of no object may stay (nobody could remove them)"
    )

    @field_validator("refetch")
    @classmethod
    def _readable(cls, value: int | str) -> int | str:
        parse_size(value)
        return value


class ProcessModel(_Strict):
    """How the driver's process is run."""

    runs: int = Field(
        1, ge=1, le=5, description="run the driver again on the same destination until one run succeeds"
    )
    tamper: Literal["none", "zero", "flip", "longer", "shorter", "foreign"] = Field(
        "none", description="what is done between runs to the partial that the driver left"
    )
    together: bool = Field(False, description="two processes of the driver fetch to one destination at once")
    room: str = Field("", description="bytes, or N% of the object, that a file may grow to: a full disk")
    sink: Literal["file", "pipe"] = Field(
        "file", description="what lies under the final name: nothing, or a pipe"
    )
    pause: float = Field(
        0.0, ge=0, le=30, description="seconds the reader of the pipe stops at half of the object"
    )
    existing: bool = Field(False, description="another object is under the final name before")

    @field_validator("pause", mode="before")
    @classmethod
    def _whole_seconds(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value

    @field_validator("room")
    @classmethod
    def _readable(cls, value: str) -> str:
        if value:
            room_of(value, 100)
        return value


class UploadModel(_Strict):
    """What a driver sends, and what the store holds before."""

    source: Literal["file", "pipe"] = Field(
        "file", description="what the source is: a file, or a pipe that can be read once"
    )
    ends: str = Field("", description="bytes, or N% of the object, behind which the source ends too early")
    between: Literal["none", "replace", "shorter"] = Field(
        "none", description="what happens to the source between runs of the driver"
    )
    rival: bool = Field(
        False, description="the second of two processes (`process.together`) sends another object"
    )
    leftover: Literal["none", "other-key", "other-content", "other-parts"] = Field(
        "none",
        description="what an earlier upload left unfinished in the store: one of another key with the same "
        "beginning, of other content, or cut into parts of another size",
    )

    @field_validator("ends")
    @classmethod
    def _readable(cls, value: str) -> str:
        if value:
            room_of(value, 100)
        return value


def room_of(text: str, size: int) -> int:
    """Bytes: a size, or a part of the object as `50%`; raises ValueError."""
    if found := re.fullmatch(r"(\d{1,2})%", text):
        return size * int(found[1]) // 100
    return parse_size(text)


class Scenario(_Strict):
    """One scenario as written in its file."""

    requirement: str = Field(min_length=20, description="what a correct driver does, in one sentence")
    direction: Literal["download", "upload"] = Field(
        "download", description="whether the driver fetches the object or sends it"
    )
    kind: Kind = Field("must", description="must and should break a rule of that level; observe records only")
    properties: list[str] = Field(min_length=1, description="ids of the properties it grounds: P1, P17")
    clauses: list[str] = Field(default=[], description="RFC sections or API pages: RFC 9110 section 14.4")
    references: list[str] = Field(default=[], description="public reports of drivers that got it wrong")
    stores: list[str] = Field(
        default=["http", "s3", "swift"],
        description="store kinds (http, s3, swift, gridfs, rbd) or store ids it runs on",
    )
    object: ObjectModel = ObjectModel()
    faults: list[str] = Field(default=[], description="fault lines; may hold {names} of `vary`")
    vary: dict[str, list[int | str] | str] = Field(
        default={},
        description="values for each {name}: a list, or a plan: each A-B, sample N, around X, boundaries N",
    )
    expect: Expect = Expect()
    process: ProcessModel = ProcessModel()
    upload: UploadModel = UploadModel()
    tls: bool = Field(False, description="the driver speaks TLS, with a throwaway authority it is told of")
    deadline: float = Field(30.0, gt=0, le=600, description="seconds after which a driver counts as hung")

    @field_validator("properties")
    @classmethod
    def _known_properties(cls, value: list[str]) -> list[str]:
        for item in value:
            if not re.fullmatch(r"P([1-9]|[1-3]\d|4[0-8])", item):
                raise ValueError(f"{item!r} is no property; use P1 to P48")
        return value

    @field_validator("vary")
    @classmethod
    def _nameable(cls, value: dict[str, list[int | str] | str]) -> dict[str, list[int | str] | str]:
        for name in value:
            if not _BRACES.fullmatch(f"{{{name}}}"):
                raise ValueError(f"{name!r} cannot be written in braces; use a-z and _")
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
        return ";".join(f"{k}={_escape(v)}" for k, v in self.values)


def _escape(value: str) -> str:
    """A value within a variant's name, where a semicolon separates values."""
    return re.sub(r"%(?=25|3B)", "%25", value).replace(";", "%3B")


def parse_values(name: str) -> dict[str, str]:
    """Read a variant's name back."""
    pairs = (part.partition("=") for part in name.split(";") if part)
    return {k: re.sub("%(25|3B)", lambda f: "%" if f[1] == "25" else ";", v) for k, _, v in pairs}


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
        keys = set(self.model.vary)
        unknown, missing = sorted(set(values) - keys), sorted(keys - set(values))
        if unknown or missing:
            wrong = [f"{name} is none of its `vary` keys" for name in unknown]
            wrong += [f"{name} is missing" for name in missing]
            known = ", ".join(sorted(keys)) or "none"
            raise UsageError(f"scenario {self.id}: {'; '.join(wrong)} (its `vary` keys: {known})")
        faults = tuple(self._fill("faults", line, values) for line in self.model.faults)
        text = self._fill("object.size", str(self.model.object.size), values)
        try:
            size = parse_size(text)
        except ValueError as error:
            raise UsageError(f"{self.source}: object.size: {error}") from None
        return Variant(self.id, tuple(sorted(values.items())), size, faults)

    def _fill(self, key: str, text: str, values: Mapping[str, str]) -> str:
        def value(found: re.Match[str]) -> str:
            if found[1] not in values:
                known = ", ".join(sorted(self.model.vary)) or "it has none"
                raise UsageError(f"{self.source}: {key}: {{{found[1]}}} is not a key of `vary` ({known})")
            return str(values[found[1]])

        return _BRACES.sub(value, text)

    def _values(self, name: str, seed: int) -> list[str]:
        plan = self.model.vary[name]
        items = plan if isinstance(plan, list) else [plan]
        # Each value once: two cases of one name could not be told apart.
        values = list(dict.fromkeys(v for item in items for v in self._expand(name, str(item), seed)))
        if not values:
            raise UsageError(f"{self.source}: vary.{name}: {plan!r} gives no value")
        return values

    def _expand(self, name: str, text: str, seed: int) -> list[str]:
        """A plan becomes offsets; anything else is a value itself."""
        if not (found := re.fullmatch(r"(each|sample|around|boundaries) +(\S+)", text)):
            return [text]
        size = None if _BRACES.search(str(self.model.object.size)) else parse_size(self.model.object.size)
        try:
            return [str(i) for i in _plan(found[1], found[2], size, f"{seed} {self.id} {name}")]
        except ValueError as error:
            raise UsageError(f"{self.source}: vary.{name}: {text!r}: {error}") from None


def _plan(word: str, rest: str, size: int | None, seed: str) -> Sequence[int]:
    """The offsets a plan stands for; raises ValueError."""
    if word == "each":
        span = re.fullmatch(r"([0-9]{1,15})-([0-9]{1,15})", rest)
        if not span:
            raise ValueError("use each A-B with two numbers")
        return _bounded(range(int(span[1]), int(span[2]) + 1))
    if word == "around":
        middle = parse_size(rest)
        return [i for i in (middle - 1, middle, middle + 1) if i >= 0]
    if size is None:
        raise ValueError("needs an object of one size")
    if word == "boundaries":
        step = parse_size(rest)
        if step < 1:
            raise ValueError("a step is at least 1 byte")
        marks = {k + d for k in _bounded(range(step, size, step)) for d in (-1, 0, 1)}
        return sorted(m for m in marks if 0 < m < size)
    if not re.fullmatch(r"[0-9]{1,15}", rest):
        raise ValueError("use sample N with a number")
    count = min(int(rest), max(0, size - 1))
    return sorted(random.Random(seed).sample(range(1, size), len(_bounded(range(count)))))


def _bounded(values: range) -> range:
    if len(values) > MAX_VALUES:
        raise ValueError(f"{len(values)} values; {MAX_VALUES} are the most")
    return values


def _explain(error: ValidationError, source: str) -> str:
    """All problems in one line, each with its key and what is allowed there."""
    problems: dict[str, list[str]] = {}
    for problem in error.errors():
        model: Any = Scenario
        keys: list[str] = []
        for part in problem["loc"]:
            # Behind a field come its indices and the branches of its type, which say nothing to an author.
            if isinstance(model, type) and issubclass(model, BaseModel):
                keys.append(str(part))
                field = model.model_fields.get(str(part))
                model = field.annotation if field else None
            elif get_origin(model) is dict:
                keys.append(str(part))
                model = None
            elif isinstance(part, int):
                keys.append(str(part))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            parent: type[BaseModel] = Scenario
            for key in keys[:-1]:
                parent = parent.model_fields[key].annotation  # type: ignore[assignment]
            message = f"unknown key; allowed: {', '.join(parent.model_fields)}"
        said = problems.setdefault(".".join(keys) or "(top level)", [])
        if message not in said:
            said.append(message)
    return f"{source}: " + "; ".join(f"{key}: {' or '.join(said)}" for key, said in problems.items())


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
    used = set(_BRACES.findall(" ".join([*model.faults, str(model.object.size)])))
    if unused := set(model.vary) - used:
        raise UsageError(f"{source}: vary.{min(unused)}: no fault line or size uses {{{min(unused)}}}")
    for variant in itertools.islice(loaded.variants(0), 2000):
        try:
            schedule_of(variant)
        except UsageError as error:
            raise UsageError(f"{source}: faults: {error}") from None
    return loaded


def schedule_of(variant: Variant) -> Schedule:
    """The schedule of a case, percentages resolved.

    Raises UsageError for a line that does not read, or that no byte of the object can make fire.
    """
    schedule = Schedule.parse(variant.faults).aim(variant.size)
    for line, rule in zip(variant.faults, schedule.rules, strict=True):
        if rule.position.kind == "object" and int(rule.position.value) > variant.size:
            raise UsageError(f"fault {line!r}: the object ends at byte {variant.size}, so it cannot fire")
    return schedule


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
