"""Nobody listens: connections are refused."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Refuse, Verb
from midstream.faults import AtAccept, seconds, seconds_text


@dataclass(frozen=True)
class RefuseConnections(AtAccept):
    """Once the connections before it have ended, refuse new ones for a time, or for ever.

    The refusal is the kernel's answer to a port without a listener, so no program can count it: the evidence
    is that the port was closed, from when to when, while the driver held no connection.
    """

    id: ClassVar[str] = "refuse"
    summary: ClassVar[str] = "refuse connections for a time or for ever"
    takes: ClassVar[str] = "a duration, or forever (default)"
    example: ClassVar[str] = "CONNECTION#2 refuse@accept:300ms"
    grounds: ClassVar[tuple[str, ...]] = ("T13",)

    seconds: float | None = None

    @classmethod
    def parse(cls, value: str | None) -> Self:
        return cls() if value in (None, "forever") else cls(seconds(value or ""))

    @property
    def value(self) -> str:
        return "forever" if self.seconds is None else seconds_text(self.seconds)

    def verbs(self) -> tuple[Verb, ...]:
        return (Refuse(self.seconds),)


MEMBER = RefuseConnections
