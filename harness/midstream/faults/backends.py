"""The servers behind the store end, and come back."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import BACKENDS, Mutate, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Backends(Fault):
    """From exactly this byte on, only so many of the store's backend servers run; None is all of them.

    Those the store reads from first end first, as in a crash; one that is started again has the disk it had.
    """

    count: int | None

    id: ClassVar[str] = "backends"
    summary: ClassVar[str] = "end servers behind the store at a byte, or start them again"
    takes: ClassVar[str] = "how many of them run from there on: a number, or all"
    example: ClassVar[str] = "get_object#1 backends@25%:0"
    grounds: ClassVar[tuple[str, ...]] = ("S4", "T1")

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value == "all":
            return cls(None)
        if not value or not re.fullmatch(r"[0-9]{1,3}", value):
            raise ValueError("backends takes how many run from there on: a number, or all")
        return cls(int(value))

    @property
    def value(self) -> str:
        return "all" if self.count is None else str(self.count)

    def verbs(self) -> tuple[Verb, ...]:
        return (Mutate(BACKENDS + self.value),)


MEMBER = Backends
