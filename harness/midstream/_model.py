"""What a scenario's file may say: strict models, from which the JSON Schema and the docs are made."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, field_validator

from midstream._content import TELLS_OFFSET
from midstream._operations import HTTP_KINDS, KINDS

_UNITS = {"": 1, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}
BRACES = re.compile(r"\{([a-z_]+)\}")
MAX_SIZE = 1 << 40

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
    layout: Literal["plain", "multipart", "versioned", "slo", "dlo"] = Field(
        "plain",
        description="one piece, an S3 multipart upload, in an S3 bucket that keeps every version, or a Swift "
        "large object (static or dynamic)",
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

    @field_validator("part")
    @classmethod
    def _recognizable(cls, value: str) -> str:
        first, last = map(int, value.split("-")) if value else (0, TELLS_OFFSET)
        if last - first + 1 < TELLS_OFFSET:
            raise ValueError(
                f"{value!r}: at least {TELLS_OFFSET} bytes, or nobody can tell where they come from"
            )
        return value

    @field_validator("size")
    @classmethod
    def _readable(cls, value: int | str) -> int | str:
        if not BRACES.search(str(value)):
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


def _readable_share(value: str) -> str:
    if value:
        room_of(value, 100)
    return value


Share = Annotated[str, AfterValidator(_readable_share)]


class ProcessModel(_Strict):
    """How the driver's process is run."""

    runs: int = Field(
        1, ge=1, le=5, description="run the driver again on the same destination until one run succeeds"
    )
    tamper: Literal["none", "zero", "flip", "longer", "shorter", "foreign"] = Field(
        "none", description="what is done between runs to the partial that the driver left"
    )
    together: bool = Field(False, description="two processes of the driver fetch to one destination at once")
    room: Share = Field("", description="bytes, or N% of the object, that a file may grow to: a full disk")
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


class UploadModel(_Strict):
    """What a driver sends, and what the store holds before."""

    source: Literal["file", "pipe"] = Field(
        "file", description="what the source is: a file, or a pipe that can be read once"
    )
    ends: Share = Field("", description="bytes, or N% of the object, behind which the source ends too early")
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
    quick: bool = Field(False, description="whether `midstream run --quick` runs its first case")
    properties: list[str] = Field(min_length=1, description="ids of the properties it grounds: P1, P17")
    clauses: list[str] = Field(default=[], description="RFC sections or API pages: RFC 9110 section 14.4")
    references: list[str] = Field(default=[], description="public reports of drivers that got it wrong")
    stores: list[str] = Field(
        default=list(HTTP_KINDS),
        description=f"store kinds ({', '.join(KINDS)}) or store ids it runs on",
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
            if not BRACES.fullmatch(f"{{{name}}}"):
                raise ValueError(f"{name!r} cannot be written in braces; use a-z and _")
        return value

    @field_validator("deadline", mode="before")
    @classmethod
    def _whole_seconds(cls, value: Any) -> Any:
        return float(value) if type(value) is int else value


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a scenario file."""
    schema = Scenario.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = "midstream scenario"
    return schema
