"""The object is replaced while it is being read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Mutate, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Replace(Fault):
    """Put the next generation of the object into the store, out of band, at exactly this byte."""

    id: ClassVar[str] = "replace"
    summary: ClassVar[str] = "replace the object at a byte: same size, shorter or longer"
    takes: ClassVar[str] = "same|shorter|longer (default same)"
    example: ClassVar[str] = "get_object#1 replace@50%:same"
    grounds: ClassVar[tuple[str, ...]] = ("S1", "S3")

    size: str = "same"

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in (None, "same", "shorter", "longer"):
            raise ValueError(f"replace takes same, shorter or longer, not {value!r}")
        return cls(value or "same")

    @property
    def value(self) -> str:
        return self.size

    def verbs(self) -> tuple[Verb, ...]:
        return (Mutate(self.size),)


MEMBER = Replace
