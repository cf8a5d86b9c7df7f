"""Payload bytes come twice."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import InResponse
from midstream.faults._payload import Patch, count, same_head


@dataclass(frozen=True)
class Duplicate(InResponse):
    """Send the `n` bytes at the position twice, in the place of the `n` bytes that follow; length kept."""

    id: ClassVar[str] = "duplicate"
    summary: ClassVar[str] = "send payload bytes twice, over those that follow"
    takes: ClassVar[str] = "a number of bytes (default 64)"
    example: ClassVar[str] = "get_object#1 duplicate@1000:64"
    grounds: ClassVar[tuple[str, ...]] = ("S4",)

    length: int = 64

    @classmethod
    def parse(cls, value: str | None) -> Self:
        return cls(count(value, 64, "duplicate"))

    @property
    def value(self) -> str:
        return str(self.length)

    def _edit(self, context: Context) -> Head | None:
        return same_head(context, self.length)

    def _payload(self, context: Context) -> Payload:
        n = self.length
        return Patch(context.at or 0, 2 * n, lambda b: (b[:n] + b[:n])[: len(b)])

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit, self._payload),)


MEMBER = Duplicate
