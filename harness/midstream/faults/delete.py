"""The object is deleted while it is being read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Mutate, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Delete(Fault):
    """Delete the object from the store, out of band, at exactly this byte."""

    id: ClassVar[str] = "delete"
    summary: ClassVar[str] = "delete the object at a byte"
    takes: ClassVar[str] = "nothing"
    example: ClassVar[str] = "get_object#1 delete@50%"
    grounds: ClassVar[tuple[str, ...]] = ("S2",)

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value:
            raise ValueError("delete takes no value")
        return cls()

    @property
    def value(self) -> str:
        return ""

    def verbs(self) -> tuple[Verb, ...]:
        return (Mutate("delete"),)


MEMBER = Delete
