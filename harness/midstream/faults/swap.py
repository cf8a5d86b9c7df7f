"""Payload bytes come in the wrong order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import InResponse
from midstream.faults._payload import Patch, count, same_head


@dataclass(frozen=True)
class Swap(InResponse):
    """Exchange the `n` bytes at the position with the `n` bytes that follow; length kept."""

    id: ClassVar[str] = "swap"
    summary: ClassVar[str] = "exchange two neighbouring stretches of the payload"
    takes: ClassVar[str] = "a number of bytes (default 64)"
    example: ClassVar[str] = "get_object#1 swap@1000:512"
    grounds: ClassVar[tuple[str, ...]] = ("S4",)

    length: int = 64

    @classmethod
    def parse(cls, value: str | None) -> Self:
        return cls(count(value, 64, "swap"))

    @property
    def value(self) -> str:
        return str(self.length)

    def _edit(self, context: Context) -> Head | None:
        return same_head(context, self.length)

    def _payload(self, context: Context) -> Payload:
        n = self.length
        return Patch(context.at or 0, 2 * n, lambda b: b[n:] + b[:n])

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit, self._payload),)


MEMBER = Swap
