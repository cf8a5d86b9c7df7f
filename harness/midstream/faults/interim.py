"""Interim responses before the final one (RFC 9110 section 15.2)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Close, Ending, Send, Verb
from midstream.faults import AtHead

_TEXTS = {
    100: b"HTTP/1.1 100 Continue\r\n\r\n",
    102: b"HTTP/1.1 102 Processing\r\n\r\n",
    103: b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n",
}


@dataclass(frozen=True)
class Interim(AtHead):
    """Send an interim response first; `,cut` ends the connection in the middle of it."""

    id: ClassVar[str] = "interim"
    summary: ClassVar[str] = "send 100, 102 or 103 before the response, whole or cut in its middle"
    takes: ClassVar[str] = "100|102|103 (default 103), with ,cut to end inside it"
    example: ClassVar[str] = "get_object#1 interim@head:103"
    grounds: ClassVar[tuple[str, ...]] = ("T1",)

    status: int = 103
    cut: bool = False

    @classmethod
    def parse(cls, value: str | None) -> Self:
        status, _, rest = (value or "103").partition(",")
        if status not in map(str, _TEXTS) or rest not in ("", "cut"):
            raise ValueError(f"interim takes 100, 102 or 103, and ,cut; not {value!r}")
        return cls(int(status), rest == "cut")

    @property
    def value(self) -> str:
        return f"{self.status}{',cut' if self.cut else ''}"

    def verbs(self) -> tuple[Verb, ...]:
        text = _TEXTS[self.status]
        if self.cut:
            return (Send(text[: len(text) // 2]), Close(Ending.FIN))
        return (Send(text),)


MEMBER = Interim
