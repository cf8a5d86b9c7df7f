"""The file that is being uploaded changes under the driver."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._positions import Position
from midstream._verbs import Alter, Verb
from midstream.faults import Fault

ACTIONS = ("truncate", "delete", "replace", "grow")


@dataclass(frozen=True)
class Source(Fault):
    """Alter the source once exactly so many bytes of a request's body have reached the store."""

    id: ClassVar[str] = "source"
    summary: ClassVar[str] = "cut short, delete, replace or extend the file that is being uploaded"
    takes: ClassVar[str] = "truncate|delete|replace|grow (default truncate)"
    example: ClassVar[str] = "send_object#1 source@sent+1000:truncate"
    grounds: ClassVar[tuple[str, ...]] = ("U2",)

    action: str = "truncate"

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value is not None and value not in ACTIONS:
            raise ValueError(f"a source is altered by {', '.join(ACTIONS)}, not {value!r}")
        return cls(value or "truncate")

    @property
    def value(self) -> str:
        return self.action

    def verbs(self) -> tuple[Verb, ...]:
        return (Alter(self.action),)

    @classmethod
    def check_position(cls, position: Position, *, connection: bool) -> None:
        if connection or not (position.in_request or (position.kind, position.value) == ("place", "request")):
            raise ValueError("source is written WHO[#ORDINAL] source@sent+N or source@request")


MEMBER = Source
