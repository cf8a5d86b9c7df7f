"""A connection that is accepted and closed without an answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Close, Ending, Verb
from midstream.faults import AtAccept


@dataclass(frozen=True)
class Hangup(AtAccept):
    """Accept the connection, read nothing, end it."""

    id: ClassVar[str] = "hangup"
    summary: ClassVar[str] = "accept a connection and close it at once"
    takes: ClassVar[str] = "fin|rst (default fin)"
    example: ClassVar[str] = "CONNECTION#1 hangup@accept:rst"
    grounds: ClassVar[tuple[str, ...]] = ("T1", "T2")

    ending: Ending = Ending.FIN

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in (None, "fin", "rst"):
            raise ValueError(f"a hangup ends by fin or rst, not {value!r}")
        return cls(Ending(value or "fin"))

    @property
    def value(self) -> str:
        return self.ending.value

    def verbs(self) -> tuple[Verb, ...]:
        return (Close(self.ending),)


MEMBER = Hangup
