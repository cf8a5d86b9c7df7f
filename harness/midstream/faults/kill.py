"""The driver's process is killed in the middle of a transfer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Kill, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class KillDriver(Fault):
    """Signal the driver's process once exactly the bytes before the position have been sent to it."""

    id: ClassVar[str] = "kill"
    summary: ClassVar[str] = "send the driver's process a signal at a byte"
    takes: ClassVar[str] = "KILL|TERM|INT (default KILL)"
    example: ClassVar[str] = "get_object#1 kill@50%:KILL"
    grounds: ClassVar[tuple[str, ...]] = ("C1", "C2", "U4")

    signal: str = "KILL"

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value not in (None, "KILL", "TERM", "INT"):
            raise ValueError(f"kill takes KILL, TERM or INT, not {value!r}")
        return cls(value or "KILL")

    @property
    def value(self) -> str:
        return self.signal

    def verbs(self) -> tuple[Verb, ...]:
        return (Kill(self.signal),)


MEMBER = KillDriver
