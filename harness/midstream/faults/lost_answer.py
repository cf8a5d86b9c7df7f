"""The store has done what it was asked to, and nobody hears of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Close, Ending, Swallow, Verb
from midstream.faults import AtHead


@dataclass(frozen=True)
class LostAnswer(AtHead):
    """Let the store answer in full, then end the connection without a byte of the answer."""

    id: ClassVar[str] = "lost-answer"
    summary: ClassVar[str] = "drop the store's whole answer, once it has given it, and end the connection"
    takes: ClassVar[str] = "fin|rst (default rst)"
    example: ClassVar[str] = "publish_object#1 lost-answer@head:rst"
    grounds: ClassVar[tuple[str, ...]] = ("U3", "S7")

    ending: Ending = Ending.RST

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in (None, "fin", "rst"):
            raise ValueError(f"a lost answer ends by fin or rst, not {value!r}")
        return cls(Ending(value or "rst"))

    @property
    def value(self) -> str:
        return self.ending.value

    def verbs(self) -> tuple[Verb, ...]:
        return (Swallow(), Close(self.ending))


MEMBER = LostAnswer
