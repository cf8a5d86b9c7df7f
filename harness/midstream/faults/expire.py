"""Credentials stop being good in the middle of a transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Mutate, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Expire(Fault):
    """Make every token given out so far invalid at exactly this byte; new ones can be had."""

    id: ClassVar[str] = "expire"
    summary: ClassVar[str] = "make the credentials given out so far invalid at a byte"
    takes: ClassVar[str] = "nothing"
    example: ClassVar[str] = "get_object#1 expire@50%"
    grounds: ClassVar[tuple[str, ...]] = ("S9", "H9", "U9")

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value:
            raise ValueError("expire takes no value")
        return cls()

    @property
    def value(self) -> str:
        return ""

    def verbs(self) -> tuple[Verb, ...]:
        return (Mutate("expire"),)


MEMBER = Expire
