"""One bit of the payload changes on the way."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Rewrite, Verb
from midstream.faults import InResponse
from midstream.faults._payload import Patch, same_head


@dataclass(frozen=True)
class Flip(InResponse):
    """Change one bit of the byte at the position; the length stays."""

    id: ClassVar[str] = "flip"
    summary: ClassVar[str] = "flip one bit of the payload, length kept"
    takes: ClassVar[str] = "the bit, 0 to 7 (default 0)"
    example: ClassVar[str] = "get_object#1 flip@50%:3"
    grounds: ClassVar[tuple[str, ...]] = ("S4",)

    bit: int = 0

    @classmethod
    def parse(cls, value: str | None) -> Self:
        if value is not None and value not in tuple("01234567"):
            raise ValueError(f"flip takes a bit from 0 to 7, not {value!r}")
        return cls(int(value or 0))

    @property
    def value(self) -> str:
        return str(self.bit)

    def _payload(self, context: Context) -> Payload:
        return Patch(context.at or 0, 1, lambda b: bytes([b[0] ^ (1 << self.bit)]))

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(same_head, self._payload),)


MEMBER = Flip
