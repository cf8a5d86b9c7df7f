"""Silence: the connection stays open and no byte comes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Hold, Verb
from midstream.faults import Fault, seconds, seconds_text


@dataclass(frozen=True)
class Stall(Fault):
    """Hold the response at the position for a time, or for ever."""

    id: ClassVar[str] = "stall"
    summary: ClassVar[str] = "send nothing from the byte on, for a time or for ever"
    takes: ClassVar[str] = "a duration, or forever (default)"
    example: ClassVar[str] = "get_object#1 stall@50%:forever"
    grounds: ClassVar[tuple[str, ...]] = ("T3", "T13")

    seconds: float | None = None

    @classmethod
    def parse(cls, value: str | None) -> Self:
        return cls() if value in (None, "forever") else cls(seconds(value or ""))

    @property
    def value(self) -> str:
        return "forever" if self.seconds is None else seconds_text(self.seconds)

    def verbs(self) -> tuple[Verb, ...]:
        return (Hold(self.seconds),)


MEMBER = Stall
