"""A segment of a large object is lost or changed (Swift SLO and DLO)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Mutate, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Segment(Fault):
    """Delete or overwrite the last segment of a segmented object at exactly this byte."""

    id: ClassVar[str] = "segment"
    summary: ClassVar[str] = "lose or change the last segment of a segmented object"
    takes: ClassVar[str] = "lost|changed (default lost)"
    example: ClassVar[str] = "get_object#1 segment@head:lost"
    grounds: ClassVar[tuple[str, ...]] = ("S6",)

    what: str = "lost"

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in (None, "lost", "changed"):
            raise ValueError(f"segment takes lost or changed, not {value!r}")
        return cls(value or "lost")

    @property
    def value(self) -> str:
        return self.what

    def verbs(self) -> tuple[Verb, ...]:
        return (Mutate("lose-segment" if self.what == "lost" else "change-segment"),)


MEMBER = Segment
