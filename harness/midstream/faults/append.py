"""The object grows while it is being read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Mutate, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Append(Fault):
    """Add to the object at exactly this byte: the same bytes, and more behind them."""

    id: ClassVar[str] = "append"
    summary: ClassVar[str] = "make the object longer at a byte, its first bytes unchanged"
    takes: ClassVar[str] = "nothing"
    example: ClassVar[str] = "get_object#1 append@50%"
    grounds: ClassVar[tuple[str, ...]] = ("S3",)

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value:
            raise ValueError("append takes no value")
        return cls()

    @property
    def value(self) -> str:
        return ""

    def verbs(self) -> tuple[Verb, ...]:
        return (Mutate("append"),)


MEMBER = Append
