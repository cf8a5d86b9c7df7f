"""Payload bytes go missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Self

from midstream._verbs import Context, Payload, Rewrite, Verb
from midstream._wire import Head
from midstream.faults import InResponse
from midstream.faults._payload import Patch, count, shorter_head


@dataclass(frozen=True)
class Drop(InResponse):
    """Leave `n` bytes out at the position; Content-Length fits what is left, so the body looks whole."""

    id: ClassVar[str] = "drop"
    summary: ClassVar[str] = "leave payload bytes out, with a Content-Length that hides it"
    takes: ClassVar[str] = "a number of bytes (default 1)"
    example: ClassVar[str] = "get_object#1 drop@1000:16"
    grounds: ClassVar[tuple[str, ...]] = ("H16",)

    length: int = 1

    @classmethod
    def parse(cls, value: str | None) -> Self:
        return cls(count(value, 1, "drop"))

    @property
    def value(self) -> str:
        return str(self.length)

    def _edit(self, context: Context) -> Head | None:
        if context.at is None or context.length is None:
            return None
        return shorter_head(context, min(self.length, context.length - context.at))

    def _payload(self, context: Context) -> Payload:
        return Patch(context.at or 0, self.length, lambda b: b"")

    def verbs(self) -> tuple[Verb, ...]:
        return (Rewrite(self._edit, self._payload),)


MEMBER = Drop
