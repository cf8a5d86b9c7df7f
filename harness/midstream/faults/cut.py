"""The connection ends before the response does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Close, Ending, Verb
from midstream.faults import Fault


@dataclass(frozen=True)
class Cut(Fault):
    """Deliver exactly the bytes before the position, then end the connection."""

    id: ClassVar[str] = "cut"
    summary: ClassVar[str] = "end the connection at the byte, by FIN, RST, half-close or TLS close_notify"
    takes: ClassVar[str] = "fin|rst|half|notify (default fin; notify needs TLS)"
    example: ClassVar[str] = "get_object#1 cut@1048576:rst"
    grounds: ClassVar[tuple[str, ...]] = ("T1", "T2", "T5", "T6", "T7", "T9", "T11", "T12", "U1", "U4")

    ending: Ending = Ending.FIN

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value is None:
            return cls()
        if value not in tuple(Ending):
            raise ValueError(f"a cut ends by {', '.join(Ending)}, not {value!r}")
        return cls(Ending(value))

    @property
    def value(self) -> str:
        return self.ending.value

    def verbs(self) -> tuple[Verb, ...]:
        return (Close(self.ending),)


MEMBER = Cut
