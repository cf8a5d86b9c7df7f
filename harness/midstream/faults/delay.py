"""A pause that ends by itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Hold, Verb
from midstream.faults import Fault, seconds, seconds_text


@dataclass(frozen=True)
class Delay(Fault):
    """Wait at the position, then go on as if nothing had been."""

    id: ClassVar[str] = "delay"
    summary: ClassVar[str] = "wait before the head or at a byte, then go on"
    takes: ClassVar[str] = "a duration (required)"
    example: ClassVar[str] = "get_object#1 delay@head:200ms"
    grounds: ClassVar[tuple[str, ...]] = ("T4",)

    seconds: float

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if not value:
            raise ValueError("a delay needs its duration, as in delay@head:200ms")
        return cls(seconds(value))

    @property
    def value(self) -> str:
        return seconds_text(self.seconds)

    def verbs(self) -> tuple[Verb, ...]:
        return (Hold(self.seconds),)


MEMBER = Delay
